"""What the rules of deletion look at, read for many studies on file systems at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from sqlalchemy import ColumnElement, Row, func, select, text, tuple_
from sqlalchemy.orm import Session

from archive import model
from archive.deletion.rules import Facts, Held, Mark, Pin

#: So long the digest of a file counts as verified; a copy that was not is read before it is relied on.
VERIFIED_FOR = timedelta(days=7)
#: A time further ahead of the database's clock was noted before that was set back, and says nothing.
CLOCK_AHEAD = timedelta(minutes=2)


class Place(NamedTuple):
    """A study on a file system, by their numbers."""

    study_id: int
    file_system_id: int


class Outside(Protocol):
    """What the archive cannot know by itself: who reads studies, and what became of marks."""

    def pins(self, session: Session, study_uids: Collection[str]) -> Mapping[str, Sequence[Pin]]:
        """Return what reads these studies, by Study Instance UID."""

    def marks(self, session: Session, task_ids: Collection[int]) -> Mapping[int, Mark]:
        """Return those of these tasks whose mark counts, by number."""


@dataclass(frozen=True, slots=True)
class Disks:
    """What is known of the disks."""

    #: By number of each file system that was looked at: why it is not healthy; None: it is.
    problems: Mapping[int, str | None]
    #: Numbers of the copies elsewhere that were seen on disk; None: none was looked for, all rows count.
    seen: frozenset[int] | None = None
    #: Why copies that were looked for do not count.
    missing: tuple[str, ...] = field(default=())
    #: Numbers of file systems that cannot be looked at from here: a copy there counts only if verified lately.
    unmounted: frozenset[int] = field(default=frozenset())


def read(
    session: Session, places: Collection[Place], disks: Disks, outside: Outside, *, own_task: int | None = None
) -> dict[Place, Facts]:
    """Return the facts of each place that has a row in the ledger.

    Args:
        session: the transaction.
        places: studies on file systems.
        disks: what is known of the disks.
        outside: what only tasks know.
        own_task: the task whose own mark is none.
    """
    rows = _ledger_rows(session, places)
    systems = {one.id: one for one in session.scalars(select(model.FileSystem)).all()}
    held = _held(session, places, [one.id for one in counting(systems.values(), disks)], disks)
    pins = outside.pins(session, {row.study_uid for row in rows})
    marks = outside.marks(session, {row.mark_task_id for row in rows if row.mark_task_id is not None})
    found = {}
    for row in rows:
        place = Place(row.study_id, row.file_system_id)
        sizes, groups = held.get(place, (0, ()))
        system = systems[place.file_system_id]
        found[place] = Facts(
            study_uid=row.study_uid,
            path=system.path,
            status=system.status,
            problem=disks.problems.get(system.id, f"File system {system.path}: nobody has looked at it"),
            now=row.now,
            access_time=row.access_time,
            receiving=row.receiving,
            protected=None if row.who is None else _by_whom(row.who, row.since, row.why),
            pins=tuple(pins.get(row.study_uid, ())),
            mark=None if row.mark_task_id in (None, own_task) else marks.get(row.mark_task_id),
            num_files=sum(one.num_objects for one in groups),
            size_bytes=sizes,
            held=groups,
            missing=disks.missing,
        )
    return found


def counting(systems: Iterable[model.FileSystem], disks: Disks) -> list[model.FileSystem]:
    """Return the file systems whose copies count."""
    return [one for one in systems if _may_hold_copies(one) and _is_healthy(one.id, disks)]


def is_verified() -> ColumnElement[bool]:
    """Return the condition that size and digest of a file were found right lately."""
    return model.File.checked_at.between(func.now() - VERIFIED_FOR, func.now() + CLOCK_AHEAD)


def _may_hold_copies(system: model.FileSystem) -> bool:
    # What is not in use, or cannot be read by itself, is no place to rely on.
    return system.status is not model.FileSystemStatus.PENDING and system.availability in (
        model.Availability.ONLINE,
        model.Availability.NEARLINE,
    )


def _is_healthy(number: int, disks: Disks) -> bool:
    return number in disks.problems and disks.problems[number] is None


def _by_whom(who: str, since: datetime, why: str | None) -> str:
    return f"{who} since {since:%Y-%m-%d %H:%M:%S %Z}" + (f" ({why})" if why else "")


def _ledger_rows(session: Session, places: Collection[Place]) -> Sequence[Row[tuple[object, ...]]]:
    ledger, protection = model.StudyOnFileSystem, model.StudyProtection
    receiving = (
        select(func.count())
        .where(model.Series.study_id == ledger.study_id, model.Series.state == model.SeriesState.RECEIVING)
        .correlate(ledger)
        .scalar_subquery()
    )
    return session.execute(
        select(
            ledger.study_id, ledger.file_system_id, ledger.access_time, ledger.mark_task_id, model.Study.study_uid,
            receiving.label("receiving"), protection.who, protection.why, protection.since,
            func.clock_timestamp().label("now"),
        )
        .join(model.Study, model.Study.id == ledger.study_id)
        .outerjoin(protection, protection.study_id == ledger.study_id)
        .where(tuple_(ledger.study_id, ledger.file_system_id).in_(places))
    ).all()  # fmt: skip


# A copy counts if it has the bytes of ours; where ours is no good file any more, any good one does.
_HELD = text(
    """
    SELECT study_id, file_system_id, groups, count(*) AS num_objects, sum(size_bytes) AS size_bytes FROM (
        SELECT asked.study_id, asked.file_system_id, ours.size_bytes, ARRAY(
            SELECT DISTINCT at.owner_device || '/' || at.group_id
            FROM file AS copy JOIN file_system AS at ON at.id = copy.file_system_id
            WHERE copy.instance_id = ours.instance_id AND copy.file_system_id <> ours.file_system_id
              AND copy.file_system_id = ANY(:counting) AND copy.status = ANY(:good)
              AND (CAST(:seen AS bigint[]) IS NULL OR copy.id = ANY(CAST(:seen AS bigint[])))
              AND (NOT copy.file_system_id = ANY(CAST(:unmounted AS bigint[]))
                   OR copy.checked_at BETWEEN now() - :verified AND now() + :ahead)
              AND (copy.sha256 = ours.sha256 OR NOT ours.status = ANY(:good))
            ORDER BY 1) AS groups
        FROM unnest(CAST(:studies AS bigint[]), CAST(:systems AS bigint[])) AS asked (study_id, file_system_id)
        JOIN series ON series.study_id = asked.study_id
        JOIN instance ON instance.series_id = series.id
        JOIN file AS ours ON ours.instance_id = instance.id AND ours.file_system_id = asked.file_system_id
    ) AS objects
    GROUP BY study_id, file_system_id, groups
    """
)


def _held(
    session: Session, places: Collection[Place], counting: Sequence[int], disks: Disks
) -> dict[Place, tuple[int, tuple[Held, ...]]]:
    """Return for each place the bytes there, and its objects by the groups that have a copy of them."""
    # Only a plan that knows the array hashes it; the one for all arrays searches it anew for each copy.
    session.execute(text("SET LOCAL plan_cache_mode = force_custom_plan"))
    rows = session.execute(
        _HELD,
        {
            "studies": [place.study_id for place in places],
            "systems": [place.file_system_id for place in places],
            "counting": list(counting),
            "good": [status.value for status in model.GOOD_FILES],
            "seen": None if disks.seen is None else sorted(disks.seen),
            "unmounted": sorted(disks.unmounted),
            "verified": VERIFIED_FOR,
            "ahead": CLOCK_AHEAD,
        },
    ).all()
    found: dict[Place, tuple[int, tuple[Held, ...]]] = {}
    for row in rows:
        place = Place(row.study_id, row.file_system_id)
        size_bytes, groups = found.get(place, (0, ()))
        one = Held(frozenset(row.groups), row.num_objects)
        found[place] = (size_bytes + int(row.size_bytes), (*groups, one))
    return found
