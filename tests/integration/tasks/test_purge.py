"""Done tasks go after the delay of their queue and status; records after their retention."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from config.device import Device, Queue
from tasks import purge
from tasks.state import Event, Status
from tests import factories

pytestmark = pytest.mark.usefixtures("cluster")

DAY = timedelta(days=1)


def device(**delays: timedelta) -> Device:
    return factories.device(queues={"Export": replace(factories.EXPORT, **delays)})  # type: ignore[arg-type]


def changed_ago(task_id: int, age: timedelta) -> None:
    factories.sql("UPDATE task SET updated_time = now() - :age WHERE id = :id", age=age, id=task_id)


def done(status: Status, age: timedelta, **values: str) -> int:
    task_id = factories.placed(status, **values).task_id
    changed_ago(task_id, age)
    return task_id


ATTRIBUTES = {
    Status.COMPLETED: "purge_completed_after",
    Status.FAILED: "purge_failed_after",
    Status.WARNING: "purge_warning_after",
    Status.CANCELED: "purge_canceled_after",
}


@pytest.mark.parametrize("status", list(ATTRIBUTES))
def test_delay_of_a_status_purges_its_old_tasks_and_no_others(status: Status) -> None:
    kept = {done(other, 9 * DAY) for other in ATTRIBUTES if other is not status} | {done(status, DAY / 2)}
    old = done(status, 2 * DAY)

    said = purge.purge_tasks(device(**{ATTRIBUTES[status]: DAY}))

    assert said == "1 tasks purged"
    assert {task.id for task in factories.views()} == kept
    assert factories.arrows_of(old)[-1] == (status, Event.DELETE, None)


def test_queue_without_delays_keeps_everything() -> None:
    for status in ATTRIBUTES:
        done(status, 1000 * DAY)

    assert purge.purge_tasks(device()) == "0 tasks purged"
    assert purge.delays(Queue("Export")) == {}


def test_waiting_and_running_tasks_are_never_purged() -> None:
    run = factories.running()
    retry = factories.placed(Status.SCHEDULED_FOR_RETRY, queue="Retrieve")
    waiting = factories.insert()[0]
    for task_id in (run.task.id, retry.task_id, waiting.id):
        changed_ago(task_id, 1000 * DAY)

    everything = dict.fromkeys(ATTRIBUTES.values(), timedelta(0))
    queues = {name: replace(factories.EXPORT, name=name, **everything) for name in ("Export", "Retrieve")}  # type: ignore[arg-type]
    purge.purge_tasks(factories.device(queues=queues))

    assert len(factories.views()) == 3


def test_device_purges_its_own_tasks_of_configured_queues_only() -> None:
    mine = done(Status.COMPLETED, 2 * DAY)
    other_device = done(Status.COMPLETED, 2 * DAY, device="archive-b")
    other_queue = done(Status.COMPLETED, 2 * DAY, queue="Retrieve")

    purge.purge_tasks(device(purge_completed_after=DAY))

    assert {task.id for task in factories.views()} == {other_device, other_queue}
    assert factories.status_of(mine) is None


def test_purge_goes_on_until_nothing_old_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "_CHUNK", 2)
    for _ in range(5):
        done(Status.CANCELED, 2 * DAY)

    assert purge.purge_tasks(device(purge_canceled_after=DAY)) == "5 tasks purged"
    assert factories.views() == []


def test_task_that_was_rescheduled_since_is_not_purged() -> None:
    task_id = done(Status.FAILED, 2 * DAY)
    factories.change(Event.RESCHEDULE, task_id)

    purge.purge_tasks(device(purge_failed_after=DAY))

    assert factories.status_of(task_id) is Status.SCHEDULED


# --- records

TABLES = {
    "history": "INSERT INTO history (event, first_id, last_id, actor, at) VALUES ('x', 1, 1, 'x', :at)",
    "object_outcome": "INSERT INTO object_outcome (run_id, task_id, round, sop_uid, result, at)"
    " VALUES (1, :task, 0, '1.2', 'sent', :at)",
    "run": "INSERT INTO run (task_id, kind, device, queue, slot, token, came_from, lease_until, ended_at)"
    " VALUES (1, 'EXPORT', 'a', 'Export', 1, gen_random_uuid(), 'SCHEDULED', :at, :at)",
    "accepted_message": "INSERT INTO accepted_message (message_id, at) VALUES (:key, :at)",
    "idempotency_key": "INSERT INTO idempotency_key (key, request, at) VALUES (:key, 'POST /', :at)",
    "worker_node": "INSERT INTO worker_node (name, device, channel, host, pid, version, concurrency, seen_at)"
    " VALUES ('n', 'a', 'a', 'h', 1, '0', 1, :at)",
}
DAYS = {
    "history": 90,
    "object_outcome": 90,
    "run": 90,
    "accepted_message": 30,
    "idempotency_key": 30,
    "worker_node": 90,
}


def record(table: str, age: timedelta, task_id: int = 0) -> None:
    statement = TABLES[table].replace(":at", "now() - CAST(:age AS interval)")
    values = {"age": age, "key": str(age), "task": task_id}
    factories.sql(statement, **{name: value for name, value in values.items() if f":{name}" in statement})


@pytest.mark.parametrize("table", list(TABLES))
def test_record_is_kept_as_long_as_promised_and_then_removed(table: str) -> None:
    days = DAYS[table]
    record(table, timedelta(days=days + 1))
    record(table, timedelta(days=days - 1))

    said = purge.clean_records(device())

    assert factories.sql(f"SELECT count(*) FROM {table}") == [1]
    assert said.count("1 ") == 1


def test_outcomes_of_a_task_that_exists_are_kept_for_its_next_attempt() -> None:
    [task] = factories.insert()
    record("object_outcome", timedelta(days=1000), task.id)

    purge.clean_records(device())

    assert factories.sql("SELECT count(*) FROM object_outcome") == [1]


def test_open_run_is_kept_however_old() -> None:
    run = factories.running()
    factories.sql("UPDATE run SET reserved_at = now() - interval '1000 d', claimed_at = now() - interval '1000 d'")

    purge.clean_records(device())

    assert factories.run_row(run.run_id)["ended_at"] is None


def test_records_are_removed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "_CHUNK", 2)
    for _ in range(5):
        record("history", timedelta(days=100))

    assert purge.clean_records(device()).startswith("5 history removed")
