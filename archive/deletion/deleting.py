"""One study leaves one file system: one transaction that asks all rules again, then file by file from the disk.

Before it, nothing has happened; after it, the files stand on the unlink list and are removed by this run, by the
next one, or by the sweep. Rows of study, series and objects stay.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session

from archive import db, errors, model
from archive.deletion import gathering, looking, rules
from archive.deletion.gathering import Disks, Outside, Place
from archive.deletion.rules import Deletable, Facts, Kept, Terms
from archive.storage import files, unlinking

#: Files between two looks at whether to go on.
_BATCH = 200
#: Seconds after which a look at the disks says nothing any more: the database was away, or a lock was waited for.
_LOOK_COUNTS_FOR_S = 30.0
#: Seconds between two looks at files that another process unlinks just now.
_AGAIN_S = 0.5


class NotDeleted(errors.ArchiveError):
    """The study stays: a rule keeps it, or its mark is gone; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a DELETE_STUDY task asks for."""

    task_id: int
    #: When the task was made, and the mark with it.
    made_at: datetime
    study_uid: str
    file_system_id: int
    trigger: str
    #: user@host, or the job that chose the study.
    who: str


class Conditions(Outside, Protocol):
    """Under which conditions a run deletes."""

    def terms(self, file_system: model.FileSystem) -> Terms | None:
        """Return the terms of a file system's group; None: the configuration has none."""

    def check(self) -> None:
        """Raise if the run shall stop; called between steps and files, as a sign of progress."""

    def wait(self, seconds: float) -> None:
        """Let that time pass; raise if the run shall stop."""

    def still_wanted(self, session: Session) -> None:
        """Raise if the run has lost its task; called while the ledger row is locked."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a deletion did."""

    path: str
    num_files: int
    size_bytes: int
    remaining_copies: tuple[str, ...]


def delete_study(
    order: Order, device_name: str, conditions: Conditions, *, after_step: files.Step = files.no_step
) -> Deleted:
    """Delete the study of an order from its file system; run again after a crash, it goes on where it was.

    Steps: `looked` (copies elsewhere seen on disk), `moved` (before the commit), `committed`, `unlinked`,
    `finished`.

    Raises:
        NotDeleted: the study stays, the text says why.
        StorageError: files could not be unlinked yet; they stay on the list.
    """
    begun = db.insist(lambda session: _begun(session, order.task_id))
    while begun is None:
        look = _look(order, device_name, conditions)
        after_step("looked")
        conditions.check()
        begun = db.insist(partial(_move, order=order, look=look, conditions=conditions, after_step=after_step))
        if begun is not None:
            after_step("committed")
    _unlink(begun, conditions)
    after_step("unlinked")
    db.insist(partial(finish, device_name=device_name, number=begun.id))
    after_step("finished")
    return Deleted(begun.file_system_path, begun.num_files, begun.size_bytes, tuple(begun.remaining_copies))


def finish(session: Session, device_name: str, number: int | None = None) -> None:
    """Note of a device's deletions whose last file has left the list that they are done; None: of all of them."""
    table = model.StudyDeletion
    waiting = select(model.Unlink.id).where(model.Unlink.deletion_id == table.id).exists()
    open_ones = update(table).where(table.device == device_name, table.unlinked_at.is_(None), ~waiting)
    if number is not None:
        open_ones = open_ones.where(table.id == number)
    session.execute(open_ones.values(unlinked_at=func.clock_timestamp()))


@dataclass(frozen=True, slots=True)
class _Look:
    disks: Disks
    ended_s: float

    @property
    def counts(self) -> bool:
        return _now_s() - self.ended_s <= _LOOK_COUNTS_FOR_S


def _now_s() -> float:
    # Goes on while the machine sleeps.
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _look(order: Order, device_name: str, conditions: Conditions) -> _Look:
    """Look at the disks; after one that took long, because files were read, once more: that one is short."""
    with db.transaction() as session:
        system = _file_system(session, order.file_system_id)
    began_s = _now_s()
    disks = looking.look_at_copies(order.study_uid, system, device_name, conditions.check)
    if _now_s() - began_s > _LOOK_COUNTS_FOR_S:
        disks = looking.look_at_copies(order.study_uid, system, device_name, conditions.check)
    return _Look(disks, _now_s())


def _begun(session: Session, task_id: int) -> model.StudyDeletion | None:
    return session.scalars(select(model.StudyDeletion).where(model.StudyDeletion.task_id == task_id)).one_or_none()


def _file_system(session: Session, number: int) -> model.FileSystem:
    found = session.get(model.FileSystem, number)
    if found is None:
        raise NotDeleted(f"File system {number} is not there any more")
    return found


