"""Tasks that are made by REST: where they go, what equals what, and requests that come twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from api.app import create_app
from tasks.state import Status
from tests import factories
from tests.integration.api.wire import BASE, EXPORTS, Wire, error_of

STUDY = "1.2.840.7"
MADE = f"{BASE}/aets/ARCHIVE_A/rs/studies/{STUDY}"
SHARED = f"{BASE}/aets/ARCFLEET/rs/studies"


def count() -> int:
    return int(factories.sql("SELECT count(*) FROM task")[0])


def test_task_is_made_on_the_device_of_the_ae(wire: Wire) -> None:
    uri = f"{BASE}/aets/ARCHIVE_B/rs/studies/{STUDY}/export/Noop?batchID=b&taskPriority=7"

    answer = wire.post(uri)

    assert answer.status_code == 202
    made = answer.json()
    assert answer.headers["location"] == f"{EXPORTS}/{made['taskID']}"
    assert (made["dicomDeviceName"], made["queue"], made["status"]) == ("archive-b", "Export", "SCHEDULED")
    assert (made["batchID"], made["LocalAET"], made["ExporterID"]) == ("b", "ARCHIVE_B", "Noop")
    assert (made["taskPriority"], made["RequesterUserID"], made["RequestURI"]) == ("7", "local", uri)
    assert made == wire.get(f"{EXPORTS}?taskID={made['taskID']}").json()[0]


def test_series_and_instance(wire: Wire) -> None:
    series = wire.post(f"{MADE}/series/1.3/export/Noop").json()
    instance = wire.post(f"{MADE}/series/1.3/instances/1.4/export/Noop").json()

    assert (series["SeriesInstanceUID"], series.get("SOPInstanceUID")) == ("1.3", None)
    assert (instance["SeriesInstanceUID"], instance["SOPInstanceUID"]) == ("1.3", "1.4")


def test_noon_is_noon_on_the_clock_of_the_server_whatever_the_device(wire: Wire) -> None:
    here = wire.post(f"{MADE}/export/Noop?scheduledTime=20300115120000").json()
    there = wire.post(f"{BASE}/aets/ARCHIVE_B/rs/studies/{STUDY}/export/Noop?scheduledTime=20300115120000").json()

    assert here["scheduledTime"] == "2030-01-15T12:00:00.000+0100"
    found = factories.view(int(there["taskID"]))
    assert found is not None
    assert found.scheduled_time == datetime(2030, 1, 15, 11, tzinfo=UTC)


def test_shared_title_goes_where_the_least_waits(wire: Wire) -> None:
    factories.insert(2, device="archive-a")
    factories.insert(1, device="archive-b")

    devices = [wire.post(f"{SHARED}/{number}.1/export/Noop").json()["dicomDeviceName"] for number in range(3)]

    assert devices == ["archive-b", "archive-a", "archive-b"]


def test_shared_title_prefers_a_device_that_lives(wire: Wire) -> None:
    factories.insert(2, device="archive-a")
    factories.seen_worker("archive-a")

    assert wire.post(f"{SHARED}/1.1/export/Noop").json()["dicomDeviceName"] == "archive-a"


def test_device_of_a_shared_title_can_be_named(wire: Wire) -> None:
    factories.insert(5, device="archive-b")

    made = wire.post(f"{SHARED}/1.1/export/Noop?dicomDeviceName=archive-b").json()

    assert made["dicomDeviceName"] == "archive-b"


def test_exporter_of_one_device_alone_decides(wire: Wire) -> None:
    assert wire.post(f"{SHARED}/1.1/export/OnlyB").json()["dicomDeviceName"] == "archive-b"


def test_equal_waiting_task_is_answered_with_a_warning(wire: Wire) -> None:
    first = wire.post(f"{MADE}/export/Noop").json()

    second = wire.post(f"{MADE}/export/Noop?batchID=other")

    assert second.status_code == 202
    assert second.json() == first
    assert first["taskID"] in second.headers["warning"]
    assert count() == 1


def test_equal_task_on_the_other_device_of_a_shared_title_counts(wire: Wire) -> None:
    wire.post(f"{SHARED}/1.1/export/Noop")

    wire.post(f"{SHARED}/1.1/export/Noop")

    assert count() == 1


def test_duplicate_can_be_asked_for(wire: Wire) -> None:
    wire.post(f"{MADE}/export/Noop")

    assert "warning" not in wire.post(f"{MADE}/export/Noop?allowDuplicate=true").headers
    assert count() == 2


def test_done_task_and_other_entities_are_not_equal(wire: Wire) -> None:
    factories.placed(Status.COMPLETED, study_uid=STUDY)

    for entity in ("", "/series/1.3", "/series/1.3/instances/1.4"):
        assert "warning" not in wire.post(f"{MADE}{entity}/export/Noop").headers
    assert count() == 4


def test_repeated_request_makes_no_second_task(wire: Wire) -> None:
    first = wire.post(f"{MADE}/export/Noop?allowDuplicate=true", idempotency_key="k1")
    again = wire.post(f"{MADE}/export/Noop?allowDuplicate=true", idempotency_key="k1")
    other = wire.post(f"{MADE}/export/Noop?allowDuplicate=true", idempotency_key="k2")

    assert again.json() == first.json()
    assert other.json()["taskID"] != first.json()["taskID"]
    assert count() == 2


def test_key_of_another_request_is_a_conflict(wire: Wire) -> None:
    wire.post(f"{MADE}/export/Noop", idempotency_key="k1")

    answer = wire.post(f"{MADE}/export/Noop?batchID=2", idempotency_key="k1")

    assert answer.status_code == 409
    assert "k1" in error_of(answer)


def test_key_of_a_deleted_task_is_a_conflict(wire: Wire) -> None:
    task_id = wire.post(f"{MADE}/export/Noop", idempotency_key="k1").json()["taskID"]
    wire.delete(f"{EXPORTS}/{task_id}")

    answer = wire.post(f"{MADE}/export/Noop", idempotency_key="k1")

    assert answer.status_code == 409
    assert f"Task {task_id}" in error_of(answer)


def test_equal_requests_at_once_make_one_task(wire: Wire) -> None:
    # Building one is not safe for threads: FastAPI mutes warnings meanwhile.
    apps = [create_app() for _ in range(12)]

    def send(number: int) -> str:
        with Wire(apps[number]) as other:
            return str(other.post(f"{MADE}/export/Noop", idempotency_key=f"k{number % 2}").json()["taskID"])

    with ThreadPoolExecutor(6) as pool:
        made = set(pool.map(send, range(12)))

    assert len(made) == 1
    assert count() == 1


def test_making_is_audited_without_the_token(wire: Wire) -> None:
    wire.post(f"{MADE}/export/Noop?batchID=b")

    assert factories.sql("SELECT concat_ws('|', \"user\", action, what, count) FROM audit") == [
        f"local|ExportTask|{MADE}/export/Noop?batchID=b|1"
    ]
