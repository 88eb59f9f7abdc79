"""A connection to the database that is given up when the server does not answer.

`statement_timeout` is kept by the server, which may be frozen, and TCP sees to machines, not to processes.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

T = TypeVar("T")

#: Seconds between two looks at the clock.
_LOOK_S = 0.1


class Connection(psycopg.Connection[Any]):
    """A connection whose every exchange with the server has a limit."""

    #: Seconds; None: no limit.
    answer_s: float | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Names of the statements that it has prepared for `overlapping`.
        self.prepared: set[str] = set()

    def rollback(self) -> None:
        """Undo the transaction that is open, if one is; the driver forgets all that was prepared then."""
        if self.pgconn.transaction_status != TransactionStatus.IDLE:
            self.prepared.clear()
        super().rollback()

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """Wait for what the server says.

        Raises:
            psycopg.OperationalError: it said nothing in time; whether it does what it was asked for is not known.
        """
        if self.answer_s is None:
            return super().wait(gen, *args, **kwargs)
        limited = _Limited(self.answer_s)
        try:
            return super().wait(limited.steps(gen), _LOOK_S)
        finally:
            if limited.is_over:
                # An answer that comes late would be taken for that of the next statement.
                self.close()


class _Limited:
    """One exchange with the server, in steps, of which each ends when there is something to read, or after a look."""

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._until = time.monotonic() + within_s
        self.is_over = False

    def steps(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() >= self._until:
                    self.is_over = True
                    raise psycopg.OperationalError(f"no answer from the database within {self._within_s:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            value: T = end.value
            return value
