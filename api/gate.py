"""Whether the database and the broker answer, asked by one thread each, so that a frozen server blocks no request."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

#: Seconds for which an answer is believed.
_BELIEVED_S = 0.5
#: Seconds that a request waits for an answer.
_PATIENCE_S = 1.2
#: After so many seconds of a request it is looked whether the database still answers.
_LOOK_AFTER_S = 1.0
#: A request that has begun is given up only after so many seconds of silence: a busy server may be slow.
_HELD_UP_S = 3.0

T = TypeVar("T")


class AwayError(Exception):
    """The server did not answer in time, or not as expected."""


class Probe:
    """Asks a server in a thread of its own, when somebody wants to know and the last answer is old."""

    def __init__(self, name: str, ask: Callable[[], None], failures: tuple[type[Exception], ...]) -> None:
        """Prepare; the thread starts with the first question.

        Args:
            name: of the thread.
            ask: returns if the server answers.
            failures: what `ask` raises if it does not.
        """
        self._name = name
        self._ask = ask
        self._failures = failures
        self._changed = threading.Condition()
        self._answered_at = float("-inf")
        self._asked_at: float | None = None
        self._wrong: str | None = "not asked yet"

    def is_fresh(self) -> bool:
        """Tell whether the server answered well a moment ago."""
        return self._wrong is None and time.monotonic() - self._answered_at < _BELIEVED_S

    def doubt(self) -> None:
        """Believe the last answer no more: somebody has found otherwise."""
        with self._changed:
            self._answered_at = float("-inf")

    def wrong(self, patience_s: float = _PATIENCE_S) -> str | None:
        """Return what is wrong with the server; None: it answers. Waits for at most the patience."""
        with self._changed:
            if time.monotonic() - self._answered_at < _BELIEVED_S:
                return self._wrong
            if self._asked_at is None:
                self._asked_at = time.monotonic()
                threading.Thread(target=self._look, name=self._name, daemon=True).start()
            asked_at = self._asked_at
            left_s = asked_at + patience_s - time.monotonic()
            if self._changed.wait_for(lambda: self._answered_at >= asked_at, timeout=max(0.0, left_s)):
                return self._wrong
        return f"no answer for {time.monotonic() - asked_at:.0f} s"

    def _look(self) -> None:
        wrong: str | None = None
        try:
            self._ask()
        except self._failures as error:
            lines = str(getattr(error, "orig", None) or error).strip().splitlines()
            wrong = lines[0] if lines else type(error).__name__
        with self._changed:
            self._wrong, self._answered_at, self._asked_at = wrong, time.monotonic(), None
            self._changed.notify_all()


class Gate:
    """Lets requests pass while the database answers."""

    def __init__(self, probe: Probe, patience_s: float = _PATIENCE_S) -> None:
        """Prepare.

        Args:
            probe: of the database.
            patience_s: how long a request waits for the answer of the database before it is refused.
        """
        self._probe = probe
        self._patience_s = patience_s
        self._limiter: anyio.CapacityLimiter | None = None

    async def passable(self, at_least_s: float = 0.0) -> None:
        """Return at once if the database answered a moment ago, else ask it, and wait for as long as is patient.

        Raises:
            AwayError: it does not answer.
        """
        if self._probe.is_fresh():
            return
        if self._limiter is None:
            # Those who wait here must not take the threads of those who work.
            self._limiter = anyio.CapacityLimiter(40)
        patience_s = max(self._patience_s, at_least_s)
        wrong = await anyio.to_thread.run_sync(self._probe.wrong, patience_s, limiter=self._limiter)
        if wrong is not None:
            raise AwayError(wrong)

    async def unless_held_up(self, answer: asyncio.Future[T]) -> T:
        """Wait for work that has begun, as long as the database answers.

        A thread that waits for a frozen server cannot be ended: it is left behind, and ends when the server goes on.

        Raises:
            AwayError: the database does not answer any more.
        """
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            while not (await asyncio.wait({answer}, timeout=_LOOK_AFTER_S))[0]:
                await self.passable(_HELD_UP_S)
        except asyncio.CancelledError:
            answer.cancel()
            raise
        return answer.result()
