"""What a run leaves behind: results, retries, lost leases and their budget, and what late runs cannot do."""

from __future__ import annotations

from datetime import timedelta

import pytest

from archive import db
from tasks import operations, slots, store
from tasks.moving import Change
from tasks.query import TaskQuery
from tasks.record import TaskView
from tasks.run import Ending
from tasks.state import Event, Status
from tasks.store import By, Claimed
from tests import factories

pytestmark = pytest.mark.usefixtures("cluster")

BUDGETS = {("archive-a", "Export"): 3}


def lose(run: Claimed, reason: str = "its process died") -> Status | None:
    with db.transaction() as session:
        return store.lose(session, run.task.id, run.run_id, BUDGETS, By("beat", reason))


def run_again() -> Claimed:
    [reservation] = factories.reserve()
    claimed = factories.claim(reservation)
    assert claimed is not None
    return claimed


def task(task_id: int) -> TaskView:
    found = factories.view(task_id)
    assert found is not None
    return found


def is_due(task_id: int) -> bool:
    [due] = factories.sql("SELECT scheduled_time <= clock_timestamp() FROM task WHERE id = :id", id=task_id)
    return bool(due)


# --- in order


def test_claim_says_when_it_began_and_report_when_it_ended() -> None:
    run = factories.running()

    assert (run.task.status, run.came_from, run.node) == (Status.IN_PROCESS, Status.SCHEDULED, factories.NODE[1])
    assert run.task.started_time is not None
    assert run.task.ended_time is None
    factories.report(run, Event.SUCCEED, outcome="12 sent")
    after = task(run.task.id)
    assert (after.status, after.outcome_message, after.error_message) == (Status.COMPLETED, "12 sent", None)
    assert after.ended_time is not None
    assert after.started_time == run.task.started_time


def test_retry_waits_for_its_delay_and_counts_the_failure() -> None:
    run = factories.running()

    factories.report(run, Event.RETRY, error="refused", delay=timedelta(minutes=10), counts=True)

    after = task(run.task.id)
    assert (after.status, after.failures, after.error_message) == (Status.SCHEDULED_FOR_RETRY, 1, "refused")
    [left] = factories.sql(
        "SELECT extract(epoch FROM scheduled_time - ended_time) FROM task WHERE id = :id", id=after.id
    )
    assert 599 < left < 601
    assert factories.reserve() == []


def test_text_of_an_error_stays_beside_a_later_outcome() -> None:
    run = factories.running()
    factories.report(run, Event.RETRY, error="refused", counts=True)

    factories.report(run_again(), Event.SUCCEED, outcome="sent")

    after = task(run.task.id)
    assert (after.outcome_message, after.error_message, after.failures) == ("sent", "refused", 1)


@pytest.mark.parametrize("first", [Status.SCHEDULED, Status.SCHEDULED_FOR_RETRY])
def test_run_that_is_given_back_leaves_status_time_and_failures_as_they_were(first: Status) -> None:
    placed = factories.placed(first)
    factories.sql("UPDATE task SET failures = 2, lost_leases = 1, scheduled_time = now() - interval '1 hour'")
    before = task(placed.task_id)
    run = run_again()

    assert factories.report(run, Event.GIVE_BACK) is first

    after = task(placed.task_id)
    assert after.status is first
    for name in ("failures", "lost_leases", "scheduled_time", "ended_time", "error_message", "outcome_message"):
        if name != "ended_time":  # of the last run that ended by itself; the claim has cleared it
            assert getattr(after, name) == getattr(before, name), name
    assert [r.task_id for r in factories.reserve()] == [placed.task_id]


# --- lost


def test_lost_run_is_due_again_at_once_and_costs_no_retry() -> None:
    run = factories.running()

    assert lose(run) is Status.SCHEDULED_FOR_RETRY

    after = task(run.task.id)
    assert (after.failures, after.lost_leases, after.error_message) == (0, 1, None)
    assert is_due(after.id)
    assert after.started_time is not None
    assert after.scheduled_time > after.started_time
    assert factories.run_row(run.run_id)["ending"] == Ending.LOST
    assert run_again().task.id == run.task.id


def test_task_that_is_lost_too_often_in_a_row_fails_and_says_so() -> None:
    run = factories.running()
    assert lose(run) is Status.SCHEDULED_FOR_RETRY
    assert lose(run_again()) is Status.SCHEDULED_FOR_RETRY

    last = run_again()
    assert lose(last) is Status.FAILED

    after = task(run.task.id)
    assert (after.failures, after.lost_leases) == (0, 3)
    assert after.error_message == "its process died; lost 3 times in a row, at most 3"
    assert factories.run_row(last.run_id)["ending"] == Ending.FAILED
    assert factories.arrows_of(after.id)[-1] == (Status.IN_PROCESS, Event.FAIL, Status.FAILED)


@pytest.mark.parametrize("event", [Event.RETRY, Event.SUCCEED, Event.FAIL])
def test_run_that_ends_by_itself_begins_the_row_of_losses_anew(event: Event) -> None:
    run = factories.running()
    lose(run)
    lose(run_again())

    factories.report(run_again(), event)

    assert task(run.task.id).lost_leases == 0


