"""How long a child that ended waits for its next start."""

from __future__ import annotations

from workers import supervise


def test_delays_double_up_to_half_a_minute() -> None:
    delays = [0.0]
    for _ in range(7):
        delays.append(supervise.next_delay(delays[-1]))

    assert delays[1:] == [1, 2, 4, 8, 16, 30, 30]


def test_exit_codes_are_described_in_words() -> None:
    assert [supervise.describe_exit(code) for code in (3, -9, -200)] == [
        "exit code 3",
        "signal SIGKILL",
        "signal 200",
    ]
