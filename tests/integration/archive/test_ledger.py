"""What is counted and noted beside the objects themselves."""

from __future__ import annotations

from pathlib import Path

from archive_agreement import count_of, incoming, write_object
from sqlalchemy import func, select, update

from archive import db, ledger, model
from archive.storage import ingest


def test_bytes_from_outside_are_counted_by_hour_and_source(online: model.FileSystem, tmp_path: Path) -> None:
    one, two = (incoming(write_object(tmp_path / str(n), sop=f"1.2.1.1.{n}", Modality="CT")) for n in (1, 2))

    ingest.store(online, [one], source="MODALITY")
    ingest.store(online, [one, two], source="MODALITY")

    with db.transaction() as session:
        book = session.scalars(select(model.BytesReceived)).one()
    assert (book.device_name, book.source, book.num_objects) == ("archive-a", "MODALITY", 2)
    assert book.size_bytes == sum((tmp_path / str(n)).stat().st_size for n in (1, 2))
    assert (book.hour.minute, book.hour.second, book.hour.utcoffset() is not None) == (0, 0, True)


def test_series_is_receiving_until_it_is_closed_or_silent(online: model.FileSystem, tmp_path: Path) -> None:
    ingest.store(online, [incoming(write_object(tmp_path / "1"))], source="MODALITY")
    with db.transaction() as session:
        assert session.scalars(select(model.Series.state)).one() is model.SeriesState.RECEIVING
        assert ledger.close_silent_series(session) == 0
        assert ledger.close_series(session, [("1.2.1", "1.2.1.1"), ("1.2.1", "1.2.1.9")]) == 1
        assert session.scalars(select(model.Series.state)).one() is model.SeriesState.STORED

    ingest.store(online, [incoming(write_object(tmp_path / "2", sop="1.2.1.1.2"))], source="MODALITY")

    with db.transaction() as session:
        session.execute(update(model.Series).values(last_received_at=func.now() - ledger.SERIES_SILENCE * 2))
        assert ledger.close_silent_series(session) == 1


def test_arriving_object_takes_back_the_mark_for_deletion(online: model.FileSystem, tmp_path: Path) -> None:
    ingest.store(online, [incoming(write_object(tmp_path / "1"))])
    with db.transaction() as session:
        row = session.scalars(select(model.StudyOnFileSystem)).one()
        row.marked_at, row.mark_reason, row.mark_task_id, row.mark_bytes = func.now(), "space", 7, 100

    ingest.store(online, [incoming(write_object(tmp_path / "2", sop="1.2.1.1.2"))])

    with db.transaction() as session:
        row = session.scalars(select(model.StudyOnFileSystem)).one()
        assert (row.marked_at, row.mark_reason, row.mark_task_id, row.mark_bytes) == (None,) * 4


def test_gaps_of_a_study_are_filled_and_its_first_values_kept(online: model.FileSystem, tmp_path: Path) -> None:
    first = write_object(tmp_path / "1", StudyDescription="Head", PatientName="First^Name")
    second = write_object(
        tmp_path / "2", sop="1.2.1.1.2", StudyDescription="Knee", AccessionNumber="A1", PatientID="P2"
    )

    ingest.store(online, [incoming(first)])
    ingest.store(online, [incoming(second)])

    with db.transaction() as session:
        study = session.scalars(select(model.Study)).one()
        assert (study.description, study.accession_number) == ("Head", "A1")
        assert [p.name for p in session.scalars(select(model.Patient))] == ["First^Name"]


def test_studies_without_patient_id_are_of_different_patients(online: model.FileSystem, tmp_path: Path) -> None:
    paths = [write_object(tmp_path / str(n), f"1.2.{n}", f"1.2.{n}.1", f"1.2.{n}.1.1", PatientID="") for n in (1, 2)]

    ingest.store(online, [incoming(p) for p in paths])

    assert count_of(model.Patient) == 2