def test_task_that_was_lost_too_often_starts_anew_when_it_is_rescheduled() -> None:
    run = factories.running()
    for _ in range(2):
        lose(run if task(run.task.id).lost_leases == 0 else run_again())
    lose(run_again())

    operations.reschedule_one(run.task.id, TaskQuery(), Change(), factories.BY)

    after = task(run.task.id)
    assert (after.status, after.lost_leases, after.error_message) == (Status.SCHEDULED, 0, None)


# --- late


def test_late_report_of_a_rescued_run_changes_nothing() -> None:
    run = factories.running()
    lose(run)
    before = task(run.task.id)

    for event in (Event.SUCCEED, Event.FAIL, Event.RETRY, Event.GIVE_BACK, Event.LOSE):
        assert factories.report(run, event, outcome="late", error="late", counts=True) is None

    assert task(run.task.id) == before
    assert factories.run_row(run.run_id)["ending"] == Ending.LOST


def test_late_report_changes_nothing_of_the_next_run() -> None:
    run = factories.running()
    lose(run)
    second = run_again()
    before = task(run.task.id)

    assert factories.report(run, Event.SUCCEED, outcome="late") is None
    assert lose(run) is None

    assert task(run.task.id) == before
    assert factories.run_row(second.run_id)["ended_at"] is None
    assert factories.report(second, Event.SUCCEED) is Status.COMPLETED


@pytest.mark.parametrize("event", [Event.CANCEL, Event.RESCHEDULE, Event.DELETE])
def test_late_report_of_a_run_whose_task_was_changed_writes_no_text(event: Event) -> None:
    run = factories.running()
    factories.change(event, run.task.id)
    before = factories.view(run.task.id)

    assert factories.report(run, Event.FAIL, error="late", counts=True) is None

    assert factories.view(run.task.id) == before


def test_moved_and_claimed_task_is_not_touched_by_its_first_run() -> None:
    run = factories.running()
    factories.change(Event.RESCHEDULE, run.task.id, store.Target("archive-b", "Export", "Noop"))
    factories.report(run, Event.SUCCEED)
    [there] = factories.reserve("archive-b")
    second = factories.claim(there)
    assert second is not None

    assert factories.report(run, Event.FAIL, error="late") is None

    assert task(run.task.id).status is Status.IN_PROCESS
    assert factories.report(second, Event.SUCCEED) is Status.COMPLETED


# --- progress


def test_progress_is_written_while_the_task_is_this_runs_only() -> None:
    run = factories.running()
    with db.transaction() as session:
        store.note_progress(session, run.task.id, run.run_id, {"completed": 1})
    assert task(run.task.id).progress == {"completed": 1}

    lose(run)
    second = run_again()
    with db.transaction() as session:
        store.note_progress(session, run.task.id, run.run_id, {"completed": 99})

    assert task(run.task.id).progress == {"completed": 1}
    assert factories.run_row(second.run_id)["ended_at"] is None


@pytest.mark.parametrize("event", [Event.CANCEL, Event.RESCHEDULE])
def test_run_that_still_ends_writes_no_progress(event: Event) -> None:
    run = factories.running()
    factories.change(event, run.task.id)

    with db.transaction() as session:
        store.note_progress(session, run.task.id, run.run_id, {"completed": 99})

    assert task(run.task.id).progress == {}


def test_progress_is_a_sign_of_life() -> None:
    run = factories.running()
    factories.sql("UPDATE run SET progress_at = now() - interval '1 hour'")

    with db.transaction() as session:
        store.note_progress(session, run.task.id, run.run_id, {})
        [found] = slots.open_runs(session)

    assert found.progress_ago_s is not None
    assert found.progress_ago_s < 60


# --- rounds


def test_completed_task_that_is_rescheduled_begins_a_new_round_and_a_failed_one_goes_on() -> None:
    rounds = {}
    for status in (Status.COMPLETED, Status.WARNING, Status.FAILED, Status.CANCELED, Status.SCHEDULED_FOR_RETRY):
        placed = factories.placed(status)
        factories.change(Event.RESCHEDULE, placed.task_id)
        rounds[status] = task(placed.task_id).round
        factories.change(Event.DELETE, placed.task_id)

    assert rounds == {
        Status.COMPLETED: 1, Status.WARNING: 1, Status.FAILED: 0, Status.CANCELED: 0, Status.SCHEDULED_FOR_RETRY: 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (store.Target("archive-b", "Export", "Noop", destination="file:/a"), 0),
        (store.Target("archive-a", "Export", "Other", destination="file:/a"), 1),
        (store.Target("archive-b", "Export", "Noop", destination="file:/b"), 1),
        (store.Target("archive-b", "Export", "Noop", destination=None), 1),
    ],
)
def test_another_destination_begins_a_new_round(target: store.Target, expected: int) -> None:
    placed = factories.placed(Status.FAILED, destination="file:/a")

    factories.change(Event.RESCHEDULE, placed.task_id, target)

    assert task(placed.task_id).round == expected


def test_many_tasks_are_inserted_at_once_in_their_order() -> None:
    given = [factories.new_task(batch_id=str(number)) for number in range(5000)]

    with db.transaction() as session:
        made = store.insert_tasks(session, given, factories.BY)

    assert [view.batch_id for view in made] == [one.batch_id for one in given]
    assert [view.id for view in made] == sorted(view.id for view in made)
    assert factories.sql("SELECT count(*) FROM history") == [1]
