"""Time limits for what may never answer: a disk whose server is gone, a peer that hangs, a name that is not found."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class NoAnswer(Exception):
    """What was asked did not answer in time; nobody knows whether it ever will."""


class _Asked(threading.Thread):
    """One question, in a thread of its own: nobody can end it, so that it must not keep the process from ending."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        super().__init__(name="doctor asks", daemon=True)
        self._ask = ask
        self.is_done = threading.Event()
        self.answer: Any = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Ask, and keep what comes of it."""
        try:
            self.answer = self._ask()
        except BaseException as error:  # noqa: BLE001 - raised again for whoever waits
            self.error = error
        self.is_done.set()

    def result(self, until_s: float, limit_s: float) -> Any:
        if not self.is_done.wait(max(0.0, until_s - time.monotonic())):
            raise NoAnswer(f"no answer within {limit_s:g} s")
        if self.error is not None:
            raise self.error
        return self.answer


def within(limit_s: float, ask: Callable[[], R]) -> R:
    """Return the answer to a question, or raise what it raises.

    Args:
        limit_s: seconds to wait for it.
        ask: the question.

    Raises:
        NoAnswer: there was none in time; the thread that waits for it is left behind.
    """
    answer: R = _Asked(ask).result(time.monotonic() + limit_s, limit_s)
    return answer


def each(limit_s: float, things: Iterable[T], ask: Callable[[T], R]) -> list[tuple[T, R | NoAnswer]]:
    """Ask all things at once; return each with its answer, in their order.

    Args:
        limit_s: seconds to wait for all of them together.
        things: what is asked.
        ask: the question; what it raises is raised here.
    """
    until_s = time.monotonic() + limit_s
    asked = [(thing, _Asked(lambda thing=thing: ask(thing))) for thing in things]  # type: ignore[misc]
    found: list[tuple[T, R | NoAnswer]] = []
    for thing, question in asked:
        try:
            found.append((thing, question.result(until_s, limit_s)))
        except NoAnswer as error:
            found.append((thing, error))
    return found
