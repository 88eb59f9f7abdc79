"""The services that make tasks, called by the client that was written from their description alone."""

from __future__ import annotations

from datetime import date

import pytest

from tests import indexed
from tests.acceptance.wire.client import Archive
from tests.acceptance.wire.test_facts_client import STUDY, refused

RS = "aets/ARCHIVE_A/rs"
DIMSE = "aets/ARCHIVE_A/dimse/PACS"
DIFF = "aets/ARCHIVE_A/dimse/PACS/diff/ARCHIVE_B"

#: By kind of task: where its CSV goes, and where its tasks are listed.
CSV = {
    "export": (f"{RS}/studies/csv:1/export/Noop", "monitor/export"),
    "retrieve": (f"{DIMSE}/studies/csv:1/export/dicom:ARCHIVE_B", "monitor/retrieve"),
    "diff": (f"{DIFF}/studies/csv:1", "monitor/diff"),
    "stgver": (f"{RS}/studies/csv:1/stgver", "monitor/stgver"),
}


@pytest.fixture(autouse=True)
def _index(archive: Archive) -> None:
    indexed.empty()


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (f"studies/{STUDY}", [STUDY]), (f"studies/{STUDY}/series/1.3", [STUDY, "1.3"]),
        (f"studies/{STUDY}/series/1.3/instances/1.4", [STUDY, "1.3", "1.4"]),
    ],
)  # fmt: skip
def test_export_of_a_study_series_or_instance(archive: Archive, path: str, named: list[str]) -> None:
    task = archive.make_one(f"{RS}/{path}/export/Noop", {"batchID": "b", "scheduledTime": "20300115120000"})

    levels = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    assert [task[level] for level in levels if level in task] == named
    assert (task["type"], task["status"], task["queue"]) == ("EXPORT", "SCHEDULED", "Export")
    assert (task["LocalAET"], task["ExporterID"], task["batchID"]) == ("ARCHIVE_A", "Noop", "b")
    assert task["scheduledTime"] == "2030-01-15T12:00:00.000+0100"
    assert [one["taskID"] for one in archive.list("monitor/export", {"batchID": "b"})] == [task["taskID"]]


def test_retrieve_with_a_queue_is_a_task_and_an_equal_one_only_gets_earlier(archive: Archive) -> None:
    path = f"{DIMSE}/studies/{STUDY}/export/dicom:ARCHIVE_B"

    first = archive.make_one(path, {"dcmQueueName": "Retrieve", "scheduledTime": "20300115120000"})
    later = archive.make_one(path, {"dcmQueueName": "Retrieve", "scheduledTime": "20310115120000"})
    sooner = archive.make_one(path, {"dcmQueueName": "Retrieve", "scheduledTime": "20290115120000"})

    assert (first["LocalAET"], first["RemoteAET"], first["DestinationAET"]) == ("ARCHIVE_A", "PACS", "ARCHIVE_B")
    assert (first["queue"], first["statusCode"]) == ("Retrieve", "0000")
    assert {first["taskID"], later["taskID"], sooner["taskID"]} == {first["taskID"]}
    assert [later["scheduledTime"][:4], sooner["scheduledTime"][:4]] == ["2030", "2029"]
    assert archive.count("monitor/retrieve") == 1


def test_comparison_with_a_queue(archive: Archive) -> None:
    archive.queue_comparison(
        f"{DIFF}/studies", [("StudyDate", "20260101-"), ("missing", "true"), ("different", "false"), ("batchID", "b"),
                            ("comparefield", "PatientID"), ("comparefield", "00100010")],
    )  # fmt: skip

    [task] = archive.list("monitor/diff", {"batchID": "b"})
    assert (task["type"], task["queue"]) == ("DIFF", "DiffTasks")
    assert (task["LocalAET"], task["PrimaryAET"], task["SecondaryAET"]) == ("ARCHIVE_A", "PACS", "ARCHIVE_B")
    assert (task["checkMissing"], "checkDifferent" in task) == (True, False)
    assert "StudyDate=20260101-" in task["QueryString"]


def test_range_of_dates_is_split_into_comparisons(archive: Archive) -> None:
    archive.queue_comparison(f"{DIFF}/studies", {"StudyDate": "20260101-20260110", "SplitStudyDateRange": "P5D"})

    assert archive.count("monitor/diff") == 2


