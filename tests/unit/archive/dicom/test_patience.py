"""How long somebody is waited for."""

from __future__ import annotations

import pytest

from archive.dicom.patience import LEAST_BYTES_PER_S, Patience


def test_bytes_do_not_make_a_time_longer() -> None:
    waited = Patience("response", 10)

    for _ in range(10):
        waited.waited(1, 1_000_000)

    assert waited.left_s == 0


@pytest.mark.parametrize(("bytes_per_s", "is_over"), [(LEAST_BYTES_PER_S, False), (LEAST_BYTES_PER_S // 2, True)])
def test_steady_sender_has_any_time_and_a_trickle_has_not(bytes_per_s: int, is_over: bool) -> None:
    waited = Patience.of_steady("data", 60)

    seconds = 0
    while waited.left_s > 0 and seconds < 10_000:
        waited.waited(1, bytes_per_s)
        seconds += 1

    assert (waited.left_s <= 0) == is_over
    assert waited.text(0, 6) == "no data within 60 s, only 30720 bytes" or not is_over


def test_without_a_limit_little_is_enough() -> None:
    waited = Patience.of_steady("data", 0)

    waited.waited(3600, 60 * LEAST_BYTES_PER_S)

    assert waited.left_s == waited.within_s
