"""Choose studies to delete: the mark and its DELETE_STUDY task are made in one transaction, or neither is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from archive import db, model
from archive.deletion import gathering, marking, rules
from archive.deletion.marking import Candidate
from archive.deletion.rules import Deletable, Facts, Kept, Trigger
from config.device import Device, FileSystemGroup
from tasks import aging, jobs, judging, store, taking
from tasks.deletion_task import QUEUE
from tasks.errors import ConflictError, InvalidError, NotFoundError
from tasks.jobs import Job
from tasks.judging import Asked, Look, Order
from tasks.marks import KIND
from tasks.pins import TaskSide
from tasks.record import Task
from tasks.state import WAITING
from tasks.store import By
from tasks.stored import SCHEDULE_DELETIONS

__all__ = ["Asked", "Explained", "Look", "end_obsolete", "explain", "schedule_studies", "schedule_study"]

#: What a look without any candidate says.
_WITHOUT_TRIGGER = "nothing to do: DeleteStudyIfNotAccessedFor is not set"


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
        look = aging.look(device, group, asked, refresh)
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
        judging.judge(session, Order(device, group, terms, asked), chosen, look, judging.reported(session, device))
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
        found = gathering.read(session, [one.place for one in chosen], judging.reported(session, device), TaskSide())
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


def _require_queue(device: Device) -> None:
    if QUEUE not in device.queues:
        raise InvalidError(f"No Queue configured with name:{QUEUE} at Device{{name={device.name}}}")
