"""Slots are never exceeded, and the best task comes first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from archive import db
from config.device import Queue
from tasks import due, slots, store, taking
from tasks.run import Ending
from tasks.slots import Reservation
from tasks.state import Event
from tests import factories, race

pytestmark = pytest.mark.usefixtures("cluster")

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def open_slots(device: str = "archive-a", queue: str = "Export") -> list[int]:
    return factories.sql(
        "SELECT slot FROM run WHERE ended_at IS NULL AND device = :device AND queue = :queue ORDER BY slot",
        device=device, queue=queue,
    )  # fmt: skip


def reserved_ids(number: int = 4) -> list[int]:
    return [r.task_id for r in factories.reserve(number=number)]


def test_reservations_take_the_free_slots_and_no_more() -> None:
    factories.insert(10)

    first, second = factories.reserve(number=4), factories.reserve(number=4)

    assert len(first) == 4
    assert second == []
    assert open_slots() == [1, 2, 3, 4]


def test_slot_that_was_freed_is_taken_again() -> None:
    factories.insert(5)
    taken = factories.reserve(number=4)
    with db.transaction() as session:
        slots.release(session, [taken[1].run_id], Ending.UNSENT)

    again = factories.reserve(number=4)

    assert len(again) == 1
    assert open_slots() == [1, 2, 3, 4]


def test_fewer_slots_than_run_takes_nothing_new() -> None:
    factories.insert(5)
    factories.reserve(number=4)

    assert factories.reserve(number=2) == []


def test_queues_and_devices_have_slots_of_their_own() -> None:
    for device, queue in (("archive-a", "Export"), ("archive-a", "Retrieve"), ("archive-b", "Export")):
        factories.insert(2, device=device, queue=queue)

    found = [
        factories.reserve(device, queue, 1)
        for device, queue in (("archive-a", "Export"), ("archive-a", "Retrieve"), ("archive-b", "Export"))
    ]

    assert [len(one) for one in found] == [1, 1, 1]


def test_slots_are_never_exceeded_by_eight_who_reserve_at_once() -> None:
    factories.insert(100)

    def reserving(session: Session) -> list[Reservation]:
        return slots.reserve(session, "archive-a", "Export", 4)

    for _ in range(10):
        found = [one for part in race.at_once([reserving] * 8) for one in part]

        assert open_slots() == [1, 2, 3, 4]
        assert len({one.task_id for one in found}) == len(found) == 4
        with db.transaction() as session:
            slots.release(session, [one.run_id for one in found], Ending.UNSENT)


def test_reserver_waits_for_another_one_of_the_queue_and_takes_what_is_left() -> None:
    factories.insert(10)

    first, second = race.overlap(
        lambda session: slots.reserve(session, "archive-a", "Export", 2),
        lambda session: slots.reserve(session, "archive-a", "Export", 3),
    )

    assert (len(first), len(second)) == (2, 1)
    assert not {one.task_id for one in first} & {one.task_id for one in second}


def test_reserver_of_another_queue_does_not_wait() -> None:
    factories.insert()
    factories.insert(queue="Retrieve")

    with db.transaction() as first:
        assert len(slots.reserve(first, "archive-a", "Export", 1)) == 1
        assert len(factories.reserve(queue="Retrieve", number=1)) == 1


def test_locked_task_is_passed_over_and_not_waited_for() -> None:
    locked, free = factories.insert(2)

    with db.transaction() as session:
        taking.take(session, [], locked.id - 1, 1)
        assert reserved_ids(number=2) == [free.id]


def test_priority_goes_before_time_and_time_before_id() -> None:
    [late_low] = factories.insert(priority=0, scheduled_time=T0 - MINUTE)
    [normal] = factories.insert(scheduled_time=T0)
    same_time = factories.insert(2, priority=9, scheduled_time=T0)
    [earlier] = factories.insert(priority=9, scheduled_time=T0 - MINUTE)

    order = []
    for _ in range(5):
        [one] = factories.reserve(number=1)
        order.append(one.task_id)
        claimed = factories.claim(one)
        assert claimed is not None
        factories.report(claimed, Event.SUCCEED)

    assert order == [earlier.id, same_time[0].id, same_time[1].id, normal.id, late_low.id]


def test_tasks_of_one_call_take_the_slots_in_the_same_order() -> None:
    [normal] = factories.insert(scheduled_time=T0)
    [urgent] = factories.insert(priority=9)

    assert reserved_ids(number=2) == [urgent.id, normal.id]
    assert reserved_ids(number=2) == []


def test_task_is_not_reserved_before_its_time() -> None:
    [task] = factories.insert(scheduled_time=datetime.now(UTC) + timedelta(hours=1))

    assert reserved_ids() == []
    factories.sql("UPDATE task SET scheduled_time = now() - interval '1 s'")
    assert reserved_ids() == [task.id]


def test_task_with_an_open_run_is_not_reserved() -> None:
    run = factories.running()
    factories.change(Event.RESCHEDULE, run.task.id)
    [other] = factories.insert()

    assert reserved_ids() == [other.id]


def test_device_has_to_be_woken_only_for_a_due_task_and_a_worker_that_lives() -> None:
    pairs = [(device, queue) for device in ("archive-a", "archive-b") for queue in ("Export", "Retrieve")]

    def devices() -> list[str]:
        with db.transaction() as session:
            return due.glance(session, pairs, factories.LEASE).devices

    factories.insert()
    factories.insert(queue="Retrieve", scheduled_time=datetime.now(UTC) + timedelta(hours=1))
    factories.insert(device="archive-b")
    assert devices() == []
    node = factories.seen_worker("archive-a")
    assert devices() == ["archive-a"]
    factories.sql("UPDATE worker_node SET seen_at = now() - interval '16 s' WHERE id = :id", id=node)
    assert devices() == []
    factories.sql("UPDATE worker_node SET seen_at = now(), stopped_at = now() WHERE id = :id", id=node)
    assert devices() == []


def test_open_runs_and_jobs_of_housekeeping_are_seen_at_a_glance() -> None:
    def seen() -> tuple[bool, bool]:
        with db.transaction() as session:
            found = due.glance(session, [], timedelta(seconds=60))
        return found.is_run_open, found.is_job_due

    assert seen() == (False, False)
    run = factories.running()
    factories.sql(
        "INSERT INTO housekeeping_job (device, file_system_group, job, interval_s, next_run_at)"
        " VALUES ('archive-a', '', 'purge_tasks', 60, now() + interval '1 min')"
    )
    assert seen() == (True, False)
    factories.report(run, Event.SUCCEED)
    factories.sql("UPDATE housekeeping_job SET next_run_at = now()")
    assert seen() == (False, True)
    factories.sql("UPDATE housekeeping_job SET next_run_at = now() + interval '1 min', sent_at = now()")
    assert seen() == (False, False)
    factories.sql("UPDATE housekeeping_job SET sent_at = now() - interval '61 s'")
    assert seen() == (False, True)
    factories.sql("UPDATE housekeeping_job SET started_at = now() - interval '60 s'")
    assert seen() == (False, False)


def test_changes_note_which_devices_to_wake() -> None:
    with db.transaction() as session:
        store.insert_tasks(session, [factories.new_task(), factories.new_task(device="archive-b")], factories.BY)
        assert session.info["wake"] == {"archive-a", "archive-b"}
        session.info.clear()


def test_queue_of_one_slot_runs_one_task() -> None:
    assert Queue("Export").max_tasks_parallel == 1
    factories.insert(3)

    assert len(factories.reserve(number=1)) == 1
    assert factories.reserve(number=1) == []
