"""On which device a new task shall run: the one of the AE title; with several, the one with the least waiting."""

from __future__ import annotations

from dataclasses import dataclass

from archive import configuration
from config.device import Cluster, Device
from tasks import sharing
from tasks.errors import NotFoundError
from tasks.operations import our_device


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task shall run."""

    device: Device
    queue: str
    #: All devices where it could run as well.
    names: tuple[str, ...]


def place(aet: str, exporter_id: str, device_name: str | None) -> Place:
    """Return where an export through this AE title shall run.

    Raises:
        NotFoundError: no device of ours has the AE title, the exporter, or the exporter's queue.
    """
    queued = exporting(aet, exporter_id, device_name)
    chosen = sharing.least_waiting(queued)
    return Place(chosen, queue_of(chosen, exporter_id), tuple(device.name for device in queued))


def place_in(queue: str, aet: str, device_name: str | None) -> Place:
    """Return where a task of this queue through this AE title shall run. Raises as `queueing` does."""
    queued = queueing(aet, queue, device_name)
    return Place(sharing.least_waiting(queued), queue, tuple(device.name for device in queued))


def exporting(aet: str, exporter_id: str, device_name: str | None) -> list[Device]:
    """Return the devices where an export through this AE title could run. Raises as `place` does."""
    devices = _with_title(configuration.current(), aet, device_name)
    able = [device for device in devices if device.exporter(exporter_id) is not None]
    if not able:
        known = sorted({known for device in devices for known in device.exporters})
        raise NotFoundError(
            f"No Exporter configured with ID:{exporter_id}, expected one of {', '.join(known) or 'none'}"
        )
    queued = [device for device in able if queue_of(device, exporter_id) in device.queues]
    if not queued:
        raise NotFoundError(f"No Queue configured with name:{queue_of(able[0], exporter_id)}")
    return queued


def queue_of(device: Device, exporter_id: str) -> str:
    """Return the queue of an exporter that the device has."""
    exporter = device.exporter(exporter_id)
    assert exporter is not None  # noqa: S101 - the caller has looked
    return exporter.queue


def queueing(aet: str, queue: str, device_name: str | None) -> list[Device]:
    """Return the devices where a task of this queue through this AE title could run.

    Raises:
        NotFoundError: no device of ours has the AE title, or none of those the queue.
    """
    devices = _with_title(configuration.current(), aet, device_name)
    queued = [device for device in devices if queue in device.queues]
    if not queued:
        known = sorted({known for device in devices for known in device.queues})
        raise NotFoundError(f"No Queue configured with name:{queue}, expected one of {', '.join(known) or 'none'}")
    return queued


def _with_title(cluster: Cluster, aet: str, device_name: str | None) -> list[Device]:
    if device_name is not None:
        device = our_device(device_name)
        if device.ae_for(aet) is None:
            raise NotFoundError(f"No such Application Entity: {aet} at Device{{name={device_name}}}")
        return [device]
    devices = cluster.device_of_ae(aet)
    if not devices:
        known = ", ".join(sorted(title for device in cluster.ours.values() for title in device.aes))
        raise NotFoundError(f"No such Application Entity: {aet}, expected one of {known}")
    return devices
