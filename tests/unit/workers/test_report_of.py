"""What is reported of an attempt, for each way in which it can end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from config.device import Queue
from tasks.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    ObsoleteError,
    PermanentError,
    StoppedError,
    TaskError,
)  # fmt: skip
from tasks.outcome import Outcome
from tasks.run import Stop
from tasks.state import Event, Status
from tasks.store import Report
from tasks.work import LOST
from workers import execute

QUEUE = Queue("Export", max_retries=2, retry_delay=timedelta(seconds=30), retry_delay_multiplier=200)
ON_WARNING = replace(QUEUE, retry_on_warning=True)
#: Failures before an attempt that is the last one.
LAST = 2


def test_completed_attempt_succeeds_and_counts_no_failure() -> None:
    said = execute.report_of(Outcome(Status.COMPLETED, "12 sent"), QUEUE, 1)

    assert said == Report(Event.SUCCEED, outcome="12 sent")


def test_obsolete_attempt_is_dropped_and_counts_no_failure() -> None:
    assert execute.report_of(ObsoleteError("accessed"), QUEUE, LAST) == Report(Event.DROP, outcome="accessed")


def test_warning_is_final_where_the_queue_does_not_retry_on_it() -> None:
    assert execute.report_of(Outcome(Status.WARNING, "w"), QUEUE, 0) == Report(Event.WARN, outcome="w")


def test_warning_is_retried_where_the_queue_says_so_and_ends_as_warning() -> None:
    outcome = Outcome(Status.WARNING, "w")

    retried = execute.report_of(outcome, ON_WARNING, 0)
    given_up = execute.report_of(outcome, ON_WARNING, LAST)

    assert retried == Report(Event.RETRY, outcome="w", delay=timedelta(seconds=30), counts=True)
    assert given_up == Report(Event.WARN, outcome="w", counts=True)


def test_failed_attempt_is_retried_with_growing_delays_and_then_fails() -> None:
    outcome = Outcome(Status.FAILED, "f")

    reports = [execute.report_of(outcome, QUEUE, failures) for failures in range(3)]

    assert reports == [
        Report(Event.RETRY, outcome="f", delay=timedelta(seconds=30), counts=True),
        Report(Event.RETRY, outcome="f", delay=timedelta(seconds=60), counts=True),
        Report(Event.FAIL, outcome="f", counts=True),
    ]


@pytest.mark.parametrize("error", [RuntimeError("boom\nand more"), TaskError("boom"), ConflictError("boom")])
def test_exception_is_retried_with_the_first_line_of_its_text_and_then_fails(error: Exception) -> None:
    assert execute.report_of(error, QUEUE, 0) == Report(
        Event.RETRY, error="boom", delay=timedelta(seconds=30), counts=True
    )
    assert execute.report_of(error, QUEUE, LAST) == Report(Event.FAIL, error="boom", counts=True)


def test_exception_without_a_text_is_named_by_its_class() -> None:
    assert execute.report_of(KeyError(), QUEUE, 0).error == "KeyError"


@pytest.mark.parametrize("error", [PermanentError("no"), InvalidError("no"), NotFoundError("no")])
def test_error_that_another_attempt_cannot_help_fails_at_once(error: Exception) -> None:
    assert execute.report_of(error, QUEUE, 0) == Report(Event.FAIL, error="no", counts=True)


def test_run_stopped_by_the_watchdog_is_a_failure_like_any_other() -> None:
    stopped = StoppedError(Stop.WATCHDOG)

    retried, failed = execute.report_of(stopped, QUEUE, 0), execute.report_of(stopped, QUEUE, LAST)

    assert (retried.event, retried.delay, retried.counts) == (Event.RETRY, timedelta(seconds=30), True)
    assert (failed.event, failed.counts) == (Event.FAIL, True)
    for said in (retried, failed):
        assert "watchdog of queue Export" in str(said.error)


def test_run_stopped_by_its_worker_is_given_back_and_counts_nothing() -> None:
    said = execute.report_of(StoppedError(Stop.SHUTDOWN), QUEUE, LAST)

    assert (said.event, said.counts, said.error, said.outcome) == (Event.GIVE_BACK, False, None, None)


def test_run_that_finds_its_lease_over_is_lost_and_counts_nothing() -> None:
    said = execute.report_of(StoppedError(LOST), QUEUE, LAST)

    assert (said.event, said.counts) == (Event.LOSE, False)


@pytest.mark.parametrize("reason", [Stop.CANCEL, Stop.RESCHEDULE, Stop.DELETE])
def test_run_stopped_by_an_operator_counts_nothing_and_says_nothing(reason: Stop) -> None:
    said = execute.report_of(StoppedError(reason), QUEUE, LAST)

    assert (said.event, said.counts, said.error, said.outcome) == (Event.GIVE_BACK, False, None, None)


@pytest.mark.parametrize("reason", [*Stop, LOST])
def test_every_reason_to_stop_is_reported(reason: str) -> None:
    assert execute.report_of(StoppedError(reason), QUEUE, 0).event in {Event.GIVE_BACK, Event.RETRY, Event.LOSE}
