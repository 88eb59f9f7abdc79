"""On which device a new task shall run: the one of the AE title; with several, the one with the least waiting."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from archive import configuration, db
from config.device import Cluster, Device
from tasks import query as queries
from tasks import slots
from tasks.control import DEAD_AFTER, WorkerNode
from tasks.errors import NotFoundError
from tasks.operations import our_device

#: Whoever has more waiting than this has a lot, and need not be counted further.
_COUNTED = 10_000


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
    devices = _with_title(configuration.current(), aet, device_name)
    able = [device for device in devices if exporter_id in device.exporters]
    if not able:
        known = sorted({known for device in devices for known in device.exporters})
        raise NotFoundError(
            f"No Exporter configured with ID:{exporter_id}, expected one of {', '.join(known) or 'none'}"
        )
    queued = [device for device in able if device.exporters[exporter_id].queue in device.queues]
    if not queued:
        raise NotFoundError(f"No Queue configured with name:{able[0].exporters[exporter_id].queue}")
    chosen = queued[0] if len(queued) == 1 else _least_waiting(queued)
    return Place(chosen, chosen.exporters[exporter_id].queue, tuple(device.name for device in queued))


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


def _least_waiting(devices: list[Device]) -> Device:
    with db.transaction() as session:
        alive = _alive(session)
        load = {device.name: queries.count_waiting(session, device.name, at_most=_COUNTED) for device in devices}
    return min(devices, key=lambda device: (device.name not in alive, load[device.name], device.name))


def _alive(session: Session) -> set[str]:
    seen = WorkerNode.seen_at > slots.NOW - DEAD_AFTER
    return set(session.scalars(select(WorkerNode.device).where(WorkerNode.stopped_at.is_(None), seen)))
