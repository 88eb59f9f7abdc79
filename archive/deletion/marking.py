"""Marks for deletion: which studies come into question, oldest access first, and who marks which of them.

A mark is four columns of the ledger row. Whoever needs both locks the task row first, then the ledger row; a
touch and the deleting transaction lock the study row before the ledger row.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, cast

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CursorResult,
    Select,
    String,
    and_,
    any_,
    delete,
    func,
    literal,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Session

from archive import ledger, model
from archive.deletion.gathering import Place

#: Key of a ledger row, in the order in which rows are locked.
_IN_ORDER = (model.StudyOnFileSystem.study_id, model.StudyOnFileSystem.file_system_id)


class Candidate(NamedTuple):
    """A study on a file system, in the order in which they are looked at."""

    access_time: datetime
    study_id: int
    file_system_id: int
    #: The task of the mark that it has; 0: none.
    mark_task_id: int = 0

    @property
    def place(self) -> Place:
        """The study and the file system."""
        return Place(self.study_id, self.file_system_id)


@dataclass(frozen=True, slots=True)
class NewMark:
    """What is written to the ledger row of a study that a task shall delete."""

    place: Place
    task_id: int
    reason: str
    #: Bytes that the deletion will free.
    size_bytes: int


# Each file system by its own index, then merged: the oldest of all come first, and equal times are not skipped.
_CANDIDATES = text(
    """
    SELECT found.* FROM unnest(CAST(:systems AS bigint[])) AS asked (id) CROSS JOIN LATERAL (
        SELECT access_time, study_id, file_system_id, coalesce(mark_task_id, 0) FROM study_on_file_system
        WHERE file_system_id = asked.id AND access_time < :before AND kept_premise = 0
          AND (CAST(:after_time AS timestamptz) IS NULL
               OR (access_time, study_id, file_system_id) > (:after_time, :after_study, :after_system))
        ORDER BY access_time, study_id LIMIT :number
    ) AS found
    ORDER BY access_time, study_id, file_system_id LIMIT :number
    """
)


def candidates(
    session: Session, file_system_ids: Collection[int], before: datetime, after: Candidate | None, number: int
) -> list[Candidate]:
    """Return the next studies on these file systems that nobody used since `before`, oldest access first.

    Those of which an earlier look remembers that they are kept are left out.

    Args:
        session: the transaction.
        file_system_ids: of one group.
        before: access times are older than this.
        after: the last one of the page before; None: begin with the oldest.
        number: at most so many.
    """
    values = {
        "systems": sorted(file_system_ids),
        "before": before,
        "after_time": after.access_time if after else None,
        "after_study": after.study_id if after else None,
        "after_system": after.file_system_id if after else None,
        "number": number,
    }
    return [Candidate(*row) for row in session.execute(_CANDIDATES, values)]


def count(session: Session, file_system_id: int, before: datetime, most: int) -> int:
    """Return how many studies on a file system nobody used since `before`, at most so many."""
    table = model.StudyOnFileSystem
    old = select(table.study_id).where(table.file_system_id == file_system_id, table.access_time < before).limit(most)
    return session.scalars(select(func.count()).select_from(old.subquery())).one()


def of_study(session: Session, study_uid: str, file_system_ids: Collection[int]) -> list[Candidate]:
    """Return where a study lies on these file systems, by path's number."""
    table = model.StudyOnFileSystem
    rows = session.execute(
        select(table.access_time, table.study_id, table.file_system_id, func.coalesce(table.mark_task_id, 0))
        .join(model.Study, model.Study.id == table.study_id)
        .where(model.Study.study_uid == study_uid, table.file_system_id.in_(file_system_ids))
        .order_by(table.file_system_id)
    )
    return [Candidate(*row) for row in rows]


def lock(session: Session, chosen: Sequence[Candidate]) -> set[Place]:
    """Lock the ledger rows of those that nobody has used or marked since, or holds now; return which these are."""
    table = model.StudyOnFileSystem
    mark_task_id = func.coalesce(table.mark_task_id, 0)
    unchanged = tuple_(table.access_time, table.study_id, table.file_system_id, mark_task_id).in_(chosen)
    rows = session.execute(select(*_IN_ORDER).where(unchanged).order_by(*_IN_ORDER).with_for_update(skip_locked=True))
    return {Place(*row) for row in rows}


