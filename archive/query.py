"""What tasks ask the archive: which objects a study has, and which copy of each a device can read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, FromClause, Row, Select, Text, and_, case, func, literal, or_, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import QueryableAttribute, Session

from archive import model

_PAGE = 1000


class CopyState(StrEnum):
    """Whether a device can read an object."""

    #: A good copy lies on a file system that the device mounts.
    REACHABLE = "REACHABLE"
    #: Good copies lie only on file systems of other devices.
    UNREACHABLE = "UNREACHABLE"
    #: No file of it is good, or there is none.
    NONE = "NONE"


@dataclass(frozen=True, slots=True)
class CopyPlace:
    """The file system of a copy."""

    id: int
    path: Path
    owner_device: str
    group_id: str
    shared_with: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object and the best copy of it for one device; without a good copy the copy's fields are None."""

    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class_uid: str
    state: CopyState
    file_id: int | None = None
    file_system: CopyPlace | None = None
    #: Absolute; to be opened only if REACHABLE.
    path: Path | None = None
    size_bytes: int | None = None
    #: 64 hexadecimal digits.
    sha256: str | None = None
    transfer_syntax_uid: str | None = None

    @property
    def is_readable(self) -> bool:
        """Tell whether the device can open the file."""
        return self.state is CopyState.REACHABLE


class Entity(NamedTuple):
    """A study, a series of it, or one object."""

    study_uid: str
    series_uid: str | None = None
    sop_uid: str | None = None

    def __str__(self) -> str:
        levels = (("Instance", self.sop_uid), ("Series", self.series_uid), ("Study", self.study_uid))
        return " of ".join(f"{level}[uid={uid}]" for level, uid in levels if uid)


@dataclass(frozen=True, slots=True)
class Unreachable:
    """What a device cannot read although somebody can."""

    entity: Entity
    #: Objects whose good copies all lie out of reach of the device.
    num_objects: int
    #: Where these copies lie, as `path (device)`, sorted.
    file_systems: tuple[str, ...]


def objects_of(
    session: Session,
    study_uid: str,
    series_uid: str | None = None,
    sop_uid: str | None = None,
    *,
    device_name: str,
) -> list[StoredObject]:
    """Return the objects of a study, series or instance in the order they were indexed."""
    return list(iterate_objects(session, study_uid, series_uid, sop_uid, device_name=device_name))


def iterate_objects(
    session: Session,
    study_uid: str,
    series_uid: str | None = None,
    sop_uid: str | None = None,
    *,
    device_name: str,
) -> Iterator[StoredObject]:
    """Yield the objects of a study page by page, each with the best copy for a device.

    Objects that the device cannot read are among them, with their state.
    """
    last = 0
    while True:
        page = _page(device_name).where(model.Study.study_uid == study_uid, model.Instance.id > last)
        if series_uid is not None:
            page = page.where(model.Series.series_uid == series_uid)
        if sop_uid is not None:
            page = page.where(model.Instance.sop_uid == sop_uid)
        found = session.execute(page.order_by(model.Instance.id).limit(_PAGE)).all()
        yield from (_stored_object(row) for row in found)
        if len(found) < _PAGE:
            return
        last = found[-1].instance_id


def mounts_all(session: Session, device_name: str) -> bool:
    """Tell whether a device reaches every file system that may hold a good copy: then nothing is unreachable."""
    elsewhere = select(model.FileSystem.id).where(_is_open(), ~_is_mounted(device_name))
    return not session.scalar(select(elsewhere.exists()))


