"""Wait for a condition, never for a time; say what was waited for when it does not come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: How long anything in a cluster may take on a machine that is busy with other things.
PATIENCE_S = 90.0

_POLL_S = 0.02


def wait_until(holds: Callable[[], T], what: str, *, timeout_s: float = PATIENCE_S, say: Callable[[], str] = str) -> T:
    """Wait until the condition holds and return its value.

    Args:
        holds: the condition; holds when its value is true.
        what: what is waited for, in words.
        timeout_s: when to give up.
        say: told when it does not come: what is there instead.

    Raises:
        AssertionError: it did not come in time.
    """
    end = time.monotonic() + timeout_s
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout_s:g} s in vain until {what}. {say()}")
        time.sleep(_POLL_S)


def holds_for(holds: Callable[[], bool], what: str, *, for_s: float) -> None:
    """See that a condition goes on holding: for what must not happen.

    Raises:
        AssertionError: it ceased to hold.
    """
    end = time.monotonic() + for_s
    while time.monotonic() < end:
        assert holds(), f"did not hold for {for_s:g} s: {what}"
        time.sleep(_POLL_S)