def _move(
    session: Session, order: Order, look: _Look, conditions: Conditions, after_step: files.Step
) -> model.StudyDeletion | None:
    """Ask all rules again with the study locked; move its file rows to the unlink list and write the ledger.

    Returns None, with nothing changed, if the look at the disks is too old.
    """
    study_id = session.scalar(
        select(model.Study.id).where(model.Study.study_uid == order.study_uid).with_for_update(key_share=True)
    )
    before = _begun(session, order.task_id)
    if before is not None:
        return before  # the answer to an earlier commit was lost
    if study_id is None:
        raise NotDeleted(f"Study {order.study_uid} is not there any more")
    place = Place(study_id, order.file_system_id)
    system = _file_system(session, order.file_system_id)
    _require_mark(session, order, place, system.path)
    conditions.still_wanted(session)
    if not look.counts:
        return None
    terms = conditions.terms(system)
    if terms is None:
        raise NotDeleted(f"Group {system.group_id} of device {system.owner_device} is not configured any more")
    facts = gathering.read(session, [place], look.disks, conditions, own_task=order.task_id)[place]
    verdict = rules.classify(facts, terms)
    if isinstance(verdict, Kept):
        raise NotDeleted("; ".join(reason.text for reason in verdict.reasons))
    written = _write(session, order, system, facts, verdict)
    _empty(session, place, written)
    after_step("moved")
    return written


def _require_mark(session: Session, order: Order, place: Place, path: str) -> None:
    """Lock the ledger row; it must carry the mark of this task."""
    table = model.StudyOnFileSystem
    row = session.execute(
        select(table.mark_task_id, table.marked_at, table.access_time)
        .where(table.study_id == place.study_id, table.file_system_id == place.file_system_id)
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise NotDeleted(f"Study {order.study_uid} is not on {path} any more")
    if row.mark_task_id == order.task_id and row.marked_at is not None:
        return
    if row.access_time >= order.made_at:
        raise NotDeleted(f"accessed: study {order.study_uid} was used on {path} at {row.access_time:%Y-%m-%d %H:%M:%S}")
    raise NotDeleted(f"the mark of study {order.study_uid} on {path} was taken back")


def _write(
    session: Session, order: Order, system: model.FileSystem, facts: Facts, verdict: Deletable
) -> model.StudyDeletion:
    written = model.StudyDeletion(
        study_uid=order.study_uid,
        file_system_id=system.id,
        file_system_path=system.path,
        device=system.owner_device,
        group_id=system.group_id,
        num_files=facts.num_files,
        size_bytes=facts.size_bytes,
        access_time=facts.access_time,
        trigger=order.trigger,
        rules=list(verdict.rules),
        task_id=order.task_id,
        who=order.who,
        remaining_copies=rules.remaining(facts),
    )
    session.add(written)
    session.flush()
    return written


_EMPTY = text(
    """
    WITH gone AS (
        DELETE FROM file USING instance, series
        WHERE file.file_system_id = :system AND instance.id = file.instance_id AND series.id = instance.series_id
          AND series.study_id = :study
        RETURNING file.path, file.size_bytes
    )
    INSERT INTO unlink (file_system_id, path, reason, size_bytes, deletion_id)
    SELECT :system, path, 'deleted', size_bytes, :deletion FROM gone
    ON CONFLICT (file_system_id, path) DO UPDATE
    SET reason = excluded.reason, size_bytes = excluded.size_bytes, deletion_id = excluded.deletion_id,
        next_attempt_at = now()
    RETURNING id
    """
)


def _empty(session: Session, place: Place, written: model.StudyDeletion) -> None:
    """Move the file rows to the unlink list: exactly those that the rules have seen."""
    values = {"system": place.file_system_id, "study": place.study_id, "deletion": written.id}
    moved = len(session.execute(_EMPTY, values).all())
    if moved != written.num_files:
        raise errors.StorageError(
            f"Study {written.study_uid} on {written.file_system_path} changed while it was looked at: "
            f"{moved} files, {written.num_files} expected"
        )
    table = model.StudyOnFileSystem
    session.execute(delete(table).where(table.study_id == place.study_id, table.file_system_id == place.file_system_id))


def _unlink(begun: model.StudyDeletion, conditions: Conditions) -> None:
    """Work off the files of a deletion; each is tried once, those that a sweep is at are waited for.

    Raises:
        StorageError: the file system is not what its row says, or some files resist.
    """
    system = db.insist(lambda session: session.get(model.FileSystem, begun.file_system_id))
    if system is None:
        raise errors.StorageError(
            f"File system {begun.file_system_path} is not in the index any more; "
            f"study {begun.study_uid} was deleted there, but its files may still be on the disk"
        )
    while True:
        _try_each(system, begun.id, conditions)
        left, why = db.insist(lambda session: _left(session, begun.id))
        if not left:
            return
        if why is not None:
            raise errors.StorageError(f"{left} files of the study are not unlinked yet: {why}")
        conditions.wait(_AGAIN_S)


def _try_each(system: model.FileSystem, deletion_id: int, conditions: Conditions) -> None:
    last = 0
    while entries := _entries(deletion_id, last):
        conditions.check()
        cleared = unlinking.clear_entries(system, entries)
        if cleared.skipped:
            raise errors.StorageError("; ".join(cleared.skipped))
        last = entries[-1]


def _entries(deletion_id: int, after: int) -> list[int]:
    table = model.Unlink
    chosen = select(table.id).where(table.deletion_id == deletion_id, table.id > after).order_by(table.id)
    return db.insist(lambda session: list(session.scalars(chosen.limit(_BATCH))))


def _left(session: Session, deletion_id: int) -> tuple[int, str | None]:
    table = model.Unlink
    row = session.execute(select(func.count(), func.min(table.error)).where(table.deletion_id == deletion_id)).one()
    return row[0], row[1]
