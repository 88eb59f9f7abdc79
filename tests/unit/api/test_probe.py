"""The probe of a server: asked by one thread, never waited for longer than told."""

from __future__ import annotations

import threading
import time

from api.gate import Probe


def test_answer_is_believed_for_a_moment() -> None:
    asked: list[None] = []
    probe = Probe("probe", lambda: asked.append(None), ())

    assert probe.wrong() is None
    assert probe.wrong() is None
    assert probe.is_fresh()
    assert len(asked) == 1
    probe.doubt()
    assert probe.wrong() is None
    assert len(asked) == 2


def test_failure_is_told() -> None:
    def fail() -> None:
        raise OSError("refused\nand more")

    probe = Probe("probe", fail, (OSError,))

    assert probe.wrong() == "refused"
    assert not probe.is_fresh()


def test_silent_server_is_told_after_the_patience_and_from_then_on_at_once() -> None:
    goes_on = threading.Event()
    probe = Probe("probe", lambda: assert_true(goes_on.wait(30)), ())

    first = timed(probe, 0.2)
    second = timed(probe, 0.2)
    goes_on.set()

    assert 0.15 < first < 5
    assert second < 0.1
    until = time.monotonic() + 10
    while probe.wrong() is not None:
        assert time.monotonic() < until


def timed(probe: Probe, patience_s: float) -> float:
    began = time.monotonic()
    assert "no answer" in (probe.wrong(patience_s) or "")
    return time.monotonic() - began


def assert_true(value: bool) -> None:
    assert value