_MARK = text(
    """
    UPDATE study_on_file_system AS ledger SET marked_at = clock_timestamp(), mark_reason = new.reason,
           mark_task_id = new.task, mark_bytes = new.size_bytes
    FROM unnest(CAST(:studies AS bigint[]), CAST(:systems AS bigint[]), CAST(:tasks AS bigint[]),
                CAST(:reasons AS text[]), CAST(:sizes AS bigint[]))
         AS new (study_id, file_system_id, task, reason, size_bytes)
    WHERE ledger.study_id = new.study_id AND ledger.file_system_id = new.file_system_id
    """
)


def mark(session: Session, marks: Sequence[NewMark]) -> None:
    """Mark studies whose ledger rows this transaction has locked; a mark that counts no more is replaced."""
    values = {
        "studies": [one.place.study_id for one in marks],
        "systems": [one.place.file_system_id for one in marks],
        "tasks": [one.task_id for one in marks],
        "reasons": [one.reason for one in marks],
        "sizes": [one.size_bytes for one in marks],
    }
    session.execute(_MARK, values)


def standing(session: Session, task_ids: Collection[int], *, lock: bool) -> set[int]:
    """Return those of these tasks whose mark is in the ledger; `lock` keeps it so, and waits for a deletion."""
    table = model.StudyOnFileSystem
    rows = select(table.mark_task_id).where(_of_tasks(task_ids))
    if lock:
        rows = rows.order_by(*_IN_ORDER).with_for_update()
    return {number for number in session.scalars(rows) if number is not None}


def are_any(session: Session) -> bool:
    """Tell whether any study is marked."""
    marked = select(model.StudyOnFileSystem.study_id).where(model.StudyOnFileSystem.marked_at.is_not(None))
    return bool(session.scalar(select(marked.exists())))


def marked_studies() -> Select[str]:
    """Select the UIDs of all studies that are marked."""
    ledger_row = model.StudyOnFileSystem
    marked = select(ledger_row.study_id).where(ledger_row.marked_at.is_not(None))
    return select(model.Study.study_uid).where(model.Study.id.in_(marked))


def give_back(session: Session, task_ids: Collection[int]) -> int:
    """Take back the marks of these tasks; return how many there were."""
    return _give_back(session, _of_tasks(task_ids))


def give_back_studies(session: Session, study_uids: Collection[str]) -> int:
    """Take back all marks of these studies: somebody is about to read them; return how many there were."""
    table = model.StudyOnFileSystem
    named = any_(literal(list(study_uids), ARRAY(String)))
    of_them = select(model.Study.id).where(model.Study.id == table.study_id, model.Study.study_uid == named)
    return _give_back(session, and_(table.marked_at.is_not(None), of_them.exists()))


def _give_back(session: Session, which: ColumnElement[bool]) -> int:
    """Clear the marks of ledger rows, locked in one order, so that no two wait for each other for ever."""
    table = model.StudyOnFileSystem
    chosen = select(*_IN_ORDER).where(which).order_by(*_IN_ORDER).with_for_update()
    done = session.execute(
        update(table)
        .where(tuple_(*_IN_ORDER).in_(chosen))
        .values(**ledger.UNMARKED)
        .execution_options(synchronize_session=False)
    )
    return cast("CursorResult[Any]", done).rowcount


def _of_tasks(task_ids: Collection[int]) -> ColumnElement[bool]:
    # One parameter, however many tasks a bulk call changes.
    return model.StudyOnFileSystem.mark_task_id == any_(literal(list(task_ids), ARRAY(BigInteger)))


def protect(session: Session, study_uid: str, who: str, why: str | None) -> bool:
    """Keep a study on every file system until that is lifted; False: there is no such study."""
    study_id = session.scalar(select(model.Study.id).where(model.Study.study_uid == study_uid))
    if study_id is None:
        return False
    values = {"who": who, "why": why, "since": func.now()}
    statement = insert(model.StudyProtection).values(study_id=study_id, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["study_id"], set_=values))
    give_back_studies(session, [study_uid])
    return True


def is_known(session: Session, study_uid: str) -> bool:
    """Tell whether the archive has, or had, objects of a study."""
    return session.scalar(select(model.Study.id).where(model.Study.study_uid == study_uid)) is not None


def unprotect(session: Session, study_uid: str) -> bool:
    """Leave a study to the rules again; False: it was not protected."""
    of_study = select(model.Study.id).where(model.Study.study_uid == study_uid).scalar_subquery()
    done = session.execute(delete(model.StudyProtection).where(model.StudyProtection.study_id == of_study))
    return cast("CursorResult[Any]", done).rowcount == 1
