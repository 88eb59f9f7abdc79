"""The one transaction that makes written files part of the index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from sqlalchemy import and_, delete, func, select, update
from sqlalchemy.orm import Session

from archive import errors, model
from archive.storage import rows
from archive.storage.header import Header
from archive.storage.turns import Raced


@dataclass(frozen=True, slots=True)
class Copy:
    """A good file of an object, not on an UNAVAILABLE file system."""

    file_id: int
    #: Of its file system.
    root: str
    #: Absolute.
    path: str
    size_bytes: int
    sha256: str
    transfer_syntax_uid: str
    #: AE title that sent it; None: imported.
    source: str | None


@dataclass(frozen=True, slots=True)
class Copies:
    """What the index has of a SOP Instance UID."""

    study_uid: str
    series_uid: str
    #: Oldest first.
    good: tuple[Copy, ...]

    @property
    def sha256(self) -> frozenset[str]:
        """The digests of its good files."""
        return frozenset(copy.sha256 for copy in self.good)


@dataclass(frozen=True, slots=True)
class Added:
    """What became of objects, by SOP Instance UID."""

    #: Where those that the index took are.
    places: Mapping[str, rows.Place]
    #: What the index had before of those that it did not take.
    refused: Mapping[str, Copies]


def known(session: Session, sop_uids: Iterable[str], *, lock: bool = False) -> dict[str, Copies]:
    """Return what the index has of these objects, by SOP Instance UID; `lock` keeps it so to the end."""
    wanted = sorted(sop_uids)
    if lock:
        locked = select(model.Instance.id).where(model.Instance.sop_uid.in_(wanted))
        session.execute(locked.order_by(model.Instance.sop_uid).with_for_update(key_share=True)).all()
    is_good = and_(
        model.FileSystem.id == model.File.file_system_id,
        model.File.status.in_(model.GOOD_FILES),
        model.FileSystem.availability != model.Availability.UNAVAILABLE,
    )
    at, copy = model.FileSystem, model.File
    rows_of = (
        select(model.Instance.sop_uid, model.Study.study_uid, model.Series.series_uid, at.path, copy)
        .join(model.Series, model.Series.id == model.Instance.series_id)
        .join(model.Study, model.Study.id == model.Series.study_id)
        .outerjoin(copy, copy.instance_id == model.Instance.id)
        .outerjoin(at, is_good)
        .where(model.Instance.sop_uid.in_(wanted))
        .order_by(model.Instance.sop_uid, copy.id)
    )
    found: dict[str, Copies] = {}
    for sop_uid, study_uid, series_uid, root, file in session.execute(rows_of):
        before = found.setdefault(sop_uid, Copies(study_uid, series_uid, ()))
        if root is not None:
            found[sop_uid] = replace(before, good=(*before.good, _copy(root, file)))
    return found


def _copy(root: str, file: model.File) -> Copy:
    path = f"{root}/{file.path}"
    return Copy(file.id, root, path, file.size_bytes, file.sha256, file.transfer_syntax_uid, file.source)


def is_taken(header: Header, copies: Copies | None) -> bool:
    """Tell whether the index keeps what it has of an object, so that another copy is not stored.

    An object whose files are all gone is taken again, but only into the study and series it was in.
    """
    if copies is None:
        return False
    same_place = (copies.study_uid, copies.series_uid) == (header.study_uid, header.series_uid)
    return bool(copies.sha256) or not same_place


def add(
    session: Session,
    file_system_id: int,
    pending: Sequence[rows.Pending],
    replaced: Mapping[str, Copies] = MappingProxyType({}),
) -> Added:
    """Index written files and take them off the unlink list; the files of those `replaced` go onto it.

    Locks in this order, as every writer does: entries of its own on the unlink list, studies, instances.

    The entries of those that it does not take are due at once.

    Raises:
        Interrupted: an entry is no longer on the list: its file may be gone.
        Raced: another process was faster with one of them, or one is not any more what is to be replaced.
    """
    require_listed(session, [p.unlink_id for p in pending])
    rows.lock_studies(session, {p.header.study_uid for p in pending})
    before = known(session, [p.header.sop_uid for p in pending], lock=True)
    if any(before.get(sop_uid) != copies for sop_uid, copies in replaced.items()):
        raise Raced
    taken = {
        p.header.sop_uid: p
        for p in pending
        if p.header.sop_uid in replaced or not is_taken(p.header, before.get(p.header.sop_uid))
    }
    if replaced:
        rows.retire_files(session, replaced)
    refused = [p for p in pending if p.header.sop_uid not in taken]
    places = {}
    if taken:
        places = rows.add(session, file_system_id, list(taken.values()), set(before))
        session.execute(delete(model.Unlink).where(model.Unlink.id.in_([p.unlink_id for p in taken.values()])))
    if refused:
        session.execute(
            update(model.Unlink)
            .where(model.Unlink.id.in_([p.unlink_id for p in refused]))
            .values(reason=model.UnlinkReason.DUPLICATE, next_attempt_at=func.now())
        )
    return Added(places, {p.header.sop_uid: before[p.header.sop_uid] for p in refused})


def require_listed(session: Session, unlink_ids: Sequence[int]) -> None:
    """Lock the entries of written files, so that no sweep takes them; each must still be there.

    Raises:
        Interrupted: one is not.
    """
    listed = session.scalars(
        select(model.Unlink.id)
        .where(model.Unlink.id.in_(unlink_ids), model.Unlink.reason == model.UnlinkReason.STORING)
        .order_by(model.Unlink.id)
        .with_for_update()
    ).all()
    if len(listed) != len(unlink_ids):
        raise errors.Interrupted(
            f"{len(unlink_ids) - len(listed)} of {len(unlink_ids)} files took too long to store and were cleared"
        )
