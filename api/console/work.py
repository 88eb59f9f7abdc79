"""Work that blocks (all that asks the database), done in threads of its own: never on Tornado's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from api.gate import Gate, Probe

#: Requests that are worked on at once; the pool of database connections has room for them.
THREADS = 8

T = TypeVar("T")


class Work:
    """Runs functions in threads, as long as the database answers."""

    def __init__(self, database: Probe) -> None:
        self.database = database
        self._gate = Gate(database)
        # Flower's own threads may all wait for a broker that is away.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="archive")

    async def run(self, do: Callable[[], T]) -> T:
        """Run a function that asks the database, and return its value.

        Raises:
            AwayError: the database does not answer.
        """
        await self._gate.passable()
        return await self._gate.unless_held_up(self.begin(do))

    def begin(self, do: Callable[[], T]) -> asyncio.Future[T]:
        """Run a function that blocks for a short time at most, whether the database answers or not."""
        return asyncio.get_running_loop().run_in_executor(self._threads, do)

    def stop(self) -> None:
        """Take nothing new; what runs is left to itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
