"""Which studies, series or objects of the index a query means: DICOM keys, with wildcards, ranges and lists of UIDs.

Source: PS3.4 C.2.2.2 (attribute matching), PS3.18 10.6 (the same in a URL).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import QueryableAttribute, Session

from archive.errors import InvalidKey
from archive.model import Instance, Patient, Series, Study
from archive.query import Entity


class Level(StrEnum):
    """What one match is; the values are those of the paths of PS3.18."""

    STUDY = "studies"
    SERIES = "series"
    INSTANCE = "instances"


#: The identity of each level, whose numbers grow with time.
_IDS: Mapping[Level, QueryableAttribute[int]] = {
    Level.STUDY: Study.id,
    Level.SERIES: Series.id,
    Level.INSTANCE: Instance.id,
}
_DEPTHS = tuple(Level)

Condition = Callable[[Any, str], ColumnElement[bool]]


@dataclass(frozen=True, slots=True)
class Key:
    """An attribute that the index can be asked for."""

    keyword: str
    #: Eight hexadecimal digits.
    tag: str
    #: The shallowest level whose matches have it.
    level: Level
    column: QueryableAttribute[Any]
    condition: Condition
    expected: str


@dataclass(frozen=True, slots=True)
class Matching:
    """A query: the level of its matches, and what must hold of each."""

    level: Level
    conditions: tuple[ColumnElement[bool], ...]


class Match(NamedTuple):
    """One match, and its number: those of a query come in the order of numbers."""

    number: int
    entity: Entity


def keys_of(level: Level) -> list[Key]:
    """Return the attributes that a query of this level may name."""
    return [key for key in KEYS if _DEPTHS.index(key.level) <= _DEPTHS.index(level)]


def read(level: Level, given: Iterable[tuple[Key, str]], *, within: Entity | None = None) -> Matching:
    """Return the query that keys with values mean; an empty value matches all (PS3.4 C.2.2.2.3).

    Args:
        level: what a match is.
        given: keys of `keys_of(level)`, each with its value.
        within: a study, or series of it, that all matches belong to.

    Raises:
        InvalidKey: a value cannot be used; the text names key and value and what was expected.
    """
    conditions = []
    for key, value in given:
        if value.strip() not in ("", "*"):
            try:
                conditions.append(key.condition(key.column, value.strip()))
            except ValueError:
                raise InvalidKey(f"{key.keyword}={value}: expected {key.expected}") from None
    if within is not None:
        conditions.append(Study.study_uid == within.study_uid)
        if within.series_uid is not None:
            conditions.append(Series.series_uid == within.series_uid)
    return Matching(level, tuple(conditions))


def find(session: Session, matching: Matching, *, after: int, limit: int) -> list[Match]:
    """Return the next matches above a number."""
    number = _IDS[matching.level]
    columns = [Study.study_uid, Series.series_uid, Instance.sop_uid][: _DEPTHS.index(matching.level) + 1]
    wanted = _joined(_selected([number, *columns]), matching).where(number > after).order_by(number).limit(limit)
    return [Match(row[0], Entity(*row[1:])) for row in session.execute(wanted)]


def count(session: Session, matching: Matching) -> int:
    """Return how many match."""
    return int(session.scalars(_joined(select(func.count()), matching)).one())


def highest(session: Session, level: Level) -> int:
    """Return the largest number of a level: what comes later is above it."""
    return session.scalar(select(func.max(_IDS[level]))) or 0


def _selected(columns: Sequence[QueryableAttribute[Any]]) -> Select[Any]:
    return select(*columns)


def _joined(selected: Select[Any], matching: Matching) -> Select[Any]:
    depth = _DEPTHS.index(matching.level)
    found = selected.select_from(Study).join(Patient, Patient.id == Study.patient_id)
    if depth >= 1:
        found = found.join(Series, Series.study_id == Study.id)
    if depth >= 2:
        found = found.join(Instance, Instance.series_id == Series.id)
    return found.where(*matching.conditions)


def _escaped(text: str) -> str:
    """Return the pattern of LIKE for a text with the wildcards of DICOM. Source: PS3.4 C.2.2.2.4."""
    return re.sub(r"([%_\\])", r"\\\1", text).replace("*", "%").replace("?", "_")


def _uids(column: Any, text: str) -> ColumnElement[bool]:
    found = [uid.strip() for uid in re.split(r"[,\\]", text) if uid.strip()]
    if not found or not all(re.fullmatch(r"[0-9]+(\.[0-9]+)*", uid, re.ASCII) for uid in found):
        raise ValueError(text)
    condition: ColumnElement[bool] = column == found[0] if len(found) == 1 else column.in_(found)
    return condition


def _text(column: Any, text: str) -> ColumnElement[bool]:
    condition: ColumnElement[bool] = column.like(_escaped(text)) if re.search(r"[*?]", text) else column == text
    return condition


def _name(column: Any, text: str) -> ColumnElement[bool]:
    # Names are compared whatever their letter case (PS3.4 C.2.2.2.1), and by any of their component groups; a name
    # without wildcards names the whole group.
    pattern = _escaped(text)
    alternatives: ColumnElement[bool] = column.ilike(pattern)
    for place in (f"{pattern}=%", f"%={pattern}", f"%={pattern}=%"):
        alternatives |= column.ilike(place)
    return alternatives


def _number(column: Any, text: str) -> ColumnElement[bool]:
    if re.fullmatch(r"[+-]?\d{1,10}", text, re.ASCII) is None or abs(int(text)) >= 2**31:
        raise ValueError(text)
    condition: ColumnElement[bool] = column == int(text)
    return condition


def _member(column: Any, text: str) -> ColumnElement[bool]:
    if re.search(r"[*?]", text) is None:
        return column.contains([text])  # type: ignore[no-any-return]
    # Values have no backslash in them, so that it separates them.
    pattern = re.escape(text).replace(r"\*", r"[^\\]*").replace(r"\?", r"[^\\]")
    return func.array_to_string(column, "\\").regexp_match(rf"(^|\\){pattern}(\\|$)")


def _range(parse: Callable[[str, bool], Any]) -> Condition:
    """Return the condition of `A-B`, `A-`, `-B` or `A`. Source: PS3.4 C.2.2.2.5."""

    def condition(column: Any, text: str) -> ColumnElement[bool]:
        low, hyphen, high = (part.strip() for part in text.partition("-"))
        if not low and not high:
            raise ValueError(text)
        begin = parse(low, False) if low else None
        end = parse(high if hyphen else low, True) if high or not hyphen else None
        if begin is None:
            return column <= end  # type: ignore[no-any-return]
        return column >= begin if end is None else column.between(begin, end)  # type: ignore[no-any-return]

    return condition


def _date(text: str, is_end: bool) -> date:
    del is_end
    if re.fullmatch(r"\d{8}", text, re.ASCII) is None:
        raise ValueError(text)
    return date(int(text[:4]), int(text[4:6]), int(text[6:]))


def _time(text: str, is_end: bool) -> time:
    found = re.fullmatch(r"(\d{2})(\d{2})?(\d{2})?(?:\.(\d{1,6}))?", text, re.ASCII)
    if found is None or (found[4] and not found[3]):
        raise ValueError(text)
    rest = (59, 59) if is_end else (0, 0)
    hour, minute, second = int(found[1]), int(found[2] or rest[0]), int(found[3] or rest[1])
    fraction = found[4] or ""
    return time(hour, minute, min(second, 59), int(fraction.ljust(6, "9" if is_end else "0")))


_UIDS = "UIDs with commas between"
_TEXTS = "a text, * and ? for what is not known"
_DATES = "a date yyyyMMdd, or a range A-B, A- or -B of dates"
_TIMES = "a time HHmmss, or a range A-B, A- or -B of times"
_NUMBERS = "a whole number"

KEYS = (
    Key("StudyInstanceUID", "0020000D", Level.STUDY, Study.study_uid, _uids, _UIDS),
    Key("PatientID", "00100020", Level.STUDY, Patient.patient_id, _text, _TEXTS),
    Key("IssuerOfPatientID", "00100021", Level.STUDY, Patient.issuer, _text, _TEXTS),
    Key("PatientName", "00100010", Level.STUDY, Patient.name, _name, _TEXTS),
    Key("PatientBirthDate", "00100030", Level.STUDY, Patient.birth_date, _range(_date), _DATES),
    Key("PatientSex", "00100040", Level.STUDY, Patient.sex, _text, _TEXTS),
    Key("StudyDate", "00080020", Level.STUDY, Study.study_date, _range(_date), _DATES),
    Key("StudyTime", "00080030", Level.STUDY, Study.study_time, _range(_time), _TIMES),
    Key("AccessionNumber", "00080050", Level.STUDY, Study.accession_number, _text, _TEXTS),
    Key("StudyID", "00200010", Level.STUDY, Study.study_id, _text, _TEXTS),
    Key("StudyDescription", "00081030", Level.STUDY, Study.description, _text, _TEXTS),
    Key("ReferringPhysicianName", "00080090", Level.STUDY, Study.referring_physician, _name, _TEXTS),
    Key("ModalitiesInStudy", "00080061", Level.STUDY, Study.modalities, _member, _TEXTS),
    Key("NumberOfStudyRelatedSeries", "00201206", Level.STUDY, Study.num_series, _number, _NUMBERS),
    Key("NumberOfStudyRelatedInstances", "00201208", Level.STUDY, Study.num_instances, _number, _NUMBERS),
    Key("SeriesInstanceUID", "0020000E", Level.SERIES, Series.series_uid, _uids, _UIDS),
    Key("Modality", "00080060", Level.SERIES, Series.modality, _text, _TEXTS),
    Key("SeriesNumber", "00200011", Level.SERIES, Series.number, _number, _NUMBERS),
    Key("SeriesDescription", "0008103E", Level.SERIES, Series.description, _text, _TEXTS),
    Key("NumberOfSeriesRelatedInstances", "00201209", Level.SERIES, Series.num_instances, _number, _NUMBERS),
    Key("SOPInstanceUID", "00080018", Level.INSTANCE, Instance.sop_uid, _uids, _UIDS),
    Key("SOPClassUID", "00080016", Level.INSTANCE, Instance.sop_class_uid, _uids, _UIDS),
    Key("InstanceNumber", "00200013", Level.INSTANCE, Instance.number, _number, _NUMBERS),
)
