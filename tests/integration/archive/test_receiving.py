"""What an association brings is stored as it was sent, once, and the books are right."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pydicom
import pytest
from archive_agreement import archive_a, count_of, disagreements, sweep_at_once, unlink_list
from offering import Sendable, made, reception, samples, stored_data_sets
from sqlalchemy import func, select, update

from archive import db, errors, ledger, model
from archive.receiving.reception import Offered
from archive.storage import files
from archive.storage.ingest import Ending

pytestmark = pytest.mark.usefixtures("home")


def one(table: type[db.Base]) -> db.Base:
    with db.transaction() as session:
        return session.scalars(select(table)).one()


def store_all(objects: list[Sendable], source: str = "MODALITY") -> list[Ending]:
    receiving_now = reception(source)
    endings = [receiving_now.store(o.offered()).ending for o in objects]
    receiving_now.close()
    return endings


def test_every_sample_is_kept_as_it_was_sent() -> None:
    expected: dict[str, bytes] = {}
    for sample in samples():
        expected.setdefault(sample.sop_uid, sample.data_set)

    endings = store_all(samples())

    assert {uid: [content] for uid, content in expected.items()} == stored_data_sets()
    assert endings.count(Ending.STORED) == len(expected)
    assert (unlink_list(), disagreements()) == ([], [])


def test_file_begins_with_file_meta_information_of_ours(tmp_path: Path) -> None:
    sent = made(tmp_path)

    store_all([sent], "CT_1")

    file = one(model.File)
    with db.transaction() as session:
        root = session.get_one(model.FileSystem, file.file_system_id).path
    path = Path(root, file.path)
    meta = pydicom.dcmread(path).file_meta
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (sent.sop_class_uid, sent.sop_uid)
    assert (meta.TransferSyntaxUID, meta.SourceApplicationEntityTitle) == (sent.transfer_syntax_uid, "CT_1")
    assert meta.FileMetaInformationGroupLength == len(path.read_bytes()) - len(sent.data_set) - 144
    assert (file.sha256, file.size_bytes, file.source) == (files.digest_of(path), path.stat().st_size, "CT_1")


def test_objects_of_many_series_are_indexed_and_counted(tmp_path: Path) -> None:
    objects = [made(tmp_path, study, series, n) for n in range(1, 8) for study in (1, 2) for series in (1, 2)]

    assert store_all(objects) == [Ending.STORED] * 28

    assert (count_of(model.Study), count_of(model.Series), count_of(model.Instance)) == (2, 4, 28)
    book = one(model.BytesReceived)
    with db.transaction() as session:
        size_bytes = session.scalar(select(func.sum(model.File.size_bytes)))
    assert (book.device_name, book.source, book.num_objects, book.size_bytes) == (
        "archive-a", "MODALITY", 28, size_bytes,
    )  # fmt: skip
    assert (unlink_list(), disagreements()) == ([], [])


def test_series_is_receiving_until_its_association_closes(tmp_path: Path) -> None:
    now = reception()
    for number in (1, 2, 3):
        now.store(made(tmp_path, number=number).offered())
    assert one(model.Series).state is model.SeriesState.RECEIVING

    now.close()

    series = one(model.Series)
    assert (series.state, series.num_instances) == (model.SeriesState.STORED, 3)
    assert series.stored_at is not None


def test_closed_series_receives_again(tmp_path: Path) -> None:
    store_all([made(tmp_path, number=1), made(tmp_path, number=2)])
    now = reception()

    for number in (3, 4):
        now.store(made(tmp_path, number=number).offered())

        assert one(model.Series).state is model.SeriesState.RECEIVING
    now.close()


def test_series_that_was_silent_receives_again(tmp_path: Path) -> None:
    now = reception()
    for number in (1, 2):
        now.store(made(tmp_path, number=number).offered())
    with db.transaction() as session:
        assert ledger.close_silent_series(session, timedelta(seconds=-1)) == 1

    now.store(made(tmp_path, number=3).offered())

    assert one(model.Series).state is model.SeriesState.RECEIVING
    now.close()


def test_names_in_reserve_are_given_back(tmp_path: Path) -> None:
    now = reception()
    for number in range(10):
        now.store(made(tmp_path, number=number).offered())
    assert {reason for reason, _ in unlink_list()} == {"storing"}

    now.close()

    assert unlink_list() == []


def test_same_bytes_are_a_duplicate_whoever_sends_them_and_whatever_the_policy(tmp_path: Path) -> None:
    sent = made(tmp_path)
    store_all([sent], "CT_1")

    for policy in ("NEVER", "ALWAYS", "SAME_SOURCE"):
        for source in ("CT_1", "CT_2"):
            again = reception(source, device=replace(archive_a(), overwrite_policy=policy))
            assert again.store(sent.offered()).ending is Ending.DUPLICATE
            again.close()

    assert (count_of(model.File), one(model.BytesReceived).num_objects) == (1, 1)
    assert (unlink_list(), disagreements()) == ([], [])


@pytest.mark.parametrize(
    ("policy", "source", "ending"),
    [
        ("NEVER", "CT_1", Ending.DIFFERS),
        ("ALWAYS", "CT_2", Ending.STORED),
        ("SAME_SOURCE", "CT_1", Ending.STORED),
        ("SAME_SOURCE", "CT_2", Ending.DIFFERS),
    ],
)
def test_other_bytes_replace_the_first_only_by_the_rule(
    tmp_path: Path, policy: str, source: str, ending: Ending
) -> None:
    first, second = made(tmp_path), made(tmp_path, PatientComments="corrected")
    store_all([first], "CT_1")
    before = one(model.File)

    now = reception(source, device=replace(archive_a(), overwrite_policy=policy))
    assert now.store(second.offered()).ending is ending
    now.close()

    kept = second if ending is Ending.STORED else first
    assert stored_data_sets() == {first.sop_uid: [kept.data_set]}
    assert unlink_list() == ([("replaced", before.path)] if kept is second else [])
    assert disagreements() == []


def test_replacing_takes_away_the_copies_of_the_first_everywhere(tmp_path: Path) -> None:
    store_all([made(tmp_path)])
    first = one(model.File)
    with db.transaction() as session:
        other = session.scalars(select(model.FileSystem).where(model.FileSystem.group_id == "NEARLINE_STORAGE")).one()
        root = session.get_one(model.FileSystem, first.file_system_id).path
        files.write(Path(other.path), first.path, Path(root, first.path).read_bytes())
        values = {"path": first.path, "size_bytes": first.size_bytes, "sha256": first.sha256}
        session.add(
            model.File(instance_id=first.instance_id, file_system_id=other.id, transfer_syntax_uid="1.2", **values)
        )
        study_id = session.scalars(select(model.Study.id)).one()
        session.add(model.StudyOnFileSystem(study_id=study_id, file_system_id=other.id))
    second = made(tmp_path, PatientComments="corrected")

    now = reception(device=replace(archive_a(), overwrite_policy="ALWAYS"))
    assert now.store(second.offered()).ending is Ending.STORED
    now.close()

    assert stored_data_sets() == {second.sop_uid: [second.data_set]}
    assert [reason for reason, _ in unlink_list()] == ["replaced", "replaced"]
    assert disagreements() == []


def test_object_of_another_study_never_replaces(tmp_path: Path) -> None:
    first = made(tmp_path)
    store_all([first])
    stray = made(tmp_path, study=2)
    moved = stray._replace(sop_uid=first.sop_uid, data_set=stray.data_set.replace(b"1.2.2.1.1", b"1.2.1.1.1"))

    now = reception(device=replace(archive_a(), overwrite_policy="ALWAYS"))
    assert now.store(moved.offered()).ending is Ending.DIFFERS
    now.close()

    assert (count_of(model.Study), stored_data_sets()) == (1, {first.sop_uid: [first.data_set]})
    assert (unlink_list(), disagreements()) == ([], [])


@pytest.mark.parametrize("hours_ago", [0, 2])
@pytest.mark.parametrize("objects", [1, 5])
def test_arriving_object_takes_back_the_mark_and_touches(tmp_path: Path, objects: int, hours_ago: int) -> None:
    now = reception()
    for number in range(objects):
        now.store(made(tmp_path, number=number).offered())
    with db.transaction() as session:
        session.execute(
            update(model.StudyOnFileSystem).values(
                marked_at=func.now(), mark_reason="age", mark_task_id=7, mark_bytes=1,
                access_time=func.now() - timedelta(hours=hours_ago),
            )
        )  # fmt: skip

    now.store(made(tmp_path, number=objects).offered())

    row = one(model.StudyOnFileSystem)
    assert (row.marked_at, row.mark_reason, row.mark_task_id, row.mark_bytes) == (None,) * 4
    with db.transaction() as session:
        assert session.scalar(select(func.now())) - row.access_time < timedelta(hours=1)
    now.close()


def test_duplicate_takes_back_the_mark_too(tmp_path: Path) -> None:
    sent = made(tmp_path)
    store_all([sent])
    with db.transaction() as session:
        session.execute(update(model.StudyOnFileSystem).values(marked_at=func.now(), mark_task_id=7))

    store_all([sent])

    assert (one(model.StudyOnFileSystem).marked_at, one(model.StudyOnFileSystem).mark_task_id) == (None, None)


def test_study_that_was_deleted_from_the_file_system_meanwhile_gets_its_ledger_row_again(tmp_path: Path) -> None:
    now = reception()
    for number in (1, 2):
        now.store(made(tmp_path, number=number).offered())
    with db.transaction() as session:
        for file in session.scalars(select(model.File)):
            session.add(
                model.Unlink(file_system_id=file.file_system_id, path=file.path, reason=model.UnlinkReason.DELETED)
            )
            session.delete(file)
        session.delete(session.scalars(select(model.StudyOnFileSystem)).one())

    assert now.store(made(tmp_path, number=3).offered()).ending is Ending.STORED
    now.close()

    assert count_of(model.StudyOnFileSystem) == 1
    assert disagreements() == []


def test_later_objects_fill_gaps_and_add_modalities(tmp_path: Path) -> None:
    now = reception()
    now.store(made(tmp_path, number=1).offered())
    now.store(made(tmp_path, number=2, StudyDescription="Head", SeriesNumber=3).offered())
    now.store(made(tmp_path, number=3, StudyDescription="Knee", AccessionNumber="A1").offered())
    now.store(made(tmp_path, number=4, Modality="MR").offered())
    now.close()

    study, series = one(model.Study), one(model.Series)
    assert (study.description, study.accession_number, study.modalities) == ("Head", "A1", ["CT", "MR"])
    assert (series.number, series.num_instances, study.num_instances) == (3, 4, 4)


def test_object_that_is_not_the_announced_one_is_refused(tmp_path: Path) -> None:
    sent = made(tmp_path)
    now = reception()

    with pytest.raises(errors.NotAsAnnounced, match=r"is object 1\.2\.1\.1\.1 of class .*, announced was 1\.9"):
        now.store(sent._replace(sop_uid="1.9").offered())
    with pytest.raises(errors.NotAsAnnounced, match=r"of class 1\.9"):
        now.store(sent._replace(sop_class_uid="1.9").offered())
    now.close()

    assert (count_of(model.Instance), unlink_list(), disagreements()) == (0, [], [])


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, b"\x08\x00\x16\x00UI\x04\x001.2\x00"])
def test_what_is_no_object_is_refused(content: bytes) -> None:
    now = reception()

    with pytest.raises(errors.NotStorable):
        now.store(Offered("1.2", "1.3", "1.2.840.10008.1.2.1", iter([content] if content else [])))
    now.close()

    assert (count_of(model.Instance), unlink_list(), disagreements()) == (0, [], [])


def test_association_lost_in_the_middle_of_an_object_leaves_nothing(tmp_path: Path) -> None:
    sent = made(tmp_path, EncapsulatedDocument=bytes(100_000))

    def chunks() -> Iterator[bytes]:
        yield sent.data_set[:50_000]
        raise errors.PeerAborted("CT_1 at 127.0.0.1:104: connection closed")

    now = reception()
    with pytest.raises(errors.PeerAborted):
        now.store(Offered(sent.sop_class_uid, sent.sop_uid, sent.transfer_syntax_uid, chunks()))
    assert disagreements() == []
    assert now.store(sent.offered()).ending is Ending.STORED
    now.close()

    assert (count_of(model.Instance), unlink_list(), disagreements()) == (1, [], [])


def test_header_behind_more_bytes_than_are_kept_in_memory_is_read_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archive.receiving.reception._LARGEST_HEADER", 10_000)
    private = struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, 200_000) + bytes(200_000)
    plain = made(tmp_path)
    at = plain.data_set.index(struct.pack("<HH", 0x0010, 0x0020))
    sent = plain._replace(data_set=plain.data_set[:at] + private + plain.data_set[at:])
    now = reception()

    assert now.store(sent.offered()).ending is Ending.STORED
    with pytest.raises(errors.NotAsAnnounced):
        now.store(sent._replace(sop_uid="1.9").offered())
    now.close()

    assert stored_data_sets() == {sent.sop_uid: [sent.data_set]}
    assert (unlink_list(), disagreements()) == ([], [])


def test_names_that_a_sweep_has_cleared_do_not_hinder(tmp_path: Path) -> None:
    now = reception()
    now.store(made(tmp_path, number=1).offered())
    sweep_at_once("archive-a")

    assert [now.store(made(tmp_path, number=n).offered()).ending for n in (2, 3)] == [Ending.STORED] * 2
    now.close()

    assert (count_of(model.File), unlink_list(), disagreements()) == (3, [], [])


@pytest.mark.parametrize("step", ["listed", "part", "renamed", "synced"])
def test_sweep_in_the_middle_of_an_object_loses_at_most_that(tmp_path: Path, step: str) -> None:
    swept = []

    def sweep(done: str) -> None:
        if done == step and not swept:
            swept.append(sweep_at_once("archive-a"))

    now = reception(after_step=sweep)
    try:
        endings = [now.store(made(tmp_path, number=1).offered()).ending]
    except errors.StorageError:
        endings = []
    endings.append(now.store(made(tmp_path, number=2).offered()).ending)
    now.close()

    assert set(endings) == {Ending.STORED}
    assert (count_of(model.File), unlink_list(), disagreements()) == (len(endings), [], [])


def test_header_without_optional_values_is_indexed_by_the_quick_way_too(tmp_path: Path) -> None:
    now = reception()

    for number in range(1, 10):
        now.store(made(tmp_path, number=number, InstanceNumber="" if number % 2 else str(10**number)).offered())
    now.close()

    with db.transaction() as session:
        numbers = session.scalars(select(model.Instance.number).order_by(model.Instance.id)).all()
    assert numbers == [None, 10**2, None, 10**4, None, 10**6, None, 10**8, None]


def test_slow_disk_of_one_association_holds_up_no_other_at_the_same_study(tmp_path: Path) -> None:
    stuck, go_on = threading.Event(), threading.Event()
    objects = iter(range(100))

    def slow(done: str) -> None:
        if done == "part":
            time.sleep(0.05)  # as a disk that turns
        if done == "renamed" and next(objects) == 3:
            stuck.set()
            assert go_on.wait(60)

    def receive() -> None:
        now = reception(after_step=slow)
        for number in range(4):
            now.store(made(tmp_path, number=number).offered())
        now.close()

    one_that_waits = threading.Thread(target=receive)
    one_that_waits.start()
    assert stuck.wait(60)
    other = reception()
    try:
        for number in range(10, 14):
            assert other.store(made(tmp_path, number=number).offered()).ending is Ending.STORED
    finally:
        go_on.set()
    other.close()
    one_that_waits.join()

    assert (count_of(model.Instance), unlink_list(), disagreements()) == (8, [], [])
