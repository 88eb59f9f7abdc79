"""One run from top to bottom: claimed if it still may, attempted, and its end recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from archive import db
from config import settings
from config.device import Exporter, Queue
from config.schedule import Schedule
from tasks import waited
from tasks.run import Ending, Stop
from tasks.slots import Reservation
from tasks.state import Event, Status
from tasks.store import By, Claimed
from tests import factories
from workers import execute
from workers.execute import Node
from workers.queues import RunMessage

pytestmark = pytest.mark.usefixtures("cluster")

NODE = Node(7, "archive-a.1@host")


def message(reservation: Reservation) -> RunMessage:
    return RunMessage(reservation.task_id, reservation.run_id, reservation.token)


def reserved(**values: Any) -> Reservation:
    factories.insert(**values)
    [reservation] = factories.reserve(number=30)
    return reservation


def use_device(**values: Any) -> None:
    factories.use_cluster(factories.device(**values))


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ARCFLEET_HOME", str(tmp_path))
    settings.reload()
    yield
    monkeypatch.undo()
    settings.reload()


def test_task_is_claimed_run_and_completed() -> None:
    reservation = reserved()

    execute.run_task(message(reservation), NODE)

    [task] = factories.views()
    assert (task.status, task.outcome_message) == (Status.COMPLETED, "NOOP")
    row = factories.run_row(reservation.run_id)
    assert (row["node_id"], row["ending"]) == (NODE.id, Ending.COMPLETED)
    assert [event for _, event, _ in factories.arrows_of(task.id)] == [Event.CREATE, Event.CLAIM, Event.SUCCEED]


def test_message_that_comes_twice_runs_once() -> None:
    reservation = reserved()

    for _ in range(2):
        execute.run_task(message(reservation), NODE)

    assert len(factories.arrows_of(reservation.task_id)) == 3


@pytest.mark.parametrize("event", [Event.CANCEL, Event.DELETE, Event.RESCHEDULE])
def test_message_of_a_task_that_was_changed_leaves_no_trace(event: Event) -> None:
    reservation = reserved()
    factories.change(event, reservation.task_id)
    before = factories.view(reservation.task_id)

    execute.run_task(message(reservation), NODE)

    assert factories.view(reservation.task_id) == before


PAUSED = "INSERT INTO pause (device, queue, draining, who) VALUES ('archive-a', :queue, :draining, 'anna')"


def pause(queue: str = "", *, draining: bool = False) -> None:
    factories.sql(PAUSED, queue=queue, draining=draining)


def never_open() -> Schedule:
    [hour] = factories.sql("SELECT extract(hour FROM now())::int")
    return Schedule(hours=frozenset({(hour + 12) % 24}))


@pytest.mark.parametrize(
    "close",
    [
        pause,
        lambda: pause("Export"),
        lambda: pause(draining=True),
        lambda: use_device(installed=False),
        lambda: use_device(is_ours=False),
        lambda: use_device(queues={}),
        lambda: use_device(queues={"Export": replace(factories.EXPORT, installed=False)}),
        lambda: use_device(queues={"Export": replace(factories.EXPORT, schedules=(never_open(),))}, time_zone="UTC"),
        lambda: factories.use_cluster(factories.device("archive-b")),
    ],
    ids=["paused", "queue paused", "drained", "device off", "foreign", "no queue", "queue off", "window", "no device"],
)
def test_queue_that_was_closed_since_the_message_was_sent_takes_the_reservation_back(close: Any) -> None:
    reservation = reserved()
    close()

    execute.run_task(message(reservation), NODE)

    assert factories.status_of(reservation.task_id) is Status.SCHEDULED
    assert factories.run_row(reservation.run_id)["ending"] == Ending.WITHDRAWN
    assert len(factories.arrows_of(reservation.task_id)) == 1


@pytest.mark.parametrize("values", [{"queue": "Retrieve"}, {"until": "2020-01-01"}, {"device": "archive-b"}])
def test_other_pauses_hold_nothing(values: dict[str, str]) -> None:
    reservation = reserved()
    given = {"device": "archive-a", "queue": "", "until": None, **values}
    factories.sql(
        "INSERT INTO pause (device, queue, who, until) VALUES (:device, :queue, 'x', CAST(:until AS timestamptz))",
        **given,
    )

    execute.run_task(message(reservation), NODE)

    assert factories.status_of(reservation.task_id) is Status.COMPLETED


# --- failures


def test_error_that_no_attempt_can_help_fails_at_once() -> None:
    use_device(exporters={"Noop": Exporter("Noop", "nowhere:", "Export")})
    reservation = reserved()

    execute.run_task(message(reservation), NODE)

    [task] = factories.views()
    assert (task.status, task.failures) == (Status.FAILED, 1)
    assert "Exporter Noop has dcmURI nowhere:, a scheme that this version cannot export to" in str(task.error_message)


def settled(error: Exception, *, retries: int, already: int) -> tuple[Status | None, int, str | None]:
    queue = Queue("Export", max_retries=retries, retry_delay=timedelta(0))
    use_device(queues={"Export": queue})
    claimed = factories.running()
    factories.sql("UPDATE task SET failures = :n WHERE id = :id", n=already, id=claimed.task.id)
    again = replace(claimed, task=replace(claimed.task, failures=already))
    execute.settle(again, factories.device(queues={"Export": queue}), error)
    [task] = factories.views()
    return task.status, task.failures, task.error_message


@pytest.mark.parametrize(
    ("retries", "already", "after"),
    [
        (0, 0, Status.FAILED),
        (1, 0, Status.SCHEDULED_FOR_RETRY),
        (1, 1, Status.FAILED),
        (2, 1, Status.SCHEDULED_FOR_RETRY),
    ],
)
def test_failed_attempts_are_counted_up_to_the_limit_of_the_queue(retries: int, already: int, after: Status) -> None:
    assert settled(RuntimeError("boom"), retries=retries, already=already) == (after, already + 1, "boom")


@pytest.mark.parametrize(("wait_s", "after"), [(60, Status.FAILED), (0, Status.SCHEDULED_FOR_RETRY)])
def test_attempt_that_fails_while_a_client_waits_is_the_last_one(wait_s: float, after: Status) -> None:
    use_device()
    claimed = factories.running(params=waited.waited_for(factories.new_task(), wait_s).params)

    assert execute.settle(claimed, factories.device(), RuntimeError("boom")) is after


def test_task_that_somebody_else_wants_meanwhile_is_tried_again() -> None:
    use_device()
    claimed = factories.running(params=waited.waited_for(factories.new_task(), 60).params)
    factories.sql("UPDATE task SET params = '{}'")

    assert execute.settle(claimed, factories.device(), RuntimeError("boom")) is Status.SCHEDULED_FOR_RETRY


def test_queue_that_is_gone_gives_up_after_one_attempt() -> None:
    claimed = factories.running()
    execute.settle(claimed, factories.device(queues={}), RuntimeError("boom"))

    assert factories.status_of(claimed.task.id) is Status.FAILED


# --- a process that is gone


@pytest.mark.parametrize(
    ("reason", "after", "ending"),
    [
        (Stop.SHUTDOWN, Status.SCHEDULED, Ending.GIVEN_BACK),
        (Stop.WATCHDOG, Status.SCHEDULED_FOR_RETRY, Ending.RETRY),
    ],
)
def test_process_that_was_killed_after_it_was_asked_to_stop(reason: Stop, after: Status, ending: Ending) -> None:
    claimed = factories.running()

    with db.transaction() as session:
        execute.report_stopped(
            session, claimed.task.id, claimed.run_id, reason, {"Export": factories.EXPORT}, By("node")
        )

    [task] = factories.views()
    assert (task.status, task.failures) == (after, int(reason is Stop.WATCHDOG))
    assert factories.run_row(claimed.run_id)["ending"] == ending


@pytest.mark.parametrize("event", [Event.CANCEL, Event.RESCHEDULE, Event.DELETE])
def test_process_that_was_killed_after_its_task_was_changed_ends_its_run_only(event: Event) -> None:
    claimed: Claimed = factories.running()
    factories.change(event, claimed.task.id)
    before = factories.view(claimed.task.id)

    with db.transaction() as session:
        execute.report_stopped(session, claimed.task.id, claimed.run_id, event.value, {}, By("node"))

    assert factories.view(claimed.task.id) == before
    assert factories.run_row(claimed.run_id)["ending"] == Ending.STOPPED
