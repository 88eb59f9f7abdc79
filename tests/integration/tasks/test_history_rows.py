"""Every transition is recorded, one row for all tasks that took the same arrow in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy import insert, select, text

from archive import db
from tasks import history, store, taking
from tasks.history import History
from tasks.state import Event, Status
from tasks.store import By, Target
from tests import factories

pytestmark = pytest.mark.usefixtures("cluster")


def rows() -> list[History]:
    with db.transaction() as session:
        return list(session.scalars(select(History).order_by(History.seq)))


def of_task(task_id: int) -> list[history.Transition]:
    with db.transaction() as session:
        return history.of_task(session, task_id)


def cancel_all(by: By = factories.BY) -> None:
    with db.transaction() as session:
        store.cancel(session, taking.take(session, [], 0, 1000), by)


def test_life_of_a_task_is_read_from_its_history() -> None:
    run = factories.running()
    factories.report(run, Event.RETRY, error="refused")
    factories.change(Event.CANCEL, run.task.id)
    factories.change(Event.RESCHEDULE, run.task.id, Target("archive-b", "Export", "Noop"))
    factories.change(Event.DELETE, run.task.id)

    found = of_task(run.task.id)

    told = [(t.event, t.from_status, t.to_status, t.from_device, t.to_device) for t in found]
    a, b = "archive-a", "archive-b"
    assert told == [
        (Event.CREATE, None, Status.SCHEDULED, None, a),
        (Event.CLAIM, Status.SCHEDULED, Status.IN_PROCESS, a, a),
        (Event.RETRY, Status.IN_PROCESS, Status.SCHEDULED_FOR_RETRY, a, a),
        (Event.CANCEL, Status.SCHEDULED_FOR_RETRY, Status.CANCELED, a, a),
        (Event.RESCHEDULE, Status.CANCELED, Status.SCHEDULED, a, b),
        (Event.DELETE, Status.SCHEDULED, None, b, None),
    ]
    assert [t.seq for t in found] == sorted(t.seq for t in found)
    assert [t.run_id for t in found] == [None, run.run_id, run.run_id, None, None, None]
    assert {t.task_id for t in found} == {run.task.id}


def test_transition_says_who_and_why() -> None:
    run = factories.running()
    factories.report(run, Event.FAIL, error="refused")
    factories.change(Event.RESCHEDULE, run.task.id)

    created, claimed, failed, rescheduled = of_task(run.task.id)

    assert (created.actor, created.reason) == (factories.BY.actor, factories.BY.reason)
    assert claimed.actor == failed.actor == factories.NODE[1]
    assert failed.reason == "refused"
    assert (rescheduled.actor, rescheduled.reason) == (factories.BY.actor, factories.BY.reason)


def test_single_task_is_a_row_without_an_array() -> None:
    [task] = factories.insert()

    [row] = rows()

    assert (row.first_id, row.last_id, row.task_ids) == (task.id, task.id, None)


def test_bulk_change_is_one_row_for_all_tasks_of_one_arrow() -> None:
    here, there = factories.insert(3), factories.insert(2, device="archive-b")
    factories.change(Event.CANCEL, here[0].id)
    factories.change(Event.RESCHEDULE, here[0].id)
    before = len(rows())

    cancel_all(By("anna", "wrong study", "op-1"))

    new = rows()[before:]
    assert sorted((row.from_device, row.task_ids) for row in new) == [
        ("archive-a", [task.id for task in here]),
        ("archive-b", [task.id for task in there]),
    ]
    for row in new:
        assert (row.event, row.actor, row.reason, row.operation_id) == (Event.CANCEL, "anna", "wrong study", "op-1")
        assert (row.first_id, row.last_id) == (min(row.task_ids or ()), max(row.task_ids or ()))


def test_tasks_of_different_statuses_have_rows_of_their_own() -> None:
    run, waiting = factories.running(), factories.insert()[0]

    cancel_all()

    assert factories.arrows_of(run.task.id)[-1] == (Status.IN_PROCESS, Event.CANCEL, Status.CANCELED)
    assert factories.arrows_of(waiting.id)[-1] == (Status.SCHEDULED, Event.CANCEL, Status.CANCELED)


def test_task_between_the_tasks_of_a_bulk_row_is_not_in_it() -> None:
    first, between, last = factories.insert(3)
    with db.transaction() as session:
        taken = [task for task in taking.take(session, [], 0, 10) if task.id != between.id]
        store.cancel(session, taken, factories.BY)

    assert [event for _, event, _ in factories.arrows_of(between.id)] == [Event.CREATE]
    for task in (first, last):
        assert [event for _, event, _ in factories.arrows_of(task.id)] == [Event.CREATE, Event.CANCEL]


def test_history_of_a_deleted_task_stays() -> None:
    tasks = factories.insert(2)
    with db.transaction() as session:
        store.delete_tasks(session, taking.take(session, [], 0, 10), factories.BY)

    for task in tasks:
        assert factories.arrows_of(task.id)[-1] == (Status.SCHEDULED, Event.DELETE, None)


def test_bulk_row_expands_to_one_transition_for_each_task() -> None:
    tasks = factories.insert(3)

    [row] = rows()

    assert [t.task_id for t in history.expand(row)] == [task.id for task in tasks]
    factories.empty()
    [alone] = factories.insert()
    assert [t.task_id for t in history.expand(rows()[0])] == [alone.id]


def test_change_that_is_rolled_back_leaves_no_history() -> None:
    def fail() -> None:
        with db.transaction() as session:
            store.insert_tasks(session, [factories.new_task()], factories.BY)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert rows() == []


def test_history_of_one_task_among_many_is_found_by_indexes() -> None:
    def row(task_ids: Sequence[int]) -> dict[str, object]:
        several = list(task_ids) if len(task_ids) > 1 else None
        return {
            "event": "cancel", "first_id": min(task_ids), "last_id": max(task_ids), "task_ids": several, "actor": "x",
        }  # fmt: skip

    singles = [row([number]) for number in range(1, 20_001)]
    spans = [row([number, number + 3, number + 7]) for number in range(1, 100_001, 5)]
    with db.transaction() as session:
        session.execute(insert(History), singles)
        session.execute(insert(History), spans)
    factories.sql("ANALYZE history")

    with db.transaction() as session:
        assert len(history.of_task(session, 501)) == 2
        assert len(history.of_task(session, 504)) == 2
        assert len(history.of_task(session, 505)) == 1
        plan = "\n".join(
            session.scalars(
                text(
                    "EXPLAIN SELECT * FROM history WHERE (task_ids IS NULL AND first_id = 501) OR"
                    " (task_ids IS NOT NULL AND int8range(first_id, last_id, '[]') @> cast(501 AS int8))"
                )
            )
        )
    assert "ix_history_span" in plan
    assert "ix_history_task" in plan
    assert "Seq Scan" not in plan
