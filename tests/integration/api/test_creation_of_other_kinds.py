"""RETRIEVE, DIFF and STGVER tasks that requests make, with and without waiting for their end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from archive import db
from archive.dicom import commands
from archive.dicom import wire as dicom_wire
from config.device import ApplicationEntity, Device, NetworkConnection, Queue
from tasks import diffs, store, waited
from tasks.record import TaskView
from tasks.slots import Reservation
from tasks.state import Event, Status
from tasks.store import Claimed
from tests import factories, indexed
from tests.integration.api.wire import BASE, Wire, error_of
from tests.lab import answering, scripted
from tests.lab.waiting import wait_until

RETRIEVE = f"{BASE}/aets/ARCHIVE_A/dimse/PACS"
DIFF = f"{BASE}/aets/ARCHIVE_A/dimse/PACS/diff/OLD"
VERIFY = f"{BASE}/aets/ARCHIVE_A/rs"
CSV = {"content_type": "text/csv"}
QUEUES = {name: Queue(name) for name in ("Export", "Retrieve", "Night", "DiffTasks", "StgVerTasks")}


def other(name: str, *titles: str, port: int = 9) -> Device:
    """Return a device of another make; by default it listens where nobody is."""
    connection = NetworkConnection("dicom", "127.0.0.1", port)
    return Device(name, connections={"dicom": connection}, aes={t: ApplicationEntity(t, ("dicom",)) for t in titles})


def use(finder: Device) -> None:
    factories.use_cluster(
        factories.device(queues=QUEUES), factories.device("archive-b", queues=QUEUES, time_zone="Asia/Tokyo"),
        other("pacs", "PACS", "OLD"), finder,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _peers(cluster: None) -> None:
    indexed.empty()
    use(other("finder", "FINDER"))


def only_task() -> TaskView:
    [task] = factories.views()
    return task


def begun(queue: str) -> Claimed:
    """Claim the task of a queue as soon as one is due."""
    found: list[Reservation] = []
    wait_until(lambda: bool(found.extend(factories.reserve(queue=queue)) or found), "a task is due")
    claimed = factories.claim(*found)
    assert claimed is not None
    return claimed


@contextmanager
def ended(status: Event, queue: str, **progress: Any) -> Iterator[None]:
    """Run the task that the block makes, and let it end so."""

    def run() -> None:
        claimed = begun(queue)
        with db.transaction() as session:
            store.note_progress(session, claimed.task.id, claimed.run_id, progress)
        is_bad = status in (Event.FAIL, Event.RETRY)
        if status is Event.CANCEL:
            factories.change(status, claimed.task.id)
        else:
            factories.report(claimed, status, error="no route" if is_bad else None, counts=is_bad)

    worker = threading.Thread(target=run)
    worker.start()
    yield
    worker.join()


# --- RETRIEVE


def test_study_is_retrieved_by_a_task(wire: Wire) -> None:
    uri = f"{RETRIEVE}/studies/1.2/export/dicom:ARCHIVE_A?dcmQueueName=Night&batchID=b&scheduledTime=20300115120000"

    answer = wire.post(uri)

    task = only_task()
    assert answer.status_code == 202
    assert (str(answer.json()["taskID"]), answer.json()["type"]) == (str(task.id), "RETRIEVE")
    assert answer.headers["location"] == f"{BASE}/monitor/retrieve/{task.id}"
    assert (task.device, task.queue, task.study_uid, task.batch_id) == ("archive-a", "Night", "1.2", "b")
    assert (task.local_aet, task.remote_aet, task.destination_aet) == ("ARCHIVE_A", "PACS", "ARCHIVE_A")
    assert task.destination == "dicom:PACS"
    assert task.scheduled_time == datetime(2030, 1, 15, 11, tzinfo=UTC)


def test_series_and_instance_are_retrieved(wire: Wire) -> None:
    path = f"{RETRIEVE}/studies/1.2/series/1.3"
    wire.post(f"{path}/export/dicom:ARCHIVE_A?dcmQueueName=Retrieve")
    wire.post(f"{path}/instances/1.4/export/dicom:ARCHIVE_A?dcmQueueName=Retrieve")

    assert [(t.study_uid, t.series_uid, t.sop_uid) for t in factories.views()] == [
        ("1.2", "1.3", None), ("1.2", "1.3", "1.4"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "status", "part"),
    [
        ("/dimse/NOBODY/studies/1.2/export/dicom:ARCHIVE_A?dcmQueueName=Retrieve", 404, "Application Entity: NOBODY"),
        ("/dimse/PACS/studies/1.2/export/dicom:ARCHIVE_A?dcmQueueName=None", 404, "No Queue configured with name:None"),
        ("/dimse/PACS/studies/1.x/export/dicom:ARCHIVE_A?dcmQueueName=Retrieve", 400, "StudyInstanceUID=1.x"),
        ("/dimse/PACS/studies/1.2/export/dicom:ARCHIVE_A?priority=3", 400, "priority=3"),
        ("/dimse/PACS/query:NOBODY/studies/export/dicom:ARCHIVE_A?all=true", 404, "Application Entity: NOBODY"),
        ("/dimse/PACS/studies/export/dicom:ARCHIVE_A", 400, "all=true"),
        ("/dimse/PACS/studies/1.2/export/dicom:ARCHIVE_A?dicomDeviceName=nowhere", 404, "Unknown Device: nowhere"),
    ],
)
def test_retrieve_that_cannot_be_is_refused(wire: Wire, path: str, status: int, part: str) -> None:
    answer = wire.post(f"{BASE}/aets/ARCHIVE_A{path}")

    assert answer.status_code == status
    assert part in error_of(answer)
    assert factories.views() == []


def test_equal_retrieve_that_waits_only_gets_earlier(wire: Wire) -> None:
    path = f"{RETRIEVE}/studies/1.2/export/dicom:ARCHIVE_A?dcmQueueName=Retrieve"
    wire.post(f"{path}&scheduledTime=20300115120000")

    later = wire.post(f"{path}&scheduledTime=20310115120000")
    planned = only_task().scheduled_time
    sooner = wire.post(f"{path}&scheduledTime=20290115120000")

    assert "waits already" in later.headers["warning"]
    assert planned == datetime(2030, 1, 15, 11, tzinfo=UTC)
    assert only_task().scheduled_time == datetime(2029, 1, 15, 11, tzinfo=UTC)
    assert "2029" in str(sooner.json()["scheduledTime"])


def test_equal_retrieve_that_runs_is_answered(wire: Wire) -> None:
    path = f"{RETRIEVE}/studies/1.2/export/dicom"
    wire.post(f"{path}:ARCHIVE_A?dcmQueueName=Retrieve")
    factories.claim(*factories.reserve(queue="Retrieve"))

    again = wire.post(f"{path}:ARCHIVE_A?dcmQueueName=Retrieve")
    elsewhere = wire.post(f"{path}:OLD?dcmQueueName=Retrieve")

    assert "runs already" in again.headers["warning"]
    assert "warning" not in elsewhere.headers
    assert len(factories.views()) == 2


def test_lines_of_a_csv_are_retrieved(wire: Wire) -> None:
    path = f"{RETRIEVE}/studies/csv:2/export/dicom:ARCHIVE_A"

    answer = wire.ask("POST", path, "a,1.2\r\nb,1.3\r\n", **CSV)
    again = wire.ask("POST", path, "a,1.2\r\nb,1.4\r\n", **CSV)

    assert (answer.status_code, answer.json(), again.json()) == (202, {"count": 2}, {"count": 1})
    assert {task.queue for task in factories.views()} == {"Retrieve"}


@pytest.mark.parametrize(
    ("event", "progress", "status"),
    [
        (Event.SUCCEED, {"completed": 3, "statusCode": 0}, 200),
        (Event.SUCCEED, {"completed": 0, "statusCode": 0}, 200),
        (Event.WARN, {"completed": 0, "statusCode": 0}, 200),
        (Event.WARN, {"completed": 2, "failed": 1, "statusCode": 0xB000}, 206),
        (Event.FAIL, {"completed": 0, "failed": 3, "statusCode": 0xA702, "errorComment": "full"}, 502),
        (Event.FAIL, {"completed": 0, "statusCode": 0xA801}, 502),
        (Event.FAIL, {"completed": 1, "statusCode": 0xFE00}, 206),
        (Event.CANCEL, {"completed": 1, "statusCode": 0xFFFF}, 206),
        (Event.CANCEL, {"completed": 0, "statusCode": 0xFFFF}, 502),
    ],
)
def test_retrieve_without_a_queue_answers_with_its_end(
    wire: Wire, event: Event, progress: dict[str, Any], status: int
) -> None:
    with ended(event, "Retrieve", **progress):
        answer = wire.post(f"{RETRIEVE}/studies/1.2/export/dicom:ARCHIVE_A")

    said = answer.json()
    assert answer.status_code == status
    assert (said["completed"], said["failed"]) == (progress["completed"], progress.get("failed", 0))
    assert said["status"] == f"{progress['statusCode']:04X}"
    assert ("error" in said) == (status != 200)
    assert said["taskID"] == str(only_task().id)


def test_attempt_that_fails_is_the_answer_although_a_task_of_somebody_else_is_tried_again(wire: Wire) -> None:
    path = f"{RETRIEVE}/studies/1.2/export/dicom:ARCHIVE_A"
    # It runs only when the client that waits has made it start earlier.
    wire.post(f"{path}?dcmQueueName=Retrieve&scheduledTime=20300115120000")

    with ended(Event.RETRY, "Retrieve"):
        answer = wire.post(path)

    assert (answer.status_code, answer.json()["error"]) == (502, "no route")
    assert "tried again" in answer.headers.get_list("warning")[-1]
    assert only_task().status is Status.SCHEDULED_FOR_RETRY


def test_task_of_a_client_that_waits_is_tried_as_often_as_others_once_somebody_else_wants_it(wire: Wire) -> None:
    path = f"{RETRIEVE}/studies/1.2/export/dicom:ARCHIVE_A"
    wire.post(path, prefer="wait=1")
    before = only_task().params

    wire.post(f"{path}?dcmQueueName=Retrieve")

    assert (waited.UNTIL in before, waited.UNTIL in only_task().params) == (True, False)


def test_client_that_does_not_wait_lets_its_task_be_tried_again(wire: Wire) -> None:
    wire.post(f"{RETRIEVE}/studies/1.2/export/dicom:ARCHIVE_A", prefer="wait=0")

    assert only_task().params == {}


def left_alone(name: str) -> None:
    """Let a destination be one that nothing is sent to, as it failed too often."""
    factories.sql(
        "INSERT INTO destination (name, failures, open_until, last_failure)"
        " VALUES (:name, 3, now() + interval '1 hour', 'PACS at 127.0.0.1:9: Connection refused')", name=name,
    )  # fmt: skip


def test_client_does_not_wait_for_an_archive_that_is_left_alone_after_failures(wire: Wire) -> None:
    left_alone("dicom:PACS")

    answer = wire.post(f"{RETRIEVE}/studies/1.2/export/dicom:ARCHIVE_A")

    assert answer.status_code == 502
    assert "PACS at 127.0.0.1:9: Connection refused" in answer.json()["error"]
    assert only_task().status is Status.CANCELED


def test_task_of_somebody_else_to_an_archive_that_is_left_alone_stays(wire: Wire) -> None:
    left_alone("dicom:PACS")
    wire.post(f"{RETRIEVE}/studies/1.2/export/dicom:ARCHIVE_A?dcmQueueName=Retrieve")

    answer = wire.post(f"{RETRIEVE}/studies/1.2/export/dicom:ARCHIVE_A")

    assert answer.status_code == 502
    assert "tried again" in answer.headers.get_list("warning")[-1]
    assert only_task().status is Status.SCHEDULED


def test_task_that_is_deleted_while_a_client_waits_is_not_found(wire: Wire) -> None:
    def delete() -> None:
        wait_until(lambda: bool(factories.views()), "a task is there")
        factories.change(Event.DELETE, only_task().id)

    deleter = threading.Thread(target=delete)
    deleter.start()
    answer = wire.post(f"{VERIFY}/studies/1.1/stgver")
    deleter.join()

    assert (answer.status_code, "No such Task" in error_of(answer)) == (404, True)


def test_client_says_how_long_it_waits(wire: Wire) -> None:
    answer = wire.post(f"{RETRIEVE}/studies/1.2/export/dicom:ARCHIVE_A", prefer="wait=0")

    assert answer.status_code == 202
    assert "has not ended" in answer.headers["warning"]
    assert answer.headers["location"].endswith(f"/monitor/retrieve/{only_task().id}")


def test_studies_that_another_archive_finds_are_retrieved(wire: Wire) -> None:
    asked: list[Any] = []

    def script(connection: socket.socket, reader: dicom_wire.Wire) -> None:
        request = scripted.accept(connection, reader)
        asked.append((request.calling, request.called, answering.asked_for(scripted.take(reader)[1])))
        found = b"".join(answering.match(study_uid) for study_uid in ("1.9", "1.2", "1.9"))
        connection.sendall(found + answering.said(commands.C_FIND_RSP, 0))
        answering.release(connection, reader)

    with scripted.scripted(script) as peer:
        use(other("finder", "FINDER", port=peer.port))
        query = "StudyDate=20260101-&StudyInstanceUID=1.2,1.9"
        answer = wire.post(f"{RETRIEVE}/query:FINDER/studies/export/dicom:ARCHIVE_A?{query}")

    assert (answer.status_code, answer.json()) == (202, {"count": 2})
    assert [task.study_uid for task in factories.views()] == ["1.2", "1.9"]
    keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "['1.2', '1.9']", "StudyDate": "20260101-"}
    assert asked == [("ARCHIVE_A", "FINDER", keys)]
    assert factories.views()[0].params["findSCP"] == "FINDER"


def test_archive_that_cannot_be_asked_is_named(wire: Wire) -> None:
    answer = wire.post(f"{RETRIEVE}/studies/export/dicom:ARCHIVE_A?all=true")

    assert answer.status_code == 502
    assert "PACS" in error_of(answer)
    assert factories.views() == []


# --- EXPORT to an AE, without an exporter


@pytest.mark.parametrize(
    ("event", "failed", "status"), [(Event.SUCCEED, 0, 200), (Event.WARN, 1, 206), (Event.FAIL, 1, 206)]
)
def test_study_is_sent_to_an_ae_while_the_client_waits(wire: Wire, event: Event, failed: int, status: int) -> None:
    with ended(event, "Export", completed=2, failed=failed):
        answer = wire.post(f"{VERIFY}/studies/1.2/export/dicom:PACS")

    task = only_task()
    assert (answer.status_code, answer.json()["completed"], answer.json()["failed"]) == (status, 2, failed)
    assert (task.kind, task.queue, task.exporter_id, task.destination) == (
        "EXPORT", "Export", "dicom:PACS", "dicom:PACS",
    )  # fmt: skip


def test_ae_that_nobody_knows_is_not_found(wire: Wire) -> None:
    answer = wire.post(f"{VERIFY}/studies/1.2/export/dicom:NOBODY")

    assert answer.status_code == 404
    assert "NOBODY" in error_of(answer)


# --- DIFF


def test_comparison_is_queued(wire: Wire) -> None:
    query = "queue=true&StudyDate=20260101-20260131&PatientID=4%2B1&missing=true&comparefield=PatientName&batchID=b"

    answer = wire.get(f"{DIFF}/studies?{query}")

    task = only_task()
    assert (answer.status_code, answer.content) == (202, b"")
    assert (task.kind, task.queue, task.batch_id) == ("DIFF", "DiffTasks", "b")
    assert (task.local_aet, task.remote_aet, task.destination_aet) == ("ARCHIVE_A", "PACS", "OLD")
    assert dict(task.params) == {
        "queryString": "PatientID=4%2B1&StudyDate=20260101-20260131", "checkMissing": True, "checkDifferent": True,
        "comparefield": "PatientName",
    }  # fmt: skip


def test_comparisons_are_never_equal(wire: Wire) -> None:
    for _ in range(2):
        assert wire.get(f"{DIFF}/studies?queue=true&PatientID=1").status_code == 202

    assert len(factories.views()) == 2


def test_range_of_dates_is_cut_into_parts(wire: Wire) -> None:
    dates = "StudyDate=20260101-20260110"

    answer = wire.get(f"{DIFF}/studies?queue=true&{dates}&SplitStudyDateRange=P4D")

    assert answer.status_code == 202
    assert [task.params["queryString"] for task in factories.views()] == [
        "StudyDate=20260101-20260104", "StudyDate=20260105-20260108", "StudyDate=20260109-20260110",
    ]  # fmt: skip


def test_each_line_is_a_comparison(wire: Wire) -> None:
    answer = wire.ask("POST", f"{DIFF}/studies/csv:1?missing=true", "1.2\n1.3\n", **CSV)

    assert (answer.status_code, answer.json()) == (202, {"count": 2})
    assert [(task.study_uid, task.params["queryString"]) for task in factories.views()] == [
        ("1.2", "StudyInstanceUID=1.2"), ("1.3", "StudyInstanceUID=1.3"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("queue=true&SplitStudyDateRange=P1D", "StudyDate=: expected a range"),
        ("queue=true&StudyDate=20260101-20260102&SplitStudyDateRange=PT12H", "SplitStudyDateRange=PT12H"),
        ("queue=true&StudyDate=18000101-20260102&SplitStudyDateRange=P1D", "parts of StudyDate"),
        ("StudyDate=20260101-20260102&SplitStudyDateRange=P1D", "expected queue=true with it"),
        ("queue=true&comparefield=Nonsense", "Nonsense"),
        ("queue=true&different=maybe", "different=maybe"),
        ("queue=true&PatientNam=x", "nearest known one is PatientName"),
        (f"queue=true&PatientID={'x' * 300}", "at most 255"),
    ],
)
def test_comparison_that_cannot_be_is_refused(wire: Wire, query: str, part: str) -> None:
    answer = wire.get(f"{DIFF}/studies?{query}")

    assert answer.status_code == 400
    assert part in error_of(answer)
    assert factories.views() == []


def test_comparison_without_a_queue_answers_with_its_counts(wire: Wire) -> None:
    with ended(Event.WARN, "DiffTasks", matches=7, missing=2, different=1):
        answer = wire.get(f"{DIFF}/studies/count?PatientID=1")

    assert answer.status_code == 200
    assert answer.json() == {"count": 7, "missing": 2, "different": 1, "taskID": str(only_task().id)}


@contextmanager
def compared(*studies: str) -> Iterator[None]:
    """Run the comparison that the block makes, and let it find these studies."""

    def run() -> None:
        claimed = begun("DiffTasks")
        with db.transaction() as session:
            store.note_progress(session, claimed.task.id, claimed.run_id, {"matches": 7, "missing": len(studies)})
            found = [
                diffs.Found(uid, diffs.What.MISSING, {"0020000D": {"vr": "UI", "Value": [uid]}}) for uid in studies
            ]
            diffs.keep(session, claimed.task.id, claimed.run_id, found)
        factories.report(claimed, Event.WARN if studies else Event.SUCCEED)

    worker = threading.Thread(target=run)
    worker.start()
    yield
    worker.join()


def test_comparison_without_a_queue_answers_with_the_differences(wire: Wire) -> None:
    with compared("1.2", "1.3"):
        answer = wire.get(f"{DIFF}/studies?PatientID=1")

    assert answer.status_code == 200
    assert answer.json() == [{"0020000D": {"vr": "UI", "Value": [uid]}} for uid in ("1.2", "1.3")]
    assert answer.headers["location"] == f"{BASE}/monitor/diff/{only_task().id}"


def test_comparison_that_finds_no_difference_has_no_content(wire: Wire) -> None:
    with compared():
        answer = wire.get(f"{DIFF}/studies?PatientID=1")

    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("path", ["studies", "studies/count"])
@pytest.mark.parametrize("event", [Event.FAIL, Event.CANCEL])
def test_comparison_that_does_not_come_to_its_end_is_502(wire: Wire, path: str, event: Event) -> None:
    with ended(event, "DiffTasks", matches=3):
        answer = wire.get(f"{DIFF}/{path}?PatientID=1")

    said = "no route" if event is Event.FAIL else f"Task {only_task().id} was canceled"
    assert (answer.status_code, answer.json()["errorMessage"]) == (502, said)


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("studies?PatientID=1&", 1), ("studies/count?PatientID=1&", 1), ("studies?queue=true&PatientID=1&", 1),
        ("studies?queue=true&StudyDate=20260101-20260110&SplitStudyDateRange=P4D&", 3),
    ],
)  # fmt: skip
def test_dry_run_of_a_comparison_makes_none(wire: Wire, query: str, number: int) -> None:
    answer = wire.get(f"{DIFF}/{query}dryrun=true")

    assert answer.status_code == 200
    assert answer.json() == {"dryrun": True, "count": number, "existing": 0, "byDevice": {"archive-a": number}}
    assert factories.views() == []


# --- STGVER


def test_studies_that_match_are_verified(wire: Wire) -> None:
    indexed.study("1.1", {"1.1.1": ["1.1.1.1"]})
    indexed.study("1.2")
    options = "storageVerificationPolicy=object_size&storageVerificationUpdateLocationStatus=true"

    answer = wire.post(f"{VERIFY}/studies/stgver?all=true&{options}&storageVerificationStorageID=B,A")
    series = wire.post(f"{VERIFY}/studies/1.1/series/stgver")

    assert (answer.status_code, answer.json(), series.json()) == (202, {"count": 2}, {"count": 1})
    first, _, of_series = factories.views()
    assert (first.kind, first.queue, first.local_aet) == ("STGVER", "StgVerTasks", "ARCHIVE_A")
    assert dict(first.params) == {"policy": "OBJECT_SIZE", "updateLocationStatus": True, "storageIDs": ["A", "B"]}
    assert (of_series.study_uid, of_series.series_uid, dict(of_series.params)) == ("1.1", "1.1.1", {})


def test_equal_verification_is_suppressed_one_by_another_policy_is_not(wire: Wire) -> None:
    path = f"{VERIFY}/studies/csv:1/stgver"
    wire.ask("POST", path, "1.1\n1.2\n", **CSV)

    again = wire.ask("POST", path, "1.1\n1.3\n", **CSV)
    other_policy = wire.ask("POST", f"{path}?storageVerificationPolicy=OBJECT_EXISTS", "1.1\n", **CSV)

    assert (again.json(), other_policy.json()) == ({"count": 1}, {"count": 1})


@pytest.mark.parametrize(
    ("event", "progress", "status"),
    [
        (Event.SUCCEED, {"completed": 3}, 200), (Event.SUCCEED, {}, 200),
        (Event.WARN, {"completed": 2, "failed": 1}, 202), (Event.WARN, {"failed": 3}, 409),
    ],
)  # fmt: skip
def test_study_is_verified_while_the_client_waits(
    wire: Wire, event: Event, progress: dict[str, int], status: int
) -> None:
    with ended(event, "StgVerTasks", **progress):
        answer = wire.post(f"{VERIFY}/studies/1.1/stgver")

    assert answer.status_code == status
    assert answer.json() == {"completed": 0, "failed": 0, **progress, "taskID": str(only_task().id)}


@pytest.mark.parametrize(
    ("event", "progress", "status", "said"),
    [
        (Event.FAIL, {"completed": 1}, 409, "no route"), (Event.CANCEL, {"completed": 1}, 409, "was canceled"),
        # Some files are out of reach of the device.
        (Event.WARN, {"completed": 1}, 202, "is WARNING"), (Event.WARN, {}, 409, "is WARNING"),
    ],
)  # fmt: skip
def test_verification_that_did_not_see_all_says_why(
    wire: Wire, event: Event, progress: dict[str, int], status: int, said: str
) -> None:
    with ended(event, "StgVerTasks", **progress):
        answer = wire.post(f"{VERIFY}/studies/1.1/stgver")

    assert answer.status_code == status
    assert said in answer.json()["errorMessage"]


def test_policy_that_is_none_is_refused(wire: Wire) -> None:
    answer = wire.post(f"{VERIFY}/studies/1.1/stgver?storageVerificationPolicy=LOOK")

    assert answer.status_code == 400
    assert "storageVerificationPolicy=LOOK: expected one of DB_RECORD_EXISTS" in error_of(answer)


def test_device_without_the_queue_is_left_out(wire: Wire) -> None:
    factories.use_cluster(replace(factories.device(), queues={}), factories.device("archive-b", queues=QUEUES))

    shared = wire.post(f"{BASE}/aets/ARCFLEET/rs/studies/1.1/stgver", prefer="wait=0")
    own = wire.post(f"{VERIFY}/studies/1.1/stgver")

    assert (shared.status_code, only_task().device) == (202, "archive-b")
    assert own.status_code == 404


def test_many_that_wait_hold_up_nobody(wire: Wire) -> None:
    paths = [f"{VERIFY}/studies/1.{number}/stgver" for number in range(40)]

    answers = wire.ask_all("POST", paths, prefer="wait=1")

    assert [answer.status_code for answer in answers] == [202] * 40
    assert {task.status for task in factories.views()} == {Status.SCHEDULED}
