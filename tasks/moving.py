"""Where a rescheduled task shall run: its own device, or one of those that were asked for and can run it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Session

from archive import query as archive_query
from archive.query import Entity, Unreachable
from config.device import Cluster, Device
from tasks.errors import ConflictError, InvalidError
from tasks.registry import kind_of
from tasks.store import Taken, Target

#: What a device cannot read, by device.
Lacking = Mapping[str, Mapping[Entity, Unreachable]]


@dataclass(frozen=True, slots=True)
class Change:
    """What a reschedule shall change besides the status."""

    #: newDeviceName, in turn for what succeeds; empty: each task's own device.
    devices: tuple[str, ...] = ()
    exporter_id: str | None = None
    queue: str | None = None
    #: newLocalAET, in the place of the AE that each task works as.
    local_aet: str | None = None
    #: None: now.
    scheduled_time: datetime | None = None
    #: Keep scheduled time and failures: a move, not a new start.
    keep_scheduled_time: bool = False
    priority: int | None = None


@dataclass(slots=True)
class Moves:
    """Tasks with their targets, and those that no target can run, with the reason."""

    accepted: list[tuple[Taken, Target]] = field(default_factory=list)
    refused: list[tuple[Taken, str]] = field(default_factory=list)


class Mover:
    """Assigns targets to tasks, chunk by chunk, with one turn over all chunks of a call."""

    def __init__(self, cluster: Cluster, change: Change) -> None:
        """Check the change against the configuration.

        Raises:
            InvalidError: a device, exporter or queue is unknown, or a device is not installed.
            ConflictError: a device is not one of this cluster.
        """
        self._cluster = cluster
        self._change = change
        self._turn = 0
        self._targets: dict[tuple[Any, ...], Target | str] = {}
        self._devices = [_target_device(cluster, name) for name in change.devices]
        for device in self._devices:
            _check_named(change, device)
        if not self._devices:
            _check_known(change, cluster)

    def columns(self) -> dict[str, Any]:
        """Return what is written to every rescheduled task besides its target."""
        change = self._change
        values: dict[str, Any] = {"priority": change.priority} if change.priority is not None else {}
        if not change.keep_scheduled_time:
            values |= {
                "scheduled_time": change.scheduled_time or func.now(),
                "failures": 0,
                "lost_leases": 0,
                "outcome_message": None,
                "error_message": None,
            }
        return values

    def assign(self, session: Session, tasks: Iterable[Taken]) -> Moves:
        """Return a target, or a reason against it, for each task in turn."""
        found = [(task, self._targets_of(task)) for task in tasks]
        unreachable = self._unreachable(session, found)
        moves = Moves()
        for task, targets in found:
            possible, reasons = _judged(task, targets, unreachable)
            if possible:
                moves.accepted.append((task, possible[self._turn % len(possible)]))
                self._turn += 1
            else:
                moves.refused.append((task, reasons[0]))
        return moves

    def _targets_of(self, task: Taken) -> list[Target | str]:
        return [self._target(task, name) for name in self._change.devices or (task.device,)]

    def _target(self, task: Taken, device_name: str) -> Target | str:
        key = (
            device_name, task.kind, task.device, task.queue, task.exporter_id, task.local_aet, task.remote_aet,
            task.destination_aet,
        )  # fmt: skip
        if key not in self._targets:
            self._targets[key] = self._work_out(task, device_name)
        return self._targets[key]

    def _work_out(self, task: Taken, device_name: str) -> Target | str:
        device = self._cluster.devices.get(device_name)
        if device is None or not device.is_ours:
            return f"Cannot reschedule Task{{id={{task}}}}: Device{{name={device_name}}} is not in the configuration"
        change = self._change
        row = {**asdict(task), "id": "{task}", "new_local_aet": change.local_aet}
        try:
            target = kind_of(task.kind).target_on(device, row, exporter_id=change.exporter_id, queue=change.queue)
            stays = not change.devices and change.exporter_id is None and change.local_aet is None
            # Its AE title is the task's own; only a move, or another exporter, brings another one.
            return replace(target, local_aet=task.local_aet) if stays else target
        except (ConflictError, InvalidError) as error:
            return str(error)

    def _unreachable(self, session: Session, found: list[tuple[Taken, list[Target | str]]]) -> Lacking:
        if not self._devices:
            return {}  # a task's own device: its run says what it cannot read
        asked: dict[str, set[Entity]] = {}
        for task, targets in found:
            for target in targets:
                if isinstance(target, Target) and target.reads_files and task.study_uid:
                    asked.setdefault(target.device, set()).add(_entity(task))
        return {
            device: {one.entity: one for one in archive_query.unreachable_from(session, device, entities)}
            for device, entities in asked.items()
        }


def _entity(task: Taken) -> Entity:
    return Entity(task.study_uid or "", task.series_uid, task.sop_uid)


def _judged(task: Taken, targets: list[Target | str], unreachable: Lacking) -> tuple[list[Target], list[str]]:
    possible: list[Target] = []
    reasons: list[str] = []
    for target in targets:
        if isinstance(target, str):
            # The cached text stands for all tasks of this sort.
            reasons.append(target.replace("{task}", str(task.id)))
        elif target.reads_files and (lacking := unreachable.get(target.device, {}).get(_entity(task))):
            reasons.append(_cannot_reach(task, target.device, lacking))
        else:
            possible.append(target)
    return possible, reasons


def _cannot_reach(task: Taken, device_name: str, lacking: Unreachable) -> str:
    places = ", ".join(lacking.file_systems)
    return (
        f"Cannot reschedule Task{{id={task.id}}} on Device{{name={device_name}}}: it reaches no good copy of "
        f"{lacking.num_objects} objects of Study[uid={lacking.entity.study_uid}], which lie on {places}"
    )


def _target_device(cluster: Cluster, name: str) -> Device:
    device = cluster.devices.get(name)
    if device is None:
        raise InvalidError(f"Unknown Device: {name}, expected one of {', '.join(cluster.ours)}")
    if not device.is_ours and not device.is_archive:
        raise InvalidError(
            f"No <class ArchiveDeviceExtension> configured for Device: {name}: it is no archive, "
            f"expected one of {', '.join(cluster.ours)}"
        )
    if not device.is_ours:
        raise ConflictError(
            f"Device: {name} is not run by arcfleet: its tasks are in another table, so that none of ours can run "
            f"there; expected one of {', '.join(cluster.ours)}"
        )
    if not device.installed:
        raise InvalidError(f"Device: {name} not installed")
    return device


def _check_known(change: Change, cluster: Cluster) -> None:
    ours = cluster.ours.values()
    if change.exporter_id is not None and not any(change.exporter_id in device.exporters for device in ours):
        raise InvalidError(f"No Exporter configured with ID:{change.exporter_id}")
    if change.queue is not None and not any(change.queue in device.queues for device in ours):
        raise InvalidError(f"No Queue configured with name:{change.queue}")


def _check_named(change: Change, device: Device) -> None:
    if change.exporter_id is not None and change.exporter_id not in device.exporters:
        raise InvalidError(f"No Exporter configured with ID:{change.exporter_id}")
    if change.queue is not None and change.queue not in device.queues:
        raise InvalidError(f"No Queue configured with name:{change.queue}")
