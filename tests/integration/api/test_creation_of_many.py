"""Tasks for all that a query matches and for the lines of a CSV: counts, refusals, keys, what equals what."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime

import httpx
import pytest

from api.app import create_app
from archive import configuration
from tasks import creating
from tasks.state import Status
from tests import factories, indexed
from tests.integration.api.wire import BASE, Wire, error_of

A = f"{BASE}/aets/ARCHIVE_A/rs"
SHARED = f"{BASE}/aets/ARCFLEET/rs"
CSV = {"content_type": "text/csv"}


@pytest.fixture(autouse=True)
def _index(cluster: None) -> None:
    indexed.empty()
    for number in (1, 2, 3):
        content = {f"1.{number}.1": [f"1.{number}.1.1", f"1.{number}.1.2"], f"1.{number}.2": [f"1.{number}.2.1"]}
        indexed.study(f"1.{number}", content, study_date=date(2026, 1, number))


def made() -> list[tuple[str, str | None, str | None]]:
    """Return what the tasks are about, in the order in which they were made."""
    return [(task.study_uid or "", task.series_uid, task.sop_uid) for task in factories.views()]


def upload(wire: Wire, path: str, text: str, **headers: str) -> httpx.Response:
    return wire.ask("POST", path, text, **{**CSV, **headers})


# --- a query


@pytest.mark.parametrize(
    ("path", "entities"),
    [
        ("/studies/export/Noop?StudyDate=20260102-", [("1.2", None, None), ("1.3", None, None)]),
        ("/studies/export/Noop?0020000D=1.1", [("1.1", None, None)]),
        ("/studies/export/Noop?studyinstanceuid=1.1&StudyInstanceUID=1.3", [("1.1", None, None), ("1.3", None, None)]),
        ("/series/export/Noop?SeriesNumber=2&StudyDate=-20260102", [("1.1", "1.1.2", None), ("1.2", "1.2.2", None)]),
        ("/studies/1.2/series/export/Noop", [("1.2", "1.2.1", None), ("1.2", "1.2.2", None)]),
        ("/instances/export/Noop?SOPInstanceUID=1.3.2.1", [("1.3", "1.3.2", "1.3.2.1")]),
        ("/studies/1.1/instances/export/Noop?InstanceNumber=2", [("1.1", "1.1.1", "1.1.1.2")]),
        (
            "/studies/1.1/series/1.1.1/instances/export/Noop",
            [("1.1", "1.1.1", "1.1.1.1"), ("1.1", "1.1.1", "1.1.1.2")],
        ),
    ],
)
def test_each_match_becomes_a_task(wire: Wire, path: str, entities: list[tuple[str, str | None, str | None]]) -> None:
    answer = wire.post(A + path)

    assert (answer.status_code, answer.json()) == (202, {"count": len(entities)})
    assert answer.headers["content-type"] == "application/json"
    assert made() == entities


def test_tasks_have_what_the_request_says(wire: Wire) -> None:
    uri = f"{A}/studies/export/Noop?StudyDate=20260101&batchID=b&scheduledTime=20300115120000&taskPriority=7"

    assert wire.post(uri).json() == {"count": 1}

    [task] = factories.views()
    assert (task.kind, task.device, task.queue, task.exporter_id) == ("EXPORT", "archive-a", "Export", "Noop")
    assert (task.batch_id, task.priority, task.status) == ("b", 7, Status.SCHEDULED)
    assert task.scheduled_time == datetime(2030, 1, 15, 11, tzinfo=UTC)
    assert (task.local_aet, task.requester_user, task.request_uri) == ("ARCHIVE_A", "local", uri)
    assert factories.arrows_of(task.id) == [(None, "create", "SCHEDULED")]


def test_nothing_that_matches_is_a_count_of_zero(wire: Wire) -> None:
    answer = wire.post(f"{A}/studies/export/Noop?PatientID=nobody")

    assert (answer.status_code, answer.json()) == (202, {"count": 0})


def test_query_without_a_key_has_to_be_meant(wire: Wire) -> None:
    refused = wire.post(f"{A}/studies/export/Noop?batchID=b")
    meant = wire.post(f"{A}/studies/export/Noop?all=true")

    assert refused.status_code == 400
    assert "all=true" in error_of(refused)
    assert meant.json() == {"count": 3}


def test_dry_run_counts_and_makes_nothing(wire: Wire) -> None:
    wire.post(f"{A}/studies/1.1/export/Noop")

    answer = wire.post(f"{A}/studies/export/Noop?all=true&dryrun=true")

    assert answer.status_code == 200
    assert answer.json() == {"dryrun": True, "count": 2, "existing": 1, "byDevice": {"archive-a": 2}}
    assert made() == [("1.1", None, None)]


def test_more_than_the_device_allows_is_refused(wire: Wire) -> None:
    factories.use_cluster(factories.device(query_max_results=2))

    refused = wire.post(f"{A}/studies/export/Noop?all=true")
    allowed = wire.post(f"{A}/studies/export/Noop?StudyDate=20260102-")

    assert refused.status_code == 413
    assert "3 matches: expected at most 2" in error_of(refused)
    assert allowed.json() == {"count": 2}


def test_equal_tasks_that_wait_are_not_made_again(wire: Wire) -> None:
    factories.placed(Status.COMPLETED, study_uid="1.2")
    wire.post(f"{A}/studies/1.1/export/Noop")

    answer = wire.post(f"{A}/studies/export/Noop?all=true")
    doubled = wire.post(f"{A}/studies/export/Noop?all=true&allowDuplicate=true")

    assert answer.json() == {"count": 2}
    assert "1 equal tasks" in answer.headers["warning"]
    assert doubled.json() == {"count": 3}


def test_shared_title_shares_the_work(wire: Wire) -> None:
    factories.insert(2, device="archive-a", study_uid="9")

    wire.post(f"{SHARED}/instances/export/Noop?all=true")

    devices = [task.device for task in factories.views()][2:]
    assert (len(devices), devices.count("archive-a"), devices.count("archive-b")) == (9, 4, 5)


def test_named_device_of_a_shared_title_gets_all(wire: Wire) -> None:
    wire.post(f"{SHARED}/studies/export/Noop?all=true&dicomDeviceName=archive-b")

    assert {task.device for task in factories.views()} == {"archive-b"}


@pytest.mark.parametrize(
    ("path", "status", "part"),
    [
        ("/studies/export/Nothing?all=true", 404, "No Exporter configured with ID:Nothing"),
        ("/studies/export/Lost?all=true", 404, "No Queue configured with name:Nowhere"),
        ("/studies/export/Strange?all=true", 400, "wado"),
        ("/studies/export/Noop?StudyDate=yesterday", 400, "StudyDate=yesterday: expected a date"),
        ("/studies/export/Noop?StudyDat=20260101", 400, "nearest known one is StudyDate"),
        ("/studies/export/Noop?Modality=CT", 400, "Unknown query parameter: Modality"),
        ("/studies/export/Noop?PatientID=1&00100020=2", 400, "PatientID is given more than once"),
        ("/studies/export/Noop?PatientName=x&fuzzymatching=true", 400, "fuzzymatching=true"),
        ("/studies/export/Noop?all=true&limit=10", 400, "limit cannot be used here"),
        ("/studies/export/Noop?all=true&scheduledTime=tonight", 400, "scheduledTime=tonight"),
        ("/studies/1.x/series/export/Noop", 400, "StudyInstanceUID=1.x"),
        ("/studies/export/Noop?all=true&dicomDeviceName=archive-b", 404, "No such Application Entity: ARCHIVE_A"),
    ],
)
def test_what_cannot_be_used_is_named_and_nothing_is_made(wire: Wire, path: str, status: int, part: str) -> None:
    answer = wire.post(A + path)

    assert answer.status_code == status
    assert part in error_of(answer)
    assert made() == []


def test_unknown_ae_title_is_not_found(wire: Wire) -> None:
    answer = wire.post(f"{BASE}/aets/NOBODY/rs/studies/export/Noop?all=true")

    assert answer.status_code == 404
    assert "NOBODY" in error_of(answer)


# --- a CSV


def test_each_line_becomes_a_task(wire: Wire) -> None:
    answer = upload(wire, f"{A}/studies/csv:1/export/Noop?batchID=b", "1.7\r\n1.8\r\n")

    assert (answer.status_code, answer.json()) == (202, {"count": 2})
    assert made() == [("1.7", None, None), ("1.8", None, None)]
    assert {task.batch_id for task in factories.views()} == {"b"}


def test_series_are_named_by_two_columns_and_semicolons_separate(wire: Wire) -> None:
    path = f"{A}/studies/csv:3/series/csv:1/export/Noop"

    answer = upload(wire, path, "series;x;study\n1.7.1;a,b;1.7\n", content_type="text/csv;delimiter=semicolon")

    assert answer.json() == {"count": 1}
    assert made() == [("1.7", "1.7.1", None)]


@pytest.mark.parametrize("text", ["", "StudyInstanceUID\r\n", "\r\n\r\n"])
def test_csv_that_names_nothing_is_204_with_a_warning(wire: Wire, text: str) -> None:
    answer = upload(wire, f"{A}/studies/csv:1/export/Noop", text)

    assert (answer.status_code, answer.content) == (204, b"")
    assert "names no study" in answer.headers["warning"]


def test_csv_of_which_no_line_can_be_used_is_204_and_the_warning_says_why(wire: Wire) -> None:
    answer = upload(wire, f"{A}/studies/csv:1/export/Noop", "1.x\n<html>\n")

    assert (answer.status_code, answer.content, made()) == (204, b"", [])
    assert "2 of 2 lines cannot be used" in answer.headers["warning"]
    assert "line 2: StudyInstanceUID '<html>'" in answer.headers["warning"]


def test_one_bad_line_makes_nothing_at_all(wire: Wire) -> None:
    answer = upload(wire, f"{A}/studies/csv:1/export/Noop", "1.7\n1.8\nnonsense\n")

    assert answer.status_code == 400
    assert "line 3: StudyInstanceUID 'nonsense'" in error_of(answer)
    assert made() == []


@pytest.mark.parametrize("content_type", ["application/json", "text/csv;delimiter=tab", "text/csv;charset=utf-16", ""])
def test_other_content_is_415(wire: Wire, content_type: str) -> None:
    answer = upload(wire, f"{A}/studies/csv:1/export/Noop", "1.7\n", content_type=content_type)

    assert answer.status_code == 415
    assert "expected text/csv" in error_of(answer)


def test_column_that_is_none_is_named(wire: Wire) -> None:
    answer = upload(wire, f"{A}/studies/csv:0/export/Noop", "1.7\n")

    assert answer.status_code == 400
    assert "csv:0" in error_of(answer)


def test_study_that_is_named_twice_is_exported_once(wire: Wire) -> None:
    answer = upload(wire, f"{A}/studies/csv:1/export/Noop", "1.7\n1.8\n1.7\n")

    assert answer.json() == {"count": 2}
    assert "1 equal" in answer.headers["warning"]


def test_dry_run_of_a_csv(wire: Wire) -> None:
    answer = upload(wire, f"{A}/studies/csv:1/export/Noop?dryrun=true", "1.7\n1.8\n")

    assert answer.json() == {"dryrun": True, "count": 2, "existing": 0, "byDevice": {"archive-a": 2}}
    assert made() == []


# --- requests that come twice, or in parts


def test_repeated_request_makes_nothing_more(wire: Wire) -> None:
    path = f"{A}/studies/csv:1/export/Noop?allowDuplicate=true"

    first = upload(wire, path, "1.7\n1.8\n", idempotency_key="k")
    again = upload(wire, path, "1.7\n1.8\n", idempotency_key="k")

    assert (first.json(), again.json()) == ({"count": 2}, {"count": 2})
    assert "answered before" in again.headers["warning"]
    assert len(made()) == 2


def test_key_of_another_body_is_a_conflict(wire: Wire) -> None:
    path = f"{A}/studies/csv:1/export/Noop"
    upload(wire, path, "1.7\n", idempotency_key="k")

    answer = upload(wire, path, "1.8\n", idempotency_key="k")

    assert answer.status_code == 409
    assert len(made()) == 1


def test_request_that_broke_off_goes_on_where_it_was(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creating, "CHUNK", 2)
    path = f"{A}/studies/csv:1/export/Noop?allowDuplicate=true"
    text = "".join(f"1.7.{number}\n" for number in range(5))
    upload(wire, path, text, idempotency_key="k")
    # As it was after the first of three transactions.
    factories.sql("DELETE FROM task WHERE study_uid IN ('1.7.2', '1.7.3', '1.7.4')")
    progress = {"count": 2, "existed": 0, "by_device": {"archive-a": 2}, "position": "2", "complete": False}
    factories.sql(
        "UPDATE idempotency_key SET progress = CAST(:p AS jsonb)", p=json.dumps({**progress, "repeated": False})
    )

    answer = upload(wire, path, text, idempotency_key="k")

    assert answer.json() == {"count": 5}
    assert [study for study, _, _ in made()] == [f"1.7.{number}" for number in range(5)]


def test_same_request_at_once_makes_each_task_once(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creating, "CHUNK", 3)
    apps = [create_app() for _ in range(4)]
    text = "".join(f"1.7.{number}\n" for number in range(20))

    def send(number: int) -> int:
        with Wire(apps[number]) as other:
            path = f"{A}/studies/csv:1/export/Noop?allowDuplicate=true"
            return int(upload(other, path, text, idempotency_key="k").json()["count"])

    with ThreadPoolExecutor(4) as pool:
        counts = set(pool.map(send, range(4)))

    assert counts == {20}
    assert sorted(study for study, _, _ in made()) == sorted(f"1.7.{number}" for number in range(20))


def test_equal_requests_at_once_make_each_task_once(wire: Wire) -> None:
    apps = [create_app() for _ in range(4)]

    def send(number: int) -> int:
        with Wire(apps[number]) as other:
            return int(other.post(f"{A}/instances/export/Noop?all=true").json()["count"])

    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(send, range(4)))

    assert sum(counts) == 9
    assert len(made()) == 9


def test_many_are_made_in_several_transactions(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creating, "CHUNK", 2)

    assert wire.post(f"{A}/instances/export/Noop?all=true").json() == {"count": 9}

    assert factories.sql("SELECT cardinality(coalesce(task_ids, ARRAY[first_id])) FROM history ORDER BY seq") == [
        2,
        2,
        2,
        2,
        1,
    ]
    assert factories.sql("SELECT count(DISTINCT operation_id) FROM history") == [1]


def test_making_is_audited(wire: Wire) -> None:
    wire.post(f"{A}/studies/export/Noop?StudyDate=20260101")

    assert factories.sql("SELECT concat_ws('|', \"user\", action, what, count) FROM audit") == [
        f"local|ExportTasks|{A}/studies/export/Noop?StudyDate=20260101|1"
    ]


def test_device_without_the_exporter_is_left_out(wire: Wire) -> None:
    wire.post(f"{SHARED}/studies/export/OnlyB?all=true")

    assert {task.device for task in factories.views()} == {"archive-b"}


def test_device_that_is_not_installed_gets_nothing(wire: Wire) -> None:
    here = configuration.current().devices
    factories.use_cluster(here["archive-a"], replace(here["archive-b"], installed=False))

    wire.post(f"{SHARED}/studies/export/Noop?all=true")

    assert {task.device for task in factories.views()} == {"archive-a"}