def test_each_match_is_a_task(archive: Archive) -> None:
    for number in (1, 2, 3):
        content = {f"1.{number}.1": [f"1.{number}.1.1", f"1.{number}.1.2"]}
        indexed.study(f"1.{number}", content, study_date=date(2026, 1, number))
    wanted = {"StudyDate": "20260102-"}

    assert archive.make_many(f"{RS}/studies/export/Noop", {**wanted, "batchID": "b"}) == 2
    assert archive.make_many(f"{RS}/series/export/Noop", wanted) == 2
    assert archive.make_many(f"{RS}/instances/export/Noop", {**wanted, "scheduledTime": "20300115120000"}) == 4
    assert archive.make_many(f"{RS}/studies/export/Noop", {"PatientID": "nobody"}) == 0
    policy = {"storageVerificationPolicy": "OBJECT_SIZE", "storageVerificationUpdateLocationStatus": "true"}
    assert archive.make_many(f"{RS}/studies/stgver", {**wanted, **policy, "storageVerificationStorageID": "fs1"}) == 2
    assert archive.make_many(f"{RS}/studies/1.1/series/stgver") == 1
    assert archive.make_many(f"{RS}/studies/stgver", {**wanted, **policy, "storageVerificationStorageID": "fs1"}) == 0
    of_study = archive.list("monitor/stgver", {"StudyInstanceUID": "1.2"})[0]
    assert (of_study["StgCmtPolicy"], of_study["UpdateLocationStatus"], of_study["StorageID"]) == (
        "OBJECT_SIZE", True, ["fs1"],
    )  # fmt: skip


@pytest.mark.parametrize("kind", sorted(CSV))
def test_each_line_of_a_csv_is_a_task(archive: Archive, kind: str) -> None:
    path, listed = CSV[kind]

    assert archive.make_of_csv(path, "1.2\r\n1.3\r\n", {"batchID": "b"}) == 2
    assert archive.make_of_csv(path.replace("csv:1", "csv:2"), "a,b;1.4\r\nc;1.5\r\n", delimiter=";") == 2
    assert archive.make_of_csv(path, "<html>\r\nno study\r\n") == 0
    assert archive.make_of_csv(path, "") == 0
    assert (archive.count(listed, {"batchID": "b"}), archive.count(listed)) == (2, 4)


def test_lines_of_a_csv_that_name_series(archive: Archive) -> None:
    for suffix, listed in (("export/Noop", "monitor/export"), ("stgver", "monitor/stgver")):
        assert archive.make_of_csv(f"{RS}/studies/csv:1/series/csv:2/{suffix}", "1.2,1.2.1\r\n1.2,1.2.2\r\n") == 2
        assert {one["SeriesInstanceUID"] for one in archive.list(listed)} == {"1.2.1", "1.2.2"}


def test_task_goes_to_the_device_that_is_asked_for(archive: Archive) -> None:
    where = {"dicomDeviceName": "archive-b"}

    exported = archive.make_one(f"aets/ARCFLEET/rs/studies/{STUDY}/export/Noop", where)
    fetched = archive.make_one(
        f"aets/ARCFLEET/dimse/PACS/studies/{STUDY}/export/dicom:PACS", {**where, "dcmQueueName": "Retrieve"}
    )

    assert [task["dicomDeviceName"] for task in (exported, fetched)] == ["archive-b", "archive-b"]


def test_what_cannot_be_made_is_refused(archive: Archive) -> None:
    def status(path: str, **params: str) -> int:
        return refused(lambda: archive.make_one(path, params))[0]

    assert status(f"aets/NOBODY/rs/studies/{STUDY}/export/Noop") == 404
    assert status(f"{RS}/studies/{STUDY}/export/Nothing") == 404
    assert status(f"{RS}/studies/{STUDY}/export/Noop", scheduledTime="tomorrow") == 400
    assert status(f"aets/NOBODY/dimse/PACS/studies/{STUDY}/export/dicom:PACS", dcmQueueName="Retrieve") == 404
    assert status(f"{DIMSE}/studies/{STUDY}/export/dicom:PACS", dcmQueueName="Nothing") == 404
    assert status(f"{DIMSE}/studies/{STUDY}/export/dicom:PACS", dcmQueueName="Retrieve", dicomDeviceName="no") == 404
    assert status(f"{DIMSE}/studies/{STUDY}/export/dicom:PACS", dcmQueueName="Retrieve", priority="3") == 400
    assert [archive.count(listed) for _, listed in CSV.values()] == [0] * 4
