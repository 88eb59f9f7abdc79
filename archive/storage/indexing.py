"""The one transaction that makes written files part of the index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from archive import errors, model
from archive.storage import rows
from archive.storage.header import Header


@dataclass(frozen=True, slots=True)
class Copies:
    """What the index has of a SOP Instance UID."""

    study_uid: str
    series_uid: str
    #: Digests of its good files that are not on an UNAVAILABLE file system.
    sha256: frozenset[str]


def known(session: Session, sop_uids: Iterable[str], *, lock: bool = False) -> dict[str, Copies]:
    """Return what the index has of these objects, by SOP Instance UID; `lock` keeps it so to the end."""
    wanted = sorted(sop_uids)
    if lock:
        locked = select(model.Instance.id).where(model.Instance.sop_uid.in_(wanted))
        session.execute(locked.order_by(model.Instance.sop_uid).with_for_update(key_share=True)).all()
    good = func.array_agg(model.File.sha256).filter(
        model.File.status.in_(model.GOOD_FILES),
        model.FileSystem.availability != model.Availability.UNAVAILABLE,
    )
    rows_of = (
        select(model.Instance.sop_uid, model.Study.study_uid, model.Series.series_uid, good)
        .join(model.Series, model.Series.id == model.Instance.series_id)
        .join(model.Study, model.Study.id == model.Series.study_id)
        .outerjoin(model.File, model.File.instance_id == model.Instance.id)
        .outerjoin(model.FileSystem, model.FileSystem.id == model.File.file_system_id)
        .where(model.Instance.sop_uid.in_(wanted))
        .group_by(model.Instance.sop_uid, model.Study.study_uid, model.Series.series_uid)
    )
    return {
        sop_uid: Copies(study_uid, series_uid, frozenset(digests or ()))
        for sop_uid, study_uid, series_uid, digests in session.execute(rows_of)
    }


def is_taken(header: Header, copies: Copies | None) -> bool:
    """Tell whether the index keeps what it has of an object, so that another copy is not stored.

    An object whose files are all gone is taken again, but only into the study and series it was in.
    """
    if copies is None:
        return False
    same_place = (copies.study_uid, copies.series_uid) == (header.study_uid, header.series_uid)
    return bool(copies.sha256) or not same_place


def add(session: Session, file_system_id: int, pending: Sequence[rows.Pending]) -> dict[str, Copies]:
    """Index written files and take them off the unlink list.

    Returns:
        By SOP Instance UID what the index had before of those that it did not take; their entries
        on the unlink list are due at once.

    Raises:
        Interrupted: an entry is no longer on the list: its file may be gone.
        rows.Raced: another process was faster with one of them; begin anew.
    """
    _require_listed(session, pending)
    before = known(session, [p.header.sop_uid for p in pending], lock=True)
    taken = {p.header.sop_uid: p for p in pending if not is_taken(p.header, before.get(p.header.sop_uid))}
    refused = [p for p in pending if p.header.sop_uid not in taken]
    if taken:
        rows.add(session, file_system_id, list(taken.values()), set(before))
        session.execute(delete(model.Unlink).where(model.Unlink.id.in_([p.unlink_id for p in taken.values()])))
    if refused:
        session.execute(
            update(model.Unlink)
            .where(model.Unlink.id.in_([p.unlink_id for p in refused]))
            .values(reason=model.UnlinkReason.DUPLICATE, next_attempt_at=func.now())
        )
    return {p.header.sop_uid: before[p.header.sop_uid] for p in refused}


def _require_listed(session: Session, pending: Sequence[rows.Pending]) -> None:
    """Lock the entries of the files, so that no sweep takes them; each must still be there."""
    ids = [p.unlink_id for p in pending]
    listed = session.scalars(
        select(model.Unlink.id)
        .where(model.Unlink.id.in_(ids), model.Unlink.reason == model.UnlinkReason.STORING)
        .order_by(model.Unlink.id)
        .with_for_update()
    ).all()
    if len(listed) != len(ids):
        raise errors.Interrupted(
            f"{len(ids) - len(listed)} of {len(ids)} files took too long to store and were cleared"
        )