def unreachable_from(session: Session, device_name: str, entities: Iterable[Entity]) -> list[Unreachable]:
    """Return those of the entities of which a device cannot read every object that somebody can, in order.

    Entities that the archive does not know, and objects without any good copy, are not among them: no other
    device would do better.
    """
    wanted = sorted(set(entities), key=lambda entity: tuple(uid or "" for uid in entity))
    columns = [literal(list(column), ARRAY(Text)) for column in zip(*wanted, strict=True)] if wanted else []
    if not columns:
        return []
    asked = func.unnest(*columns).table_valued("study_uid", "series_uid", "sop_uid", name="asked").render_derived()
    at, copy = model.FileSystem, model.File
    reachable = (
        select(copy.id)
        .join(at, at.id == copy.file_system_id)
        .where(copy.instance_id == model.Instance.id, _is_good(), _is_mounted(device_name))
        .exists()
    )
    place = at.path + " (" + at.owner_device + ")"
    lacking: Select[Any] = (
        select(*asked.c, func.count(model.Instance.id.distinct()), func.array_agg(place.distinct()))
        .select_from(asked)
        .join(model.Study, model.Study.study_uid == asked.c.study_uid)
        .join(model.Series, _of(model.Series.study_id == model.Study.id, asked.c.series_uid, model.Series.series_uid))
        .join(model.Instance, _of(model.Instance.series_id == model.Series.id, asked.c.sop_uid, model.Instance.sop_uid))
        .join(copy, copy.instance_id == model.Instance.id)
        .join(at, at.id == copy.file_system_id)
        .where(_is_good(), ~reachable)
        .group_by(*asked.c)
        .order_by(*asked.c)
    )
    return [
        Unreachable(Entity(study, series, sop), num_objects, tuple(sorted(places)))
        for study, series, sop, num_objects, places in session.execute(lacking).all()
    ]


def _of(joined: ColumnElement[bool], wanted: ColumnElement[str], uid: QueryableAttribute[str]) -> ColumnElement[bool]:
    return and_(joined, or_(wanted.is_(None), wanted == uid))


def _page(device_name: str) -> Select[Any]:
    """Select the instances, each with its best good copy."""
    best = _best_copy(device_name)
    return (
        select(
            model.Instance.id.label("instance_id"),
            model.Study.study_uid,
            model.Series.series_uid,
            model.Instance.sop_uid,
            model.Instance.sop_class_uid,
            best,
        )
        .join(model.Series, model.Series.id == model.Instance.series_id)
        .join(model.Study, model.Study.id == model.Series.study_id)
        .outerjoin(best, true())
    )


def _best_copy(device_name: str) -> FromClause:
    """Select the best good copy of an instance: mounted first, then the fastest, own, newest."""
    at, copy = model.FileSystem, model.File
    mounted = _is_mounted(device_name)
    return (
        select(
            copy.id.label("file_id"),
            copy.path.label("relative"),
            copy.size_bytes,
            copy.sha256,
            copy.transfer_syntax_uid,
            at.id.label("file_system_id"),
            at.path.label("root"),
            at.owner_device,
            at.group_id,
            at.shared_with,
            mounted.label("mounted"),
        )
        .join(at, at.id == copy.file_system_id)
        .where(copy.instance_id == model.Instance.id, _is_good())
        .order_by(
            mounted.desc(),
            case(model.AVAILABILITY_RANK, value=at.availability, else_=len(model.AVAILABILITY_RANK)),
            (at.owner_device == device_name).desc(),
            copy.id.desc(),
        )
        .limit(1)
        .correlate(model.Instance)
        .lateral("best")
    )


def _stored_object(row: Row[Any]) -> StoredObject:
    known = (row.study_uid, row.series_uid, row.sop_uid, row.sop_class_uid)
    if row.file_id is None:
        return StoredObject(*known, state=CopyState.NONE)
    root = Path(row.root)
    return StoredObject(
        *known,
        state=CopyState.REACHABLE if row.mounted else CopyState.UNREACHABLE,
        file_id=row.file_id,
        file_system=CopyPlace(row.file_system_id, root, row.owner_device, row.group_id, tuple(row.shared_with)),
        path=root / row.relative,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        transfer_syntax_uid=row.transfer_syntax_uid,
    )


def _is_good() -> ColumnElement[bool]:
    """A copy that can be read where it is mounted; OFFLINE and UNAVAILABLE cannot."""
    return and_(model.File.status.in_(model.GOOD_FILES), _is_open())


def _is_open() -> ColumnElement[bool]:
    return model.FileSystem.availability.in_([model.Availability.ONLINE, model.Availability.NEARLINE])


def _is_mounted(device_name: str) -> ColumnElement[bool]:
    return or_(
        model.FileSystem.owner_device == device_name,
        model.FileSystem.shared_with.contains([device_name]),
    )
