"""Where a rescheduled task shall run: its own device, or one of those that were asked for and can run it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Session

from archive import query as archive_query
from archive.query import Unreachable
from config.device import Cluster, Device
from tasks import taking
from tasks.errors import ConflictError, InvalidError, UnknownKindError
from tasks.registry import kind_of
from tasks.store import Target
from tasks.taking import Alike, Sort

#: Which targets cannot read the files of a task, and why.
Lacking = Mapping[int, Mapping[Target, str]]


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

    accepted: list[tuple[Alike, Target]] = field(default_factory=list)
    #: In a reason `{task}` stands for the id of each of its tasks.
    refused: list[tuple[str, list[int]]] = field(default_factory=list)


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

    def assign(self, session: Session, groups: Sequence[Alike], *, turn: int = 0) -> Moves:
        """Return a target, or a reason against it, for each task, in the order of ids.

        Args:
            session: the transaction.
            groups: tasks, those that are alike together.
            turn: how many tasks of this call got a target before.
        """
        possible: list[tuple[Alike, list[Target]]] = []
        moves = Moves()
        for group in groups:
            targets = [self._target(group, name) for name in self._change.devices or (group.sort.device,)]
            for some, chosen in self._reaching(session, group, targets, moves):
                possible.append((some, chosen))
        moves.accepted += _in_turn(possible, turn)
        return moves

    def _target(self, group: Alike, device_name: str) -> Target | str:
        key = (device_name, group.sort)
        if key not in self._targets:
            self._targets[key] = self._work_out(group.sort, device_name)
        return self._targets[key]

    def _work_out(self, task: Sort, device_name: str) -> Target | str:
        device = self._cluster.devices.get(device_name)
        if device is None or not device.is_ours:
            return f"Cannot reschedule Task{{id={{task}}}}: Device{{name={device_name}}} is not in the configuration"
        change = self._change
        row = {**task._asdict(), "id": "{task}", "new_local_aet": change.local_aet}
        try:
            target = kind_of(task.kind).target_on(device, row, exporter_id=change.exporter_id, queue=change.queue)
            stays = not change.devices and change.exporter_id is None and change.local_aet is None
            # Its AE title is the task's own; only a move, or another exporter, brings another one.
            return replace(target, local_aet=task.local_aet) if stays else target
        except UnknownKindError:
            return f"Cannot reschedule Task{{id={{task}}}}: tasks of type {task.kind} are listed, but never run here"
        except (ConflictError, InvalidError) as error:
            return str(error)

    def _reaching(
        self, session: Session, group: Alike, targets: Sequence[Target | str], moves: Moves
    ) -> Iterator[tuple[Alike, list[Target]]]:
        """Yield parts of a group with the targets that can run them; refuse the rest."""
        able = [target for target in targets if isinstance(target, Target)]
        if not able:
            moves.refused.append((next(target for target in targets if isinstance(target, str)), group.ids))
            return
        lacking = self._lacking(session, group, able)
        parts: dict[tuple[Target, ...], list[int]] = {}
        for task_id in sorted(lacking):
            left = tuple(target for target in able if target not in lacking[task_id])
            if left:
                parts.setdefault(left, []).append(task_id)
            else:
                moves.refused.append((_first_reason(targets, lacking[task_id]), [task_id]))
        free = [task_id for task_id in group.ids if task_id not in lacking] if lacking else group.ids
        if free:
            yield group.only(free), able
        for reachable, task_ids in parts.items():
            yield group.only(task_ids), list(reachable)

    def _lacking(self, session: Session, group: Alike, targets: Sequence[Target]) -> Lacking:
        """Return by task which targets cannot read its files, and why; most tasks can be read by all."""
        found: dict[int, dict[Target, str]] = {}
        # A task's own device is not asked: its run says what it cannot read.
        asked = [target for target in targets if target.reads_files] if self._devices else []
        asked = [target for target in asked if not archive_query.mounts_all(session, target.device)]
        if not asked:
            return found
        entities = dict(taking.entities(session, group.ids))
        for target in asked:
            missing = {
                one.entity: one for one in archive_query.unreachable_from(session, target.device, {*entities.values()})
            }
            for task_id, entity in entities.items():
                if entity in missing:
                    found.setdefault(task_id, {})[target] = _cannot_reach(target.device, missing[entity])
        return found


def _first_reason(targets: Sequence[Target | str], lacking: Mapping[Target, str]) -> str:
    first = targets[0]
    return first if isinstance(first, str) else lacking[first]


def _in_turn(possible: Sequence[tuple[Alike, list[Target]]], turn: int) -> list[tuple[Alike, Target]]:
    """Give each task, in the order of ids, the next of the targets that can run it."""
    if all(len(targets) == 1 for _, targets in possible):
        return [(group, targets[0]) for group, targets in possible]
    shared: dict[tuple[int, Target], list[int]] = {}
    in_order = sorted((task_id, number) for number, (group, _) in enumerate(possible) for task_id in group.ids)
    for place, (task_id, number) in enumerate(in_order, turn):
        targets = possible[number][1]
        shared.setdefault((number, targets[place % len(targets)]), []).append(task_id)
    return [(possible[number][0].only(ids), target) for (number, target), ids in shared.items()]


def _cannot_reach(device_name: str, lacking: Unreachable) -> str:
    places = ", ".join(lacking.file_systems)
    return (
        f"Cannot reschedule Task{{id={{task}}}} on Device{{name={device_name}}}: it reaches no good copy of "
        f"{lacking.num_objects} objects of Study[uid={lacking.entity.study_uid}], which lie on {places}"
    )


def _target_device(cluster: Cluster, name: str) -> Device:
    device = cluster.devices.get(name)
    if device is None:
        raise InvalidError(f"Unknown Device: {name}", hint=f"expected one of {', '.join(cluster.ours)}")
    if not device.is_ours and not device.is_archive:
        raise InvalidError(
            f"No <class ArchiveDeviceExtension> configured for Device: {name}",
            hint=f"it is no archive, expected one of {', '.join(cluster.ours)}",
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
