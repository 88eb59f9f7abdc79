"""Two transactions at once, in a chosen order: the second begins while the first is not committed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import text
from sqlalchemy.orm import Session

from archive import db

T = TypeVar("T")
U = TypeVar("U")

_BLOCKED = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


def overlap(first: Callable[[Session], T], second: Callable[[Session], U]) -> tuple[T, U]:
    """Run the first, then the second until it waits for a lock or has ended; then commit the first."""
    with ThreadPoolExecutor(1) as other:
        with db.transaction() as session:
            earlier = first(session)
            later = other.submit(_in_transaction, second)
            _until_blocked_or_done(later)
        return earlier, later.result(timeout=30)


def at_once(works: Sequence[Callable[[Session], T]]) -> list[T]:
    """Run all of them, each in a transaction of its own, begun at the same moment."""
    barrier = threading.Barrier(len(works), timeout=30)

    def one(work: Callable[[Session], T]) -> T:
        with db.transaction() as session:
            session.execute(text("SELECT 1"))  # connected before the start
            barrier.wait()
            return work(session)

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(one, works))


def _in_transaction(work: Callable[[Session], T]) -> T:
    with db.transaction() as session:
        return work(session)


def _until_blocked_or_done(running: Future[U]) -> None:
    ended = threading.Event()
    running.add_done_callback(lambda _: ended.set())
    for _ in range(3000):
        if ended.wait(0.01):
            return
        with db.transaction() as session:
            if session.scalars(_BLOCKED).one():
                return
    raise AssertionError("the second transaction neither waits nor ends")
