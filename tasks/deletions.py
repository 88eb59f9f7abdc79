"""Choose studies to delete: the mark and its DELETE_STUDY task are made in one transaction, or neither is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from archive import db, model
from archive.deletion import gathering, marking, reports, rules
from archive.deletion.gathering import Disks
from archive.deletion.marking import Candidate, NewMark
from archive.deletion.rules import Deletable, Facts, Kept, Reason, Terms, Trigger
from archive.storage.file_systems import reachable_by
from config.device import Device, FileSystemGroup
from tasks import jobs, slots, store, taking
from tasks.deletion_task import QUEUE, Parameters
from tasks.errors import ConflictError, InvalidError, NotFoundError
from tasks.jobs import Job
from tasks.marks import KIND
from tasks.pins import TaskSide
from tasks.record import NewTask, Task, TaskView
from tasks.state import WAITING
from tasks.store import By
from tasks.stored import SCHEDULE_DELETIONS

#: Seconds after which a look has the disks looked at again; several times within `reports.COUNTS_FOR`.
_REFRESH_EVERY_S = 30.0

#: What a look without any candidate says.
_WITHOUT_TRIGGER = "nothing to do: DeleteStudyIfNotAccessedFor is not set"


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

    def __str__(self) -> str:
        because = ", ".join(f"{number} {rule}" for rule, number in self.by_rule.most_common())
        return f"{len(self.tasks)} studies scheduled ({self.size_bytes} bytes), {self.kept} kept" + (
            f": {because}" if because else ""
        )


@dataclass(frozen=True, slots=True)
class Explained:
    """A study on one file system, and what keeps it there."""

    facts: Facts
    #: By the trigger that looks.
    verdicts: Mapping[Trigger, Deletable | Kept]


def schedule_studies(
    device: Device, group: FileSystemGroup, asked: Asked, refresh: Callable[[], object] | None = None
) -> str:
    """Mark the studies of a group that nobody used for long and that no rule keeps; return what was done.

    Args:
        device: the owner of the group.
        group: whose rules hold.
        asked: who wants it; of beat it is beat.
        refresh: look at the disks of the device, called before and now and then, where they are mounted; None: what
            their owner reports must do.

    Raises:
        ConflictError: somebody does so just now; the text says since when.
        InvalidError: the device has no queue for it.
    """
    job = Job(device.name, group.id, SCHEDULE_DELETIONS)
    with jobs.alone(job, "studies are being scheduled for deletion"), jobs.recorded(job) as record:
        _require_queue(device)
        ended = end_obsolete(device)
        look = _by_age(device, group, asked, _Refreshed(refresh))
        record.said = _WITHOUT_TRIGGER if look is None else str(look)
        if ended:
            record.said += f"; {ended} tasks canceled whose mark was gone"
        return record.said


def schedule_study(
    device: Device, group: FileSystemGroup, study_uid: str, asked: Asked, within: Session | None = None
) -> Look:
    """Mark a study on the file systems of a group: by name, without the rules of age and copies.

    Args:
        device: the owner of the group.
        group: whose rules hold.
        study_uid: the study.
        asked: who wants it.
        within: the transaction to do it in, given up by what is raised; None: one of its own.

    Raises:
        NotFoundError: the archive does not know it, or nothing of it is in the group.
        ConflictError: rules keep it on each of the file systems; the text has every reason.
        InvalidError: the device has no queue for it.
    """
    _require_queue(device)
    terms = rules.terms_of(group, device.name, Trigger.REQUEST)
    with db.transaction() if within is None else nullcontext(within) as session:
        chosen = _places(session, device, group, study_uid)
        look = Look()
        _mark(session, _Order(device, group, terms, asked), chosen, look)
        if not look.tasks:
            busy = f"Study {study_uid} is being used just now; try again"
            raise ConflictError("; ".join(reason.text for reason in look.reasons) or busy)
        return look


def explain(device: Device, group: FileSystemGroup, study_uid: str) -> list[Explained]:
    """Return what keeps a study on each file system of a group.

    Raises:
        NotFoundError: the archive does not know it, or nothing of it is in the group.
    """
    with db.transaction() as session:
        chosen = _places(session, device, group, study_uid)
        found = gathering.read(session, [one.place for one in chosen], _reported(session, device), TaskSide())
    terms = {trigger: rules.terms_of(group, device.name, trigger) for trigger in Trigger}
    return [
        Explained(facts, {trigger: rules.classify(facts, asked) for trigger, asked in terms.items()})
        for facts in found.values()
    ]


def end_obsolete(device: Device) -> int:
    """Cancel waiting deletions of a device whose mark is gone: their study was used, or will be read."""
    ledger, begun = model.StudyOnFileSystem, model.StudyDeletion
    gone = (
        Task.kind == KIND,
        Task.device == device.name,
        Task.status.in_([status.value for status in WAITING]),
        ~select(ledger.study_id).where(ledger.mark_task_id == Task.id).exists(),
        ~select(begun.id).where(begun.task_id == Task.id).exists(),
    )
    ended = 0
    while True:
        with db.transaction() as session:
            tasks = taking.take(session, gone, 0, device.task_fetch_size)
            text = "accessed: the study was used, or shall be read, after it was marked"
            ended += store.cancel(session, tasks, By(f"beat of {device.name}", "accessed"), outcome=text)
        if len(tasks) < device.task_fetch_size:
            return ended


@dataclass(frozen=True, slots=True)
class _Order:
    device: Device
    group: FileSystemGroup
    terms: Terms
    asked: Asked


class _Refreshed:
    """Keeps the reports of the disks from going stale during a long look."""

    def __init__(self, refresh: Callable[[], object] | None) -> None:
        self._refresh = refresh
        self._last_s: float | None = None

    def before_page(self) -> None:
        now_s = time.monotonic()
        if self._refresh is not None and (self._last_s is None or now_s - self._last_s >= _REFRESH_EVERY_S):
            self._refresh()
            self._last_s = now_s


def _by_age(device: Device, group: FileSystemGroup, asked: Asked, refreshed: _Refreshed) -> Look | None:
    terms = rules.terms_of(group, device.name, Trigger.AGE)
    if terms.not_accessed_for is None:
        return None
    look, after = Look(), None
    order = _Order(device, group, terms, asked)
    with db.transaction() as session:
        # Later ones wait for the next look, so that this one has an end.
        before: datetime = session.scalars(select(func.now() - terms.not_accessed_for)).one()
        systems = list(session.scalars(_writable(device, group)))
    while True:
        refreshed.before_page()
        with db.transaction() as session:
            page = marking.candidates(session, systems, before, after, group.schedule_batch_size)
            if page:
                _mark(session, order, page, look)
        if len(page) < group.schedule_batch_size:
            return look
        after = page[-1]


def _mark(session: Session, order: _Order, chosen: Sequence[Candidate], look: Look) -> None:
    """Judge these studies, and mark those that no rule keeps, each with a task of its own."""
    disks = _reported(session, order.device)
    facts = gathering.read(session, [one.place for one in chosen], disks, TaskSide())
    free: list[tuple[Candidate, Facts, Deletable]] = []
    for one in chosen:
        if one.place not in facts:
            continue
        match rules.classify(facts[one.place], order.terms):
            case Deletable() as verdict:
                free.append((one, facts[one.place], verdict))
            case Kept(reasons):
                look.kept += 1
                look.by_rule.update(reason.rule for reason in reasons)
                look.reasons += reasons[: max(0, _MOST_REASONS - len(look.reasons))]
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


#: Reasons that a look keeps in words; the rest is counted.
_MOST_REASONS = 100


def _task(order: _Order, chosen: Candidate, facts: Facts, at: datetime) -> NewTask:
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


def _places(session: Session, device: Device, group: FileSystemGroup, study_uid: str) -> list[Candidate]:
    owned = select(model.FileSystem.id).where(
        model.FileSystem.owner_device == device.name, model.FileSystem.group_id == group.id
    )
    found = marking.of_study(session, study_uid, list(session.scalars(owned)))
    if not found:
        known = session.scalar(select(model.Study.id).where(model.Study.study_uid == study_uid))
        where = "" if known is None else f" in group {group.id} of device {device.name}"
        raise NotFoundError(f"No such Study: {study_uid}{where}")
    return found


def _writable(device: Device, group: FileSystemGroup) -> Any:
    # What is RO or PENDING is never cleaned by itself.
    return select(model.FileSystem.id).where(
        model.FileSystem.owner_device == device.name,
        model.FileSystem.group_id == group.id,
        model.FileSystem.status.in_([model.FileSystemStatus.CURRENT, model.FileSystemStatus.WRITABLE]),
    )


def _reported(session: Session, device: Device) -> Disks:
    """What the owners say of their disks: a mark may be set from anywhere, the run of this device looks for itself."""
    systems = session.scalars(select(model.FileSystem)).all()
    unmounted = frozenset(one.id for one in systems if not reachable_by(one, device.name))
    return Disks(reports.problems(session, systems), unmounted=unmounted)


def _require_queue(device: Device) -> None:
    if QUEUE not in device.queues:
        raise InvalidError(f"No Queue configured with name:{QUEUE} at Device{{name={device.name}}}")
