"""Queries of the index: what each key matches, at each level."""

from __future__ import annotations

from datetime import date, time

import pytest

from archive import db, matching
from archive.errors import InvalidKey
from archive.matching import Level
from archive.query import Entity
from tests import indexed

KEYWORDS = {key.keyword: key for key in matching.KEYS}


@pytest.fixture(autouse=True)
def _index(database: str) -> None:
    indexed.study(
        "1.1", {"1.1.1": ["1.1.1.1", "1.1.1.2"], "1.1.2": ["1.1.2.1"]},
        patient={"patient_id": "4711", "issuer": "HOSP", "name": "Müller^Anna=MUELLER^ANNA", "sex": "F",
                 "birth_date": date(1980, 2, 29)},
        study_date=date(2026, 1, 31), study_time=time(14, 5, 9), accession_number="A%1", study_id="S_1",
        description="Thorax [CT]", num_series=2, num_instances=3, modalities=["CT", "SR"],
    )  # fmt: skip
    indexed.study(
        "1.2", {"1.2.1": ["1.2.1.1"]}, modality="MR",
        patient={"patient_id": "4712", "name": "Maier^Anna", "sex": "F"},
        study_date=date(2026, 2, 1), study_time=time(8), accession_number="AX1", study_id="SX1",
        num_series=1, num_instances=1,
    )  # fmt: skip
    indexed.study("1.3", {"1.3.1": []}, modality="CTA")


def matched(level: Level = Level.STUDY, within: Entity | None = None, **keys: str) -> list[str]:
    """Return the UIDs of the deepest level of what matches."""
    wanted = matching.read(level, [(KEYWORDS[name], value) for name, value in keys.items()], within=within)
    with db.transaction() as session:
        found = matching.find(session, wanted, after=0, limit=100)
        assert matching.count(session, wanted) == len(found)
    return [[uid for uid in match.entity if uid][-1] for match in found]


@pytest.mark.parametrize(
    ("keyword", "value", "studies"),
    [
        ("StudyInstanceUID", "1.1", ["1.1"]),
        ("StudyInstanceUID", "1.3,1.1", ["1.1", "1.3"]),
        ("StudyInstanceUID", "1.3\\1.1\\9.9", ["1.1", "1.3"]),
        ("PatientID", "4711", ["1.1"]),
        ("PatientID", "471?", ["1.1", "1.2"]),
        ("PatientID", "471", []),
        ("IssuerOfPatientID", "HOSP", ["1.1"]),
        ("PatientName", "maier^anna", ["1.2"]),
        ("PatientName", "*^Anna", ["1.1", "1.2"]),
        ("PatientName", "mueller^anna", ["1.1"]),
        ("PatientName", "Müller", []),
        ("PatientSex", "F", ["1.1", "1.2"]),
        ("PatientBirthDate", "19800229", ["1.1"]),
        ("StudyDate", "20260131", ["1.1"]),
        ("StudyDate", "20260101-20260131", ["1.1"]),
        ("StudyDate", "20260201-", ["1.2"]),
        ("StudyDate", "-20260131", ["1.1"]),
        ("StudyTime", "14", ["1.1"]),
        ("StudyTime", "14-15", ["1.1"]),
        ("StudyTime", "-0800", ["1.2"]),
        ("StudyTime", "140509", ["1.1"]),
        ("AccessionNumber", "A%1", ["1.1"]),
        ("AccessionNumber", "A*", ["1.1", "1.2"]),
        ("StudyID", "S_?", ["1.1"]),
        ("StudyDescription", "Thorax [CT]", ["1.1"]),
        ("StudyDescription", "*[CT]*", ["1.1"]),
        ("ModalitiesInStudy", "SR", ["1.1"]),
        ("ModalitiesInStudy", "CT", ["1.1"]),
        ("ModalitiesInStudy", "C*", ["1.1", "1.3"]),
        ("ModalitiesInStudy", "?R", ["1.1", "1.2"]),
        ("NumberOfStudyRelatedSeries", "2", ["1.1"]),
        ("NumberOfStudyRelatedInstances", "1", ["1.2"]),
        ("AccessionNumber", "", ["1.1", "1.2", "1.3"]),
        ("AccessionNumber", "*", ["1.1", "1.2", "1.3"]),
    ],
)
def test_key_matches(keyword: str, value: str, studies: list[str]) -> None:
    assert matched(**{keyword: value}) == studies


def test_all_keys_must_match() -> None:
    assert matched(PatientSex="F", StudyDate="20260201") == ["1.2"]


def test_series_and_objects() -> None:
    assert matched(Level.SERIES, Modality="CT") == ["1.1.1", "1.1.2"]
    assert matched(Level.SERIES, PatientID="4711", SeriesNumber="2") == ["1.1.2"]
    assert matched(Level.INSTANCE, PatientSex="F", InstanceNumber="1") == ["1.1.1.1", "1.1.2.1", "1.2.1.1"]
    assert matched(Level.INSTANCE, SOPInstanceUID="1.1.1.2") == ["1.1.1.2"]


def test_what_the_path_names_bounds_the_matches() -> None:
    assert matched(Level.SERIES, within=Entity("1.1")) == ["1.1.1", "1.1.2"]
    assert matched(Level.INSTANCE, within=Entity("1.1", "1.1.1")) == ["1.1.1.1", "1.1.1.2"]
    assert matched(Level.INSTANCE, within=Entity("1.2", "1.1.1")) == []


def test_pages_follow_each_other() -> None:
    wanted = matching.read(Level.STUDY, [])
    with db.transaction() as session:
        first = matching.find(session, wanted, after=0, limit=2)
        second = matching.find(session, wanted, after=first[-1].number, limit=2)
        highest = matching.highest(session, Level.STUDY)

    assert [match.entity.study_uid for match in [*first, *second]] == ["1.1", "1.2", "1.3"]
    assert highest == second[-1].number


def test_keys_of_deeper_levels_are_none_of_studies() -> None:
    assert {key.keyword for key in matching.keys_of(Level.STUDY)} < {k.keyword for k in matching.keys_of(Level.SERIES)}
    assert "Modality" not in {key.keyword for key in matching.keys_of(Level.STUDY)}


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("StudyInstanceUID", "1.2.*"), ("StudyDate", "2026"), ("StudyDate", "20260230"), ("StudyDate", "-"),
        ("StudyTime", "25"), ("StudyTime", "14.5"), ("InstanceNumber", "one"), ("InstanceNumber", "9999999999"),
        ("StudyInstanceUID", ","),
    ],
)  # fmt: skip
def test_value_that_cannot_be_used_is_named(keyword: str, value: str) -> None:
    with pytest.raises(InvalidKey, match=f"^{keyword}=.*: expected "):
        matched(Level.INSTANCE, **{keyword: value})
