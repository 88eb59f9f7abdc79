"""Judge studies on file systems, and mark those that no rule keeps, each with a task of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from archive import model
from archive.deletion import gathering, marking, reports, rules
from archive.deletion.gathering import Disks
from archive.deletion.marking import Candidate, NewMark
from archive.deletion.remembering import Found
from archive.deletion.rules import Deletable, Facts, Kept, Reason, Terms
from archive.storage.file_systems import reachable_by
from config.device import Device, FileSystemGroup
from tasks import slots, store
from tasks.deletion_task import QUEUE, Parameters
from tasks.marks import KIND
from tasks.pins import TaskSide
from tasks.record import NewTask, TaskView
from tasks.store import By

#: Reasons that a look keeps in words; the rest is counted.
_MOST_REASONS = 100


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asked for a deletion; of the job it is the job."""

    by: By
    user: str | None = None
    host: str | None = None
    uri: str | None = None


@dataclass(slots=True)
class Look:
    """What a look at studies found and did."""

    tasks: list[TaskView] = field(default_factory=list)
    size_bytes: int = 0
    kept: int = 0
    #: Number of studies that each rule keeps; one may be kept by several.
    by_rule: Counter[str] = field(default_factory=Counter)
    reasons: list[Reason] = field(default_factory=list)
    #: More are kept than were counted.
    is_cut: bool = False

    def __str__(self) -> str:
        because = ", ".join(f"{number} {rule}" for rule, number in self.by_rule.most_common())
        kept = f"more than {self.kept}" if self.is_cut else str(self.kept)
        return f"{len(self.tasks)} studies scheduled ({self.size_bytes} bytes), {kept} kept" + (
            f": {because}" if because else ""
        )

    def keeps(self, by_rules: Iterable[str], number: int = 1) -> None:
        """Count studies that these rules keep."""
        self.kept += number
        self.by_rule.update(dict.fromkeys(by_rules, number))


@dataclass(frozen=True, slots=True)
class Order:
    """For which group studies are judged, by which terms, for whom."""

    device: Device
    group: FileSystemGroup
    terms: Terms
    asked: Asked


def judge(session: Session, order: Order, chosen: Sequence[Candidate], look: Look, disks: Disks) -> list[Found]:
    """Judge these studies, and mark those that no rule keeps, each with a task of its own; return the others."""
    facts = gathering.read(session, [one.place for one in chosen], disks, TaskSide())
    free: list[tuple[Candidate, Facts, Deletable]] = []
    found: list[Found] = []
    for one in chosen:
        if one.place not in facts:
            continue
        match rules.classify(facts[one.place], order.terms):
            case Deletable() as verdict:
                free.append((one, facts[one.place], verdict))
            case Kept(reasons) as kept:
                because = tuple(reason.rule for reason in reasons)
                look.keeps(because)
                found.append(Found(one.place, rules.holds_for(kept), because))
                look.reasons += reasons[: max(0, _MOST_REASONS - len(look.reasons))]
    _mark(session, order, free, look)
    return found


def _mark(session: Session, order: Order, free: Sequence[tuple[Candidate, Facts, Deletable]], look: Look) -> None:
    locked = marking.lock(session, [one for one, _, _ in free]) if free else set()
    taken = [(one, seen, verdict) for one, seen, verdict in free if one.place in locked]
    if not taken:
        return
    at = slots.database_time(session) + order.group.deletion_grace_time
    made = store.insert_tasks(session, [_task(order, one, seen, at) for one, seen, _ in taken], order.asked.by)
    marks = [
        NewMark(one.place, task.id, f"{order.terms.trigger}: {', '.join(verdict.rules)}", seen.size_bytes)
        for (one, seen, verdict), task in zip(taken, made, strict=True)
    ]
    marking.mark(session, marks)
    look.tasks += made
    look.size_bytes += sum(mark.size_bytes for mark in marks)


def _task(order: Order, chosen: Candidate, facts: Facts, at: datetime) -> NewTask:
    parameters = Parameters(chosen.file_system_id, facts.path, order.group.id, order.terms.trigger, facts.size_bytes)
    return NewTask(
        kind=KIND,
        device=order.device.name,
        queue=QUEUE,
        scheduled_time=at,
        study_uid=facts.study_uid,
        params=parameters.written(),
        requester_user=order.asked.user,
        requester_host=order.asked.host,
        request_uri=order.asked.uri,
    )


def reported(session: Session, device: Device) -> Disks:
    """Return what the owners of all file systems say of their disks."""
    return disks_of(session, session.scalars(select(model.FileSystem)).all(), device)


def disks_of(session: Session, systems: Sequence[model.FileSystem], device: Device) -> Disks:
    """Return what the owners say of these disks: a mark may be set from anywhere, the run looks for itself."""
    unmounted = frozenset(one.id for one in systems if not reachable_by(one, device.name))
    return Disks(reports.problems(session, systems), unmounted=unmounted)
