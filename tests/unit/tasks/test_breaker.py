"""When a failing destination is left alone, for how long, and how it is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tasks import breaker
from tasks.breaker import Breaker, Phase

NOW = datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def after_failures(number: int, before: Breaker | None = None) -> Breaker:
    """Fail as often, each run begun when the breaker allows it again."""
    found, now = before or Breaker(), NOW
    for _ in range(number):
        began = max(now, found.open_until or now)
        now = began + SECOND
        found = breaker.after_failure(found, began, now)
    return found


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_few_failures_change_nothing_for_others(failures: int) -> None:
    found = after_failures(failures)

    assert (found.failures, found.phase(NOW), found.gentle_cap) == (failures, Phase.CLOSED, None)


def test_third_failure_in_a_row_opens_for_half_a_minute() -> None:
    failed = NOW + 3 * SECOND

    found = after_failures(3)

    assert found == Breaker(3, failed + timedelta(seconds=30), gentle_cap=1)
    assert found.phase(failed) is Phase.OPEN
    assert found.phase(failed + timedelta(seconds=29)) is Phase.OPEN
    assert found.phase(failed + timedelta(seconds=30)) is Phase.HALF_OPEN


@pytest.mark.parametrize(
    ("failures", "seconds"), [(3, 30), (4, 60), (5, 120), (6, 240), (7, 480), (8, 600), (9, 600), (10**6, 600)]
)
def test_each_further_failure_doubles_the_pause_to_ten_minutes(failures: int, seconds: int) -> None:
    assert breaker.pause(failures) == timedelta(seconds=seconds)


def test_success_in_between_begins_the_count_anew() -> None:
    found = after_failures(2, breaker.after_success(after_failures(2), None))

    assert (found.failures, found.open_until) == (2, None)


def test_failure_of_a_run_from_before_the_opening_says_nothing_new() -> None:
    opened = after_failures(3)
    assert opened.open_until is not None

    late = breaker.after_failure(opened, NOW, opened.open_until + timedelta(hours=1))

    assert late == opened


def test_failure_of_the_run_that_tries_opens_again_for_longer() -> None:
    opened = after_failures(3)
    assert opened.open_until is not None
    tried = opened.open_until + SECOND

    again = breaker.after_failure(opened, opened.open_until, tried)

    assert again == Breaker(4, tried + timedelta(seconds=60), gentle_cap=1)


@pytest.mark.parametrize(("cap", "allowed"), [(4, [2, 3, None]), (2, [None]), (1, [None]), (0, [None])])
def test_each_success_after_an_opening_lets_one_run_more_go_until_the_cap(cap: int, allowed: list[int | None]) -> None:
    found, seen = after_failures(3), []
    while found.gentle_cap is not None:
        found = breaker.after_success(found, cap)
        seen.append(found.gentle_cap)

    assert seen == allowed
    assert found == Breaker()


def test_destination_without_a_cap_is_trusted_again_after_some_successes() -> None:
    found, successes = after_failures(3), 0
    while found.gentle_cap is not None:
        found, successes = breaker.after_success(found, None), successes + 1

    assert successes == breaker.TRUSTED_AT - 1


def test_first_success_closes_the_breaker_but_only_gently() -> None:
    found = breaker.after_success(after_failures(5), None)

    assert (found.failures, found.phase(NOW), found.gentle_cap) == (0, Phase.GENTLE, 2)


def test_failures_while_it_starts_gently_keep_it_small_and_open_it_again() -> None:
    gentle = breaker.after_success(after_failures(3), None)

    assert after_failures(2, gentle).gentle_cap == 2
    assert after_failures(3, gentle).gentle_cap == 1
