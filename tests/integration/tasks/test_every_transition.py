"""Every pair (status, event) against the statements of the store: they agree with the table."""

from __future__ import annotations

import pytest

from archive import db
from tasks import state, store
from tasks.run import Ending, Stop
from tasks.state import REPORTS, Event, Status
from tasks.store import By, Claimed
from tests import factories

pytestmark = pytest.mark.usefixtures("cluster")

PAIRS = [(status, event) for status in Status for event in Event if event is not Event.CREATE]


def open_run(task_id: int, *, claimed: bool) -> int:
    """Insert an open run of a task by SQL: the store would refuse it in most statuses."""
    return int(
        factories.sql(
            "INSERT INTO run (task_id, kind, device, queue, slot, token, came_from, sent_at, lease_until, claimed_at)"
            " VALUES (:id, 'EXPORT', 'archive-a', 'Export', 9, :token, 'SCHEDULED', now(), now() + interval '1 min',"
            " CASE WHEN :claimed THEN now() END) RETURNING id",
            id=task_id, token="00000000-0000-0000-0000-000000000001", claimed=claimed,
        )[0]
    )  # fmt: skip


def happen(event: Event, placed: factories.Placed, status: Status) -> bool:
    """Let the event happen to the task; tells whether the store says that it did."""
    with_own_run = status is Status.IN_PROCESS and placed.run is not None
    if event is Event.CLAIM:
        return _claim(placed, with_own_run=with_own_run)
    if event in REPORTS:
        run = placed.run if with_own_run else None
        run_id = run.run_id if run is not None else open_run(placed.task_id, claimed=True)
        with db.transaction() as session:
            said = store.Report(event, outcome="o", error="e")
            return store.report(session, placed.task_id, run_id, said, By("node")) is not None
    return factories.change(event, placed.task_id) == 1


def _claim(placed: factories.Placed, *, with_own_run: bool) -> bool:
    if with_own_run and placed.run is not None:
        run_id = placed.run.run_id
        token = str(factories.run_row(run_id)["token"])
    else:
        run_id, token = open_run(placed.task_id, claimed=False), "00000000-0000-0000-0000-000000000001"
    with db.transaction() as session:
        found = store.claim(session, placed.task_id, run_id, token, node=factories.NODE, lease=factories.LEASE)
    return found is not None


@pytest.mark.parametrize(("status", "event"), PAIRS, ids=lambda value: str(value).replace(" ", "_"))
def test_store_does_what_the_table_says(status: Status, event: Event) -> None:
    placed = factories.placed(status)
    before = factories.arrows_of(placed.task_id)
    assert factories.status_of(placed.task_id) is status

    happened = happen(event, placed, status)

    expected = state.next_status(status, event) if state.may(status, event) else status
    assert happened == state.may(status, event)
    assert factories.status_of(placed.task_id) == expected
    new = [(status, event, expected)] if happened else []
    assert factories.arrows_of(placed.task_id) == before + new


def test_new_task_is_scheduled_now_with_nothing_done_yet() -> None:
    [task] = factories.insert()

    assert (task.status, task.priority, task.failures, task.lost_leases, task.round) == (Status.SCHEDULED, 4, 0, 0, 0)
    assert (task.started_time, task.ended_time, task.error_message, task.outcome_message) == (None, None, None, None)
    assert factories.sql("SELECT scheduled_time <= clock_timestamp() FROM task") == [True]
    assert factories.arrows_of(task.id) == [(None, Event.CREATE, Status.SCHEDULED)]


def test_cancel_ends_nothing_that_did_not_run() -> None:
    # Nothing else may be due when one is claimed.
    runs = factories.placed(Status.IN_PROCESS)
    retried = factories.placed(Status.SCHEDULED_FOR_RETRY)
    never_ran = factories.placed(Status.SCHEDULED)
    before = factories.view(retried.task_id)
    assert before is not None

    for placed in (never_ran, retried, runs):
        factories.change(Event.CANCEL, placed.task_id)

    ends = [found.ended_time for placed in (never_ran, retried, runs) if (found := factories.view(placed.task_id))]
    assert ends[:2] == [None, before.ended_time]
    assert ends[2] is not None


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.IN_PROCESS])
@pytest.mark.parametrize("event", sorted(REPORTS))
def test_report_of_a_run_that_is_still_ending_ends_the_run_only(status: Status, event: Event) -> None:
    placed = factories.placed(status)
    run_id = open_run(placed.task_id, claimed=True)
    before = factories.view(placed.task_id)

    with db.transaction() as session:
        said = store.Report(event, outcome="o", error="e", counts=True)
        store.report(session, placed.task_id, run_id, said, By("node"))

    assert factories.view(placed.task_id) == before
    ending = Ending.LOST if event is Event.LOSE else Ending.STOPPED
    assert factories.run_row(run_id)["ending"] == ending


@pytest.mark.parametrize(
    ("event", "ending"),
    [
        (Event.SUCCEED, Ending.COMPLETED), (Event.WARN, Ending.WARNING), (Event.FAIL, Ending.FAILED),
        (Event.RETRY, Ending.RETRY), (Event.LOSE, Ending.LOST), (Event.GIVE_BACK, Ending.GIVEN_BACK),
        (Event.DROP, Ending.DROPPED),
    ],
)  # fmt: skip
def test_run_row_says_how_the_run_ended(event: Event, ending: Ending) -> None:
    claimed = factories.running()

    factories.report(claimed, event)

    row = factories.run_row(claimed.run_id)
    assert row["ending"] == ending
    assert row["ended_at"] is not None


@pytest.mark.parametrize(
    ("event", "stop"),
    [(Event.CANCEL, Stop.CANCEL), (Event.RESCHEDULE, Stop.RESCHEDULE), (Event.DELETE, Stop.DELETE)],
)
def test_open_run_is_asked_to_stop_and_told_why(event: Event, stop: Stop) -> None:
    claimed: Claimed = factories.running()

    factories.change(event, claimed.task.id)

    row = factories.run_row(claimed.run_id)
    assert (row["stop_reason"], row["stop_text"], row["ended_at"]) == (stop, "test", None)
    assert row["stop_asked_at"] is not None
