"""The table of corners: cancel, reschedule and delete of tasks that wait, run, still end, or are done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session

from archive import db
from tasks import store
from tasks.run import Ending, Stop
from tasks.state import DONE, Event, Status
from tasks.store import By, Target
from tests import factories

pytestmark = pytest.mark.usefixtures("cluster")

Work = Callable[[Session], Any]
ELSEWHERE = Target("archive-b", "Export", "Noop")


def ending_of(run_id: int) -> str | None:
    ending: str | None = factories.run_row(run_id)["ending"]
    return ending


@pytest.mark.parametrize("status", [Status.SCHEDULED, Status.SCHEDULED_FOR_RETRY])
@pytest.mark.parametrize(("event", "after"), [(Event.CANCEL, Status.CANCELED), (Event.DELETE, None)])
def test_waiting_task_is_cancelled_or_deleted_and_its_reservation_freed(
    status: Status, event: Event, after: Status | None
) -> None:
    task_id = factories.placed(status).task_id
    [reservation] = factories.reserve()

    assert factories.change(event, task_id) == 1

    assert factories.status_of(task_id) == after
    assert ending_of(reservation.run_id) == Ending.WITHDRAWN
    assert factories.claim(reservation) is None
    assert factories.status_of(task_id) == after


def test_waiting_task_that_is_moved_is_not_claimed_by_its_old_message() -> None:
    [task] = factories.insert()
    [reservation] = factories.reserve()

    factories.change(Event.RESCHEDULE, task.id, ELSEWHERE)

    assert factories.claim(reservation) is None
    [there] = factories.reserve("archive-b")
    claimed = factories.claim(there)
    assert claimed is not None
    assert claimed.task.device == "archive-b"


def test_running_task_is_cancelled_at_once_and_keeps_its_slot_until_the_run_has_ended() -> None:
    run = factories.running()
    [waiting] = factories.insert()

    factories.change(Event.CANCEL, run.task.id)

    assert factories.status_of(run.task.id) is Status.CANCELED
    assert factories.reserve(number=1) == []
    factories.report(run, Event.GIVE_BACK)
    assert [r.task_id for r in factories.reserve(number=1)] == [waiting.id]
    assert factories.status_of(run.task.id) is Status.CANCELED


def test_running_task_that_is_moved_waits_for_its_run_to_end() -> None:
    run = factories.running()

    factories.change(Event.RESCHEDULE, run.task.id, ELSEWHERE)

    moved = factories.view(run.task.id)
    assert moved is not None
    assert (moved.status, moved.device, moved.started_time) == (Status.SCHEDULED, "archive-b", None)
    assert factories.run_row(run.run_id)["stop_reason"] == Stop.RESCHEDULE
    assert factories.reserve("archive-b") == []
    factories.report(run, Event.SUCCEED)
    assert factories.status_of(run.task.id) is Status.SCHEDULED
    assert [r.task_id for r in factories.reserve("archive-b")] == [run.task.id]


def test_running_task_is_gone_at_once_when_deleted_and_its_run_stays_until_it_has_ended() -> None:
    run = factories.running()

    factories.change(Event.DELETE, run.task.id)

    assert factories.status_of(run.task.id) is None
    assert factories.run_row(run.run_id)["ended_at"] is None
    assert factories.report(run, Event.SUCCEED) is None
    assert ending_of(run.run_id) == Ending.STOPPED
    assert factories.status_of(run.task.id) is None


@pytest.mark.parametrize("first", [Event.CANCEL, Event.RESCHEDULE])
@pytest.mark.parametrize("second", [Event.CANCEL, Event.RESCHEDULE, Event.DELETE])
def test_task_whose_run_still_ends_is_changed_again(first: Event, second: Event) -> None:
    run = factories.running()
    factories.change(first, run.task.id)

    changed = factories.change(second, run.task.id)

    expected = {Event.CANCEL: Status.CANCELED, Event.RESCHEDULE: Status.SCHEDULED, Event.DELETE: None}[second]
    again = first is second is Event.CANCEL
    assert changed == (0 if again else 1)
    assert factories.status_of(run.task.id) == expected
    row = factories.run_row(run.run_id)
    assert row["ended_at"] is None
    assert row["stop_reason"] == second.value
    assert factories.reserve() == []


def test_message_of_a_run_that_still_ends_does_not_claim_its_rescheduled_task_again() -> None:
    [task] = factories.insert()
    [reservation] = factories.reserve()
    assert factories.claim(reservation) is not None
    factories.change(Event.RESCHEDULE, task.id)

    assert factories.claim(reservation) is None

    assert factories.status_of(task.id) is Status.SCHEDULED


def test_time_at_which_a_run_was_first_asked_to_stop_stays() -> None:
    run = factories.running()
    factories.change(Event.CANCEL, run.task.id)
    asked = factories.run_row(run.run_id)["stop_asked_at"]

    factories.change(Event.RESCHEDULE, run.task.id)

    assert factories.run_row(run.run_id)["stop_asked_at"] == asked


def test_lease_of_a_run_that_still_ends_is_its_end() -> None:
    run = factories.running()
    factories.change(Event.RESCHEDULE, run.task.id)

    with db.transaction() as session:
        after = store.lose(session, run.task.id, run.run_id, {}, By("beat"))

    assert after is None
    assert ending_of(run.run_id) == Ending.LOST
    task = factories.view(run.task.id)
    assert task is not None
    assert (task.status, task.lost_leases) == (Status.SCHEDULED, 0)
    assert [r.task_id for r in factories.reserve()] == [run.task.id]


@pytest.mark.parametrize("status", sorted(DONE))
def test_done_task_is_not_cancelled_but_rescheduled_or_deleted(status: Status) -> None:
    first, second = factories.placed(status), factories.placed(status)

    assert factories.change(Event.CANCEL, first.task_id) == 0
    assert factories.status_of(first.task_id) is status
    assert factories.change(Event.RESCHEDULE, first.task_id) == 1
    assert factories.status_of(first.task_id) is Status.SCHEDULED
    assert factories.change(Event.DELETE, second.task_id) == 1
    assert factories.status_of(second.task_id) is None
