"""What a device must have to run a task there: its queue, and the AE that it works as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from config.device import Device
from tasks.errors import ConflictError, InvalidError
from tasks.record import NewTask


@dataclass(frozen=True, slots=True)
class Titles:
    """The AE titles of a task after a move."""

    local: str | None
    destination: str | None


def check_new(new: NewTask, device: Device) -> None:
    """See that the device has the queue and the local AE of a new task.

    Raises:
        InvalidError: it lacks one; the text names it.
    """
    if new.queue not in device.queues:
        raise InvalidError(f"No Queue configured with name:{new.queue} at Device{{name={device.name}}}")
    if new.local_aet is None or device.ae_for(new.local_aet) is None:
        raise InvalidError(f"No such Application Entity: {new.local_aet} at Device{{name={device.name}}}")


def queue_at(device: Device, queue: str, task: Mapping[str, Any]) -> str:
    """Return the queue, which the device has.

    Raises:
        ConflictError: it does not.
    """
    if queue not in device.queues:
        raise ConflictError(
            f"Cannot reschedule Task{{id={task['id']}}} on Queue{{name={queue}}} "
            f"not configured at Device{{name={device.name}}}"
        )
    return queue


def ae_at(device: Device, title: str | None) -> str | None:
    """Return an AE title that the device answers to, be it an other title of an AE; None stays None.

    Raises:
        ConflictError: it does not, or the AE is not installed.
    """
    if title is not None and device.ae_for(title) is None:
        raise ConflictError(f"No such Application Entity{{dicomAETitle={title}}} on new device{{name={device.name}}}")
    return title


def titles_at(device: Device, task: Mapping[str, Any]) -> Titles:
    """Return the titles of a task at a device: `new_local_aet`, if it is said, takes the place of the old one.

    Also as the destination, if what arrived was to arrive at the local AE.

    Raises:
        ConflictError: the device does not answer to the local AE title.
    """
    old, destination = task["local_aet"], task["destination_aet"]
    local = ae_at(device, task.get("new_local_aet") or old)
    return Titles(local, local if old is not None and destination == old else destination)


def no_exporter(task: Mapping[str, Any], exporter_id: str | None, does: str) -> None:
    """Refuse an exporter for a task that has none.

    Raises:
        ConflictError: one is asked for.
    """
    if exporter_id is not None:
        raise ConflictError(f"Cannot reschedule Task{{id={task['id']}}} to Exporter{{id={exporter_id}}}: it {does}")
