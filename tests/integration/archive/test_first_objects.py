"""First objects of a series that an association brings: one statement leaves the rows of the thorough way."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from archive_agreement import disagreements, unlink_list
from offering import Sendable, made, reception, samples
from sqlalchemy import func, select, update

from archive import db, model
from archive.receiving import first
from archive.storage import indexing
from archive.storage.ingest import Ending
from tests.lab import stored

pytestmark = pytest.mark.usefixtures("home")

#: What an object is the first of, in turn; each line is an association.
STORY: list[list[dict[str, Any]]] = [
    [{"PatientID": "P1", "PatientName": "A^B", "StudyDate": "20260101"}],
    [{"study": 1, "series": 2, "Modality": "MR", "StudyTime": "101010.5", "AccessionNumber": "A 1"}],
    [{"study": 1, "series": 1, "number": 2, "StudyDate": "20270101", "SeriesNumber": "7"}],
    [{"study": 2, "PatientID": "P1", "PatientName": "C^D", "PatientSex": "F"}],
    [{"study": 3, "PatientID": "", "PatientName": "Nobody"}, {"study": 4, "PatientID": ""}],
    [{"study": 5, "IssuerOfPatientID": "Hospital", "Modality": ""}],
    [{"study": 5, "number": 2, "Modality": "US", "StudyDescription": "Größe", "SpecificCharacterSet": "ISO_IR 192"}],
    [{"study": 1, "series": 1, "number": 2, "StudyDate": "20270101", "SeriesNumber": "7"}],
]

#: What no two runs have in common.
_OWN = {"id", "created_at", "updated_at", "received_at", "last_received_at", "stored_at", "access_time", "path"}


def told(folder: Path, **values: Any) -> Sendable:
    return made(folder, values.pop("study", 1), values.pop("series", 1), values.pop("number", 1), **values)


def rows() -> dict[str, list[dict[str, object]]]:
    """Everything that the index and the books hold, but numbers and times."""
    found = {}
    with db.transaction() as session:
        for table in (model.Patient, model.Study, model.Series, model.Instance, model.File, model.StudyOnFileSystem):
            columns = [c for c in table.__table__.columns if c.name not in _OWN and not c.foreign_keys]
            key = next((c for c in columns if c.name.endswith("_uid")), columns[0])
            found[table.__tablename__] = [dict(row._mapping) for row in session.execute(select(*columns).order_by(key))]
        book = model.BytesReceived
        total = session.execute(select(book.device_name, book.source, func.sum(book.num_objects)).group_by(
            book.device_name, book.source)).all()  # fmt: skip
        whose = session.execute(
            select(model.Study.study_uid, model.Patient.patient_id, model.Patient.issuer, model.Patient.of_study_uid)
            .join(model.Patient, model.Patient.id == model.Study.patient_id)
            .order_by(model.Study.study_uid)
        ).all()
    return found | {"received": [dict(row._mapping) for row in total], "whose": [dict(row._mapping) for row in whose]}


def tell(folder: Path) -> list[Ending]:
    endings = []
    for association in STORY:
        now = reception()
        endings += [now.store(told(folder, **values).offered()).ending for values in association]
        now.close()
    return endings


def no_thorough_way(*_: object) -> None:
    raise AssertionError("an object took the thorough way")


def test_rows_are_those_of_the_thorough_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thorough = indexing.add
    with monkeypatch.context() as patched:
        patched.setattr(indexing, "add", no_thorough_way)
        quickly = tell(tmp_path / "quickly")
    assert (unlink_list(), disagreements()) == ([], [])
    found = rows()
    stored.forget()
    used: list[int] = []
    monkeypatch.setattr(first, "add", lambda *_: None)

    def noted(*given: Any) -> indexing.Added:
        used.append(1)
        return thorough(*given)

    monkeypatch.setattr(indexing, "add", noted)

    assert tell(tmp_path / "thoroughly") == quickly == [Ending.STORED] * 8 + [Ending.DUPLICATE]
    assert len(used) == 8
    assert rows() == found


def test_every_sample_takes_the_one_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "add", no_thorough_way)
    seen: set[str] = set()
    for sample in samples():
        now = reception()
        if sample.sop_uid not in seen:
            seen.add(sample.sop_uid)
            assert now.store(sample.offered()).ending is Ending.STORED, sample.name
        now.close()

    assert (unlink_list(), disagreements()) == ([], [])


def test_marked_study_is_unmarked_and_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = reception()
    now.store(made(tmp_path).offered())
    now.close()
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    with db.transaction() as session:
        marked = {"marked_at": long_ago, "mark_reason": "AGE", "mark_task_id": 7, "mark_bytes": 9}
        session.execute(update(model.StudyOnFileSystem).values(access_time=long_ago, **marked))
    monkeypatch.setattr(indexing, "add", no_thorough_way)

    again = reception()
    assert again.store(made(tmp_path, number=2).offered()).ending is Ending.STORED
    again.close()

    with db.transaction() as session:
        row = session.scalars(select(model.StudyOnFileSystem)).one()
    assert (row.marked_at, row.mark_reason, row.mark_task_id, row.mark_bytes) == (None, None, None, None)
    assert row.access_time > long_ago


def test_many_that_begin_the_same_study_at_once_agree(tmp_path: Path) -> None:
    objects = [made(tmp_path, series=n % 2 + 1, number=n) for n in range(8)]
    together = threading.Barrier(len(objects))
    endings: list[Ending] = []

    def receive(sent: Sendable) -> None:
        now = reception()
        together.wait()
        endings.append(now.store(sent.offered()).ending)
        now.close()

    threads = [threading.Thread(target=receive, args=[sent]) for sent in objects]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert endings == [Ending.STORED] * len(objects)
    with db.transaction() as session:
        study = session.scalars(select(model.Study)).one()
    assert (study.num_series, study.num_instances, study.modalities) == (2, len(objects), ["CT"])
    assert (unlink_list(), disagreements()) == ([], [])
