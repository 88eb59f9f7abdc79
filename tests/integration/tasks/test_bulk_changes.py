"""Cancel and delete, one or many, in small transactions, tried first and then done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from archive import db
from config.device import Queue
from tasks import bulk, operations, store
from tasks.bulk import BulkResult
from tasks.errors import ConflictError, InvalidError, NotFoundError
from tasks.moving import Change
from tasks.query import TaskQuery
from tasks.state import Status
from tests import factories

pytestmark = pytest.mark.usefixtures("cluster")

ALL = TaskQuery()
BY = factories.BY
AB = ("archive-a", "archive-b")
RETRIEVE = Queue("Retrieve")


def test_bulk_cancel_takes_what_is_not_done_and_says_what_was_refused() -> None:
    for status in Status:
        factories.placed(status)
        factories.sql("UPDATE task SET scheduled_time = now() + interval '1 h' WHERE status LIKE 'SCHEDULED%'")

    result = operations.cancel(ALL, BY)

    assert (result.count, result.failed) == (3, 4)
    assert result.by_device == {"archive-a": 3}
    assert result.by_status == {Status.SCHEDULED: 1, Status.SCHEDULED_FOR_RETRY: 1, Status.IN_PROCESS: 1}
    assert result.refusals == {
        f"Cannot cancel Task with status: {status}": 1 for status in Status if status.is_done
    }  # fmt: skip
    assert Counter(task.status for task in factories.views())[Status.CANCELED] == 4


@pytest.mark.parametrize("status", [s for s in Status if s.is_done])
def test_bulk_cancel_of_done_tasks_is_refused_as_a_whole(status: Status) -> None:
    factories.insert()

    with pytest.raises(InvalidError, match=f"Cannot cancel tasks with status: {status}"):
        operations.cancel(TaskQuery(statuses=(Status.SCHEDULED, status)), BY)

    assert factories.views()[0].status is Status.SCHEDULED


def test_bulk_delete_takes_every_status() -> None:
    for status in Status:
        factories.placed(status)
        factories.sql("UPDATE task SET scheduled_time = now() + interval '1 h' WHERE status LIKE 'SCHEDULED%'")

    result = operations.delete(ALL, BY)

    assert (result.count, result.failed) == (7, 0)
    assert result.by_status == dict.fromkeys(Status, 1)
    assert factories.views() == []


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (TaskQuery(devices=("archive-b",)), {2}),
        (TaskQuery(queues=("Retrieve",)), {3}),
        (TaskQuery(study_uid="9.9"), {4}),
        (TaskQuery(exporter_ids=("Other", "Third")), {5, 6}),
        (TaskQuery(batch_id="b"), {7}),
        (TaskQuery(kinds=("DIFF",)), set()),
        (TaskQuery(devices=("archive-a",), exporter_ids=("Other",)), {5}),
        (TaskQuery(created=(datetime(2100, 1, 1, tzinfo=UTC), None)), set()),
        (TaskQuery(created=(None, datetime(2100, 1, 1, tzinfo=UTC)), batch_id="b"), {7}),
    ],
)
def test_bulk_call_changes_what_its_filter_means_and_nothing_else(wanted: TaskQuery, chosen: set[int]) -> None:
    given: list[dict[str, Any]] = [
        {}, {"device": "archive-b"}, {"queue": "Retrieve"}, {"study_uid": "9.9"}, {"exporter_id": "Other"},
        {"exporter_id": "Third"}, {"batch_id": "b"},
    ]  # fmt: skip
    made = [factories.insert(**values)[0].id for values in given]

    result = operations.cancel(wanted, BY)

    canceled = {task.id for task in factories.views() if task.status is Status.CANCELED}
    assert canceled == {made[number - 1] for number in chosen}
    assert result.count == len(chosen)


def test_all_transactions_of_a_call_bear_its_operation_id(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.small_chunks(monkeypatch, 3)
    factories.insert(10)

    result = operations.cancel(ALL, BY)

    found = factories.sql("SELECT operation_id FROM history WHERE event = 'cancel'")
    assert found == [result.operation_id] * 4


def test_single_call_for_another_kind_or_queue_finds_no_task() -> None:
    [task] = factories.insert()
    for wanted in (TaskQuery(kinds=("DIFF",)), TaskQuery(queues=("Retrieve",))):
        calls: list[Callable[[], None]] = [
            partial(operations.cancel_one, task.id, wanted, BY),
            partial(operations.delete_one, task.id, wanted, BY),
            partial(operations.reschedule_one, task.id, wanted, Change(), BY),
        ]
        for call in calls:
            with pytest.raises(NotFoundError, match=f"No such Task : {task.id}"):
                call()

    assert [view.status for view in factories.views()] == [Status.SCHEDULED]


@pytest.mark.parametrize("status", [s for s in Status if s.is_done])
def test_single_cancel_of_a_done_task_is_a_conflict(status: Status) -> None:
    placed = factories.placed(status)

    with pytest.raises(ConflictError, match=f"Cannot cancel Task with status: {status}"):
        operations.cancel_one(placed.task_id, ALL, BY)


def test_single_calls_do_what_they_say() -> None:
    canceled, moved, deleted = factories.insert(3)

    operations.cancel_one(canceled.id, ALL, BY)
    operations.reschedule_one(moved.id, ALL, Change(devices=("archive-b",)), BY)
    operations.delete_one(deleted.id, ALL, BY)

    assert [(task.id, task.status, task.device) for task in factories.views()] == [
        (canceled.id, Status.CANCELED, "archive-a"),
        (moved.id, Status.SCHEDULED, "archive-b"),
    ]


def snapshot() -> tuple[Any, ...]:
    return (
        factories.sql("SELECT t::text FROM task AS t ORDER BY id"),
        factories.sql("SELECT h::text FROM history AS h ORDER BY seq"),
        factories.sql("SELECT r::text FROM run AS r ORDER BY id"),
    )


def mixed() -> None:
    only_a = {"Noop": factories.NOOP, "OnlyA": replace(factories.NOOP, id="OnlyA")}
    factories.use_cluster(
        factories.device(exporters=only_a), factories.device("archive-b"), factories.device("archive-c")
    )
    for number in range(17):
        factories.insert(exporter_id=("Noop", "OnlyA", "Gone")[number % 3])
    factories.claim(factories.reserve()[0])
    operations.cancel(TaskQuery(ids=tuple(factories.sql("SELECT max(id) FROM task"))), BY)


CALLS: dict[str, Callable[[bool], BulkResult]] = {
    "cancel": lambda dry: operations.cancel(ALL, BY, dry_run=dry),
    "delete": lambda dry: operations.delete(ALL, BY, dry_run=dry),
    "reschedule": lambda dry: operations.reschedule(ALL, Change(), BY, dry_run=dry),
    "move": lambda dry: operations.reschedule(ALL, Change(devices=("archive-b", "archive-c")), BY, dry_run=dry),
}


@pytest.mark.parametrize("size", [3, 1000])
@pytest.mark.parametrize("name", list(CALLS))
def test_dry_run_changes_nothing_and_tells_what_the_call_then_does(
    name: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed()
    factories.small_chunks(monkeypatch, size)
    before = snapshot()

    tried = CALLS[name](True)

    assert snapshot() == before
    done = CALLS[name](False)
    assert snapshot() != before
    assert tried.count + tried.failed == 17
    for what in ("count", "failed", "refusals", "by_device", "by_status"):
        assert getattr(tried, what) == getattr(done, what), what


@pytest.mark.parametrize("size", [1, 2, 5, 7, 17, 18, 100])
def test_chunks_of_any_size_meet_each_task_once(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed()
    factories.small_chunks(monkeypatch, size)

    result = operations.reschedule(ALL, Change(devices=("archive-b", "archive-c")), BY)

    again = Counter(factories.sql("SELECT unnest(coalesce(task_ids, ARRAY[first_id])) FROM history"
                                  " WHERE event = 'reschedule'"))  # fmt: skip
    assert set(again.values()) == {1}
    assert (result.count, result.failed) == (6, 11)


def test_refused_tasks_are_counted_once_and_the_call_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.small_chunks(monkeypatch, 2)
    factories.insert(9, exporter_id="Gone")

    result = operations.reschedule(ALL, Change(), BY)

    assert (result.count, result.failed) == (0, 9)


def test_tasks_made_while_the_call_runs_are_not_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.small_chunks(monkeypatch, 2)
    factories.insert(5)

    def insert_one_more(session: Session) -> None:
        if "mine" not in session.info and len(tasks_made) < 20:
            tasks_made.append(session.connection)
            with Session(db.engine(), info={"mine": True}) as other, other.begin():
                store.insert_tasks(other, [factories.new_task()], BY)

    tasks_made: list[object] = []
    event.listen(Session, "after_commit", insert_one_more)
    try:
        result = operations.cancel(ALL, BY)
    finally:
        event.remove(Session, "after_commit", insert_one_more)

    # The first transaction of the call finds out up to which id it goes.
    assert 0 < len(tasks_made) < 20
    assert result.count == 5


def test_reasons_of_very_many_refusals_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "MOST_REASONS", 10)
    factories.insert(30, exporter_id="Gone")

    result = operations.reschedule(ALL, Change(), BY)

    assert result.failed == sum(result.refusals.values()) == 30
    assert len(result.refusals) == 11
    assert result.refusals["for further reasons"] == 20


@pytest.mark.parametrize(
    ("size", "share", "expected"),
    [(1000, 0.0, 4000), (1000, 0.25, 4000), (1000, 1.0, 1000), (1000, 2.0, 500), (1000, 100.0, 100),
     (bulk._LARGEST_CHUNK, 0.01, bulk._LARGEST_CHUNK)],
)  # fmt: skip
def test_size_of_a_chunk_follows_the_time_that_the_last_one_took(size: int, share: float, expected: int) -> None:
    assert bulk._next_size(size, share * bulk._CHUNK_S) == expected
