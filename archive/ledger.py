"""The books beside the index: access per study and file system, bytes received, series still arriving."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import ColumnElement, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from archive import model

#: Access times are written only if older than this.
TOUCH_AFTER = timedelta(hours=1)
#: A series without an object for this long is taken as stored.
SERIES_SILENCE = timedelta(seconds=60)

#: What a ledger row without a mark for deletion holds.
UNMARKED = {"marked_at": None, "mark_reason": None, "mark_task_id": None, "mark_bytes": None}


def touch(session: Session, study_ids: Iterable[int], file_system_id: int) -> None:
    """Note that studies were used on a file system now; a mark for deletion there is taken back."""
    ids = sorted(set(study_ids))
    if not ids:
        return
    ledger = model.StudyOnFileSystem
    session.execute(
        insert(ledger)
        .values([{"study_id": study_id, "file_system_id": file_system_id} for study_id in ids])
        .on_conflict_do_update(
            index_elements=[ledger.study_id, ledger.file_system_id],
            set_={"access_time": func.now(), **UNMARKED},
            where=_is_to_be_touched(),
        )
    )


def touch_again(session: Session, study_uid: str) -> None:
    """Note that a study was offered once more, on every file system where files of it lie."""
    locked = select(model.Study.id).where(model.Study.study_uid == study_uid).with_for_update(key_share=True)
    ledger = model.StudyOnFileSystem
    of_study = update(ledger).where(ledger.study_id == session.scalar(locked), _is_to_be_touched())
    session.execute(of_study.values(access_time=func.now(), **UNMARKED))


def _is_to_be_touched() -> ColumnElement[bool]:
    ledger = model.StudyOnFileSystem
    return or_(ledger.marked_at.is_not(None), ledger.access_time < func.now() - TOUCH_AFTER)


def add_received(session: Session, device_name: str, source: str, *, size_bytes: int, objects: int) -> None:
    """Count what a device received from outside, in the hour of the transaction's start."""
    book = model.BytesReceived
    statement = insert(book).values(
        device_name=device_name,
        hour=func.date_trunc("hour", func.now(), "UTC"),
        source=source,
        size_bytes=size_bytes,
        num_objects=objects,
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[book.device_name, book.hour, book.source],
            set_={
                "size_bytes": book.size_bytes + statement.excluded.size_bytes,
                "num_objects": book.num_objects + statement.excluded.num_objects,
            },
        )
    )


def close_series(session: Session, series: Iterable[tuple[str, str]]) -> int:
    """Set series, given as (study UID, series UID), to STORED; return how many were RECEIVING."""
    pairs = sorted(set(series))
    if not pairs:
        return 0
    wanted = (
        select(model.Series.id)
        .join(model.Study, model.Study.id == model.Series.study_id)
        .where(tuple_(model.Study.study_uid, model.Series.series_uid).in_(pairs))
        .where(model.Series.state == model.SeriesState.RECEIVING)
        .order_by(model.Series.id)
        .with_for_update(of=model.Series, key_share=True)
    )
    return _store(session, list(session.scalars(wanted)))


def close_silent_series(session: Session, silence: timedelta = SERIES_SILENCE) -> int:
    """Set series without an object for `silence` to STORED; return how many. A writer's row is left alone."""
    silent = (
        select(model.Series.id)
        .where(model.Series.state == model.SeriesState.RECEIVING)
        .where(model.Series.last_received_at < func.now() - silence)
        .order_by(model.Series.id)
        .with_for_update(skip_locked=True, key_share=True)
    )
    return _store(session, list(session.scalars(silent)))


def _store(session: Session, series_ids: list[int]) -> int:
    if series_ids:
        session.execute(
            update(model.Series)
            .where(model.Series.id.in_(series_ids))
            .values(state=model.SeriesState.STORED, stored_at=func.now())
        )
    return len(series_ids)
