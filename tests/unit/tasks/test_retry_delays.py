"""Delays between attempts, as dcmQueue says."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.device import Queue
from tasks import retry


def queue(delay_s: float, multiplier: int = 100, cap_s: float | None = None, retries: int = 10) -> Queue:
    return Queue(
        "Export",
        max_retries=retries,
        retry_delay=timedelta(seconds=delay_s),
        retry_delay_multiplier=multiplier,
        max_retry_delay=None if cap_s is None else timedelta(seconds=cap_s),
    )


def delays(given_queue: Queue, number: int) -> list[float | None]:
    found = [retry.delay(given_queue, failures) for failures in range(1, number + 1)]
    return [None if one is None else one.total_seconds() for one in found]


def test_shipped_values_double_up_to_ten_minutes_and_end_after_ten_retries() -> None:
    shipped = queue(30, 200, 600)

    assert delays(shipped, 12) == [30, 60, 120, 240, 480, 600, 600, 600, 600, 600, None, None]


def test_queue_without_retries_gives_up_at_the_first_failure() -> None:
    assert delays(queue(30, retries=0), 2) == [None, None]


def test_delay_stays_the_same_at_100_percent() -> None:
    assert delays(queue(30), 3) == [30, 30, 30]


def test_delay_above_its_cap_is_cut_at_the_first_failure() -> None:
    assert delays(queue(60, 200, 10), 3) == [10, 10, 10]


def test_cap_of_nothing_means_no_delay() -> None:
    assert delays(queue(30, 200, 0), 2) == [0, 0]


def test_multiplier_below_100_shortens_each_delay_before_the_cap_cuts_it() -> None:
    assert delays(queue(100, 50), 4) == [100, 50, 25, 12.5]
    assert delays(queue(100, 50, 60), 3) == [60, 50, 25]


def test_no_delay_stays_no_delay() -> None:
    assert delays(queue(0, 200), 5) == [0] * 5


@pytest.mark.parametrize(("delay_s", "multiplier"), [(30, 200), (300 * 86400, 10**9), (1, 10**30)])
def test_long_row_of_failures_without_a_cap_does_not_overflow(delay_s: int, multiplier: int) -> None:
    endless = queue(delay_s, multiplier, retries=1000)

    assert retry.delay(endless, 1000) == retry.LONGEST_DELAY


@given(
    st.integers(0, 10**6), st.integers(1, 10**6), st.none() | st.integers(0, 10**6), st.integers(1, 50)
)  # fmt: skip
def test_delay_is_never_negative_nor_above_its_cap_and_moves_one_way(
    delay_s: int, multiplier: int, cap_s: int | None, number: int
) -> None:
    found = [d for d in delays(queue(delay_s, multiplier, cap_s, retries=50), number) if d is not None]

    highest = retry.LONGEST_DELAY.total_seconds() if cap_s is None else cap_s
    assert len(found) == number
    assert all(0 <= delay <= highest for delay in found)
    for earlier, later in pairwise(found):
        assert later >= earlier if multiplier >= 100 else later <= earlier
