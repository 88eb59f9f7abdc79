"""Bulk calls that run as operations, and the feed of what happened."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from api import running
from tasks import kept_operations, wish
from tasks.kept_operations import Following, TakenOverError
from tasks.moving import Change
from tasks.query import TaskQuery
from tasks.state import Status
from tasks.store import By
from tasks.wish import Action, Wish
from tests import factories
from tests.integration.api.wire import BASE, EXPORTS, Wire, error_of
from tests.lab.waiting import wait_until

OPERATIONS = f"{BASE}/monitor/operations"
ASYNC = {"prefer": "respond-async"}


@pytest.fixture(autouse=True)
def _ended(cluster: None) -> Iterator[None]:
    yield
    running.operations.stop()
    running.operations._leaving.clear()


def state_of(wire: Wire, location: str) -> str:
    return str(wire.get(location).json()["state"])


def test_bulk_call_runs_as_an_operation_when_asked(wire: Wire) -> None:
    factories.insert(25)
    factories.insert(2, device="archive-b")

    accepted = wire.post(f"{EXPORTS}/cancel?status=SCHEDULED&dicomDeviceName=archive-a", **ASYNC)

    assert (accepted.status_code, accepted.headers["preference-applied"]) == (202, "respond-async")
    location = accepted.headers["location"]
    assert location == f"{OPERATIONS}/{accepted.json()['operationID']}"
    wait_until(lambda: state_of(wire, location) == "done", "the operation is done")
    done = wire.get(location).json()
    assert (done["total"], done["count"], done["failed"], done["action"]) == (25, 25, 0, "CancelTasks")
    assert (done["byDevice"], done["byStatus"]) == ({"archive-a": 25}, {"SCHEDULED": 25})
    assert done["requester"] == "local@127.0.0.1"
    assert done["request"] == f"POST {EXPORTS}/cancel?status=SCHEDULED&dicomDeviceName=archive-a"
    assert [one["operationID"] for one in wire.get(OPERATIONS).json()] == [done["operationID"]]
    history = factories.sql("SELECT DISTINCT operation_id FROM history WHERE event = 'cancel'")
    assert history == [done["operationID"]]
    assert factories.sql("SELECT concat_ws('|', action, count, failed, outcome) FROM audit") == ["CancelTasks|25|0"]


def test_operation_lists_what_was_refused(wire: Wire) -> None:
    factories.insert(2)
    factories.insert(3, exporter_id="Gone")

    accepted = wire.post(f"{EXPORTS}/reschedule?all=true&newDeviceName=archive-b", **ASYNC)
    wait_until(lambda: state_of(wire, accepted.headers["location"]) == "done", "the operation is done")

    done = wire.get(accepted.headers["location"]).json()
    assert (done["count"], done["failed"], sum(one["count"] for one in done["refusals"])) == (2, 3, 3)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/cancel?status=COMPLETED", 400),
        ("POST", "/reschedule?all=true&newDeviceName=nowhere", 400),
        ("POST", "/reschedule?all=true&newDeviceName=other-house", 409),
        ("DELETE", "", 400),
    ],
)
def test_what_cannot_be_meant_is_refused_and_no_operation(wire: Wire, method: str, path: str, status: int) -> None:
    assert wire.ask(method, f"{EXPORTS}{path}", **ASYNC).status_code == status
    assert factories.sql("SELECT id FROM operation") == []


def test_dry_run_is_answered_at_once_whatever_is_preferred(wire: Wire) -> None:
    factories.insert(2)

    answer = wire.delete(f"{EXPORTS}?all=true&dryrun=true", **ASYNC)

    assert (answer.status_code, answer.json()["count"]) == (200, 2)
    assert factories.sql("SELECT id FROM operation") == []


def test_operation_that_is_not_there(wire: Wire) -> None:
    for text in (str(uuid.uuid4()), "7", "%00"):
        assert wire.get(f"{OPERATIONS}/{text}").status_code == 404
        assert wire.post(f"{OPERATIONS}/{text}/cancel").status_code == 404


def kept(wished: Wish) -> str:
    return kept_operations.accept(wished, "POST /x", "anna", "host").id


MOVE = Wish(Action.RESCHEDULE, TaskQuery(kinds=("EXPORT",)), Change(devices=("archive-b",)))


def carry_out(operation_id: str, following: Any) -> None:
    held = kept_operations.take(operation_id)
    assert held is not None
    wish.carry_out(held.wish, By("anna@host", operation_id=operation_id), watch=following(held))
    kept_operations.end(held)


def test_operation_that_was_left_goes_on_behind_its_last_chunk(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    factories.small_chunks(monkeypatch, 10)
    factories.insert(25)
    operation_id = kept(MOVE)
    held = kept_operations.take(operation_id)
    assert held is not None
    answers = iter([False, True])
    following = Following(held, lambda: next(answers))

    wish.carry_out(held.wish, By("anna@host", operation_id=operation_id), watch=following)
    assert following.left
    kept_operations.give_back(held)
    half = wire.get(f"{OPERATIONS}/{operation_id}").json()
    factories.insert(5)
    carry_out(operation_id, lambda held: Following(held, lambda: False))

    done = wire.get(f"{OPERATIONS}/{operation_id}").json()
    assert (half["state"], half["count"], half["total"]) == ("running", 10, 25)
    # What was made meanwhile was not meant.
    assert (done["state"], done["count"], done["byDevice"]) == ("done", 25, {"archive-b": 25})
    moved = "SELECT sum(cardinality(coalesce(task_ids, ARRAY[first_id]))) FROM history WHERE event = 'reschedule'"
    assert factories.sql(moved) == [25]


def test_operation_of_a_dead_process_is_taken_over_and_the_dead_one_changes_nothing_more(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    factories.small_chunks(monkeypatch, 10)
    factories.insert(25)
    operation_id = kept(MOVE)
    frozen = kept_operations.take(operation_id)
    assert frozen is not None
    assert kept_operations.take(operation_id) is None
    factories.sql("UPDATE operation SET lease_until = now() - interval '1 s'")
    assert kept_operations.abandoned() == [operation_id]

    taken = kept_operations.take(operation_id)
    assert taken is not None
    with pytest.raises(TakenOverError):
        wish.carry_out(frozen.wish, By("anna@host", operation_id=operation_id), watch=Following(frozen, lambda: False))

    assert {task.device for task in factories.views()} == {"archive-a"}


def test_operation_ends_at_the_end_of_its_chunk_when_canceled(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    factories.small_chunks(monkeypatch, 10)
    factories.insert(25)
    operation_id = kept(MOVE)
    assert wire.post(f"{OPERATIONS}/{operation_id}/cancel").status_code == 204
    assert state_of(wire, f"{OPERATIONS}/{operation_id}") == "stopping"

    running.operations.submit(operation_id)

    wait_until(lambda: state_of(wire, f"{OPERATIONS}/{operation_id}") == "canceled", "the operation is canceled")
    done = wire.get(f"{OPERATIONS}/{operation_id}").json()
    assert (done["count"], done["stopAskedBy"]) == (0, "local@127.0.0.1")
    again = wire.post(f"{OPERATIONS}/{operation_id}/cancel")
    assert (again.status_code, "is canceled and cannot be" in error_of(again)) == (409, True)


def events_of(wire: Wire, query: str = "") -> dict[str, Any]:
    found: dict[str, Any] = wire.get(f"{BASE}/monitor/events{query}").json()
    return found


def test_feed_replays_and_goes_on(wire: Wire) -> None:
    first, second = (task.id for task in factories.insert(2))
    page = events_of(wire)
    wire.post(f"{EXPORTS}/{first}/cancel")

    after = events_of(wire, f"?after={page['next']}")

    assert [(one["taskID"], one["event"]) for one in page["events"]] == [(first, "create"), (second, "create")]
    assert [(one["taskID"], one["event"], one["from"], one["to"]) for one in after["events"]] == [
        (first, "cancel", "SCHEDULED", "CANCELED")
    ]
    assert events_of(wire, f"?after={after['next']}")["events"] == []


def test_feed_is_read_in_pages_within_a_bulk_call(wire: Wire) -> None:
    ids = [task.id for task in factories.insert(10)]
    seen, cursor = [], ""

    for _ in range(4):
        page = events_of(wire, f"?limit=3{cursor}")
        seen.append([one["taskID"] for one in page["events"]])
        cursor = f"&after={page['next']}"

    assert [len(part) for part in seen] == [3, 3, 3, 1]
    assert [number for part in seen for number in part] == ids


def test_feed_from_now_on_and_while_it_waits(wire: Wire) -> None:
    factories.insert(2)
    now = events_of(wire, "?after=latest")

    [later] = factories.insert()

    assert now["events"] == []
    assert [one["taskID"] for one in events_of(wire, f"?wait=5&after={now['next']}")["events"]] == [later.id]


def test_cursor_of_another_life_of_the_database_is_gone(wire: Wire) -> None:
    [task] = factories.insert()
    answer = wire.get(f"{BASE}/monitor/events?after={uuid.uuid4()}.1.1.0")

    assert answer.status_code == 410
    first = json.loads(answer.content)["first"]
    assert [one["taskID"] for one in events_of(wire, f"?after={first}")["events"]] == [task.id]


@pytest.mark.parametrize("query", ["after=7", "after=a.b.c.d", "limit=0", "wait=61", "since=1"])
def test_what_the_feed_cannot_mean_is_refused(wire: Wire, query: str) -> None:
    assert wire.get(f"{BASE}/monitor/events?{query}").status_code == 400


def test_task_that_is_canceled_by_an_operation_says_so_in_its_history(wire: Wire) -> None:
    [task] = factories.insert()

    accepted = wire.post(f"{EXPORTS}/cancel?all=true", **ASYNC)
    wait_until(lambda: factories.status_of(task.id) is Status.CANCELED, "the task is canceled")

    last = wire.get(f"{EXPORTS}/{task.id}/history").json()[-1]
    assert last["operationID"] == accepted.json()["operationID"]
