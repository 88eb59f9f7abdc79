"""Two who change one task at once: the first commit wins, in both orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session

from tasks import query, slots, store, taking
from tasks.run import Ending
from tasks.state import Event, Status
from tasks.store import By, Claimed, Report, Target
from tests import factories, race

pytestmark = pytest.mark.usefixtures("cluster")

Work = Callable[[Session], Any]
ELSEWHERE = Target("archive-b", "Export", "Noop")


def changing(event: Event, task_id: int, target: Target | None = None) -> Work:
    def change(session: Session) -> int:
        taken = taking.take(session, query.TaskQuery(ids=(task_id,)).conditions(), 0, 1)
        if event is Event.CANCEL:
            return store.cancel(session, taken, factories.BY)
        if event is Event.RESCHEDULE:
            moves = [(task, target or Target("archive-a", "Export", "Noop")) for task in taken]
            return store.reschedule(session, moves, factories.BY, {})
        return store.delete_tasks(session, taken, factories.BY)

    return change


def reporting(run: Claimed, event: Event) -> Work:
    return lambda session: store.report(session, run.task.id, run.run_id, Report(event, counts=True), By("node"))


def claiming(reservation: slots.Reservation) -> Work:
    return lambda session: store.claim(
        session, reservation.task_id, reservation.run_id, reservation.token,
        node=factories.NODE, lease=factories.LEASE,
    )  # fmt: skip


def ending_of(run_id: int) -> str | None:
    ending: str | None = factories.run_row(run_id)["ending"]
    return ending


REPORTED = {
    Event.SUCCEED: Status.COMPLETED, Event.WARN: Status.WARNING, Event.FAIL: Status.FAILED,
    Event.RETRY: Status.SCHEDULED_FOR_RETRY, Event.GIVE_BACK: Status.SCHEDULED,
}  # fmt: skip
CHANGED = {Event.CANCEL: Status.CANCELED, Event.RESCHEDULE: Status.SCHEDULED, Event.DELETE: None}


@pytest.mark.parametrize("report", list(REPORTED))
@pytest.mark.parametrize("change", list(CHANGED))
def test_report_that_comes_after_a_change_changes_nothing(change: Event, report: Event) -> None:
    run = factories.running()

    changed, reported = race.overlap(changing(change, run.task.id), reporting(run, report))

    assert (changed, reported) == (1, None)
    assert factories.status_of(run.task.id) == CHANGED[change]
    assert ending_of(run.run_id) == Ending.STOPPED
    assert [event for _, event, _ in factories.arrows_of(run.task.id)] == [Event.CREATE, Event.CLAIM, change]


@pytest.mark.parametrize("report", list(REPORTED))
@pytest.mark.parametrize("change", list(CHANGED))
def test_change_that_comes_after_a_report_finds_its_status(change: Event, report: Event) -> None:
    run = factories.running()

    reported, changed = race.overlap(reporting(run, report), changing(change, run.task.id))

    between = REPORTED[report]
    happens = change is not Event.CANCEL or between.is_waiting
    assert (reported, changed) == (between, int(happens))
    after = CHANGED[change] if happens else between
    assert factories.status_of(run.task.id) == after
    last = (between, change, after) if happens else (Status.IN_PROCESS, report, between)
    assert factories.arrows_of(run.task.id)[-1] == last
    assert factories.run_row(run.run_id)["stop_asked_at"] is None


@pytest.mark.parametrize("change", list(CHANGED))
def test_claim_that_comes_after_a_change_gets_nothing(change: Event) -> None:
    [task] = factories.insert()
    [reservation] = factories.reserve()

    changed, claimed = race.overlap(changing(change, task.id, ELSEWHERE), claiming(reservation))

    assert (changed, claimed) == (1, None)
    assert factories.status_of(task.id) == CHANGED[change]
    assert ending_of(reservation.run_id) == Ending.WITHDRAWN


@pytest.mark.parametrize("change", list(CHANGED))
def test_change_that_comes_after_a_claim_stops_the_run(change: Event) -> None:
    [task] = factories.insert()
    [reservation] = factories.reserve()

    claimed, changed = race.overlap(claiming(reservation), changing(change, task.id, ELSEWHERE))

    assert claimed is not None
    assert changed == 1
    assert factories.status_of(task.id) == CHANGED[change]
    row = factories.run_row(reservation.run_id)
    assert (row["stop_reason"], row["ended_at"]) == (change.value, None)


@pytest.mark.parametrize("change", list(CHANGED))
def test_change_that_comes_after_a_reservation_withdraws_it(change: Event) -> None:
    [task] = factories.insert()

    reserved, changed = race.overlap(
        lambda session: slots.reserve(session, "archive-a", "Export", 1), changing(change, task.id, ELSEWHERE)
    )

    assert changed == 1
    assert ending_of(reserved[0].run_id) == Ending.WITHDRAWN


@pytest.mark.parametrize("change", list(CHANGED))
def test_task_that_is_being_changed_is_not_reserved(change: Event) -> None:
    [task] = factories.insert()

    _, reserved = race.overlap(
        changing(change, task.id, ELSEWHERE), lambda session: slots.reserve(session, "archive-a", "Export", 1)
    )

    assert reserved == []


def test_two_who_cancel_at_once_do_it_once() -> None:
    run = factories.running()

    counts = race.overlap(changing(Event.CANCEL, run.task.id), changing(Event.CANCEL, run.task.id))

    assert counts == (1, 0)
    assert [event for _, event, _ in factories.arrows_of(run.task.id)].count(Event.CANCEL) == 1


def test_of_several_who_claim_at_once_one_wins() -> None:
    for _ in range(10):
        [task] = factories.insert()
        [reservation] = factories.reserve(number=1)

        found = race.at_once([claiming(reservation)] * 4)

        won = [claimed for claimed in found if claimed is not None]
        assert len(won) == 1
        assert [event for _, event, _ in factories.arrows_of(task.id)].count(Event.CLAIM) == 1
        factories.report(won[0], Event.SUCCEED)


def test_second_claimer_that_waits_for_the_first_gets_nothing() -> None:
    factories.insert()
    [reservation] = factories.reserve()

    first, second = race.overlap(claiming(reservation), claiming(reservation))

    assert first is not None
    assert second is None


@pytest.mark.parametrize("first_is_loss", [True, False])
def test_loss_and_report_of_one_run_count_once(first_is_loss: bool) -> None:
    run = factories.running()

    def losing(session: Session) -> Status | None:
        return store.lose(session, run.task.id, run.run_id, {}, By("beat"))

    works = (losing, reporting(run, Event.SUCCEED))
    first, second = race.overlap(*(works if first_is_loss else reversed(works)))

    assert first is (Status.SCHEDULED_FOR_RETRY if first_is_loss else Status.COMPLETED)
    assert second is None
    assert factories.status_of(run.task.id) is first
    assert len(factories.arrows_of(run.task.id)) == 3


def test_message_that_was_sent_again_while_it_was_claimed_is_stale() -> None:
    factories.insert()
    [reservation] = factories.reserve()

    renewed, claimed = race.overlap(
        lambda session: slots.renew_reservations(session, "archive-a", ["EXPORT"]), claiming(reservation)
    )

    assert len(renewed) == 1
    assert claimed is None


def test_claim_that_came_first_is_not_sent_again() -> None:
    factories.insert()
    [reservation] = factories.reserve()

    claimed, renewed = race.overlap(
        claiming(reservation), lambda session: slots.renew_reservations(session, "archive-a", ["EXPORT"])
    )

    assert claimed is not None
    assert renewed == []
