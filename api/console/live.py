"""Pages that follow what happens: one look at the events feed a second, while somebody watches."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog
from flower.views import BaseHandler
from tornado.iostream import StreamClosedError

from api.console.guard import Guarded
from api.console.work import Work
from api.gate import AwayError
from archive import db
from tasks import events
from tasks.events import Cursor

_log = structlog.get_logger()

#: Seconds between two looks.
_EVERY_S = 1.0
#: Seconds after which a silent stream says that it lives, so that proxies leave it open.
_SIGN_OF_LIFE_S = 15.0


class Follower:
    """Looks for new transitions for all who watch."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._watchers: set[asyncio.Event] = set()
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def watching(self) -> Iterator[asyncio.Event]:
        """Set the event of the block whenever something has happened to any task."""
        mine = asyncio.Event()
        self._watchers.add(mine)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())
        try:
            yield mine
        finally:
            self._watchers.discard(mine)

    async def _look(self) -> None:
        cursor: Cursor | None = None
        while self._watchers:
            with suppress(AwayError, *db.OUTAGES):
                found = await self._work.run(_latest)
                if cursor not in (None, found):
                    for watcher in self._watchers:
                        watcher.set()
                cursor = found
            await asyncio.sleep(_EVERY_S)


def _latest() -> Cursor:
    with db.transaction() as session:
        return events.latest(session)


class Live(Guarded, BaseHandler):  # type: ignore[misc]
    """A stream of server-sent events: `changed`, without saying what."""

    async def get(self) -> None:
        """Send an event whenever something has happened, until the reader leaves."""
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")
        with self.console.follower.watching() as changed:
            try:
                self.write("retry: 3000\n\n")
                await self.flush()
                while True:
                    self.write(await _next_line(changed))
                    await self.flush()
            except StreamClosedError:
                return


async def _next_line(changed: asyncio.Event) -> str:
    try:
        await asyncio.wait_for(changed.wait(), _SIGN_OF_LIFE_S)
    except TimeoutError:
        return ": still here\n\n"
    changed.clear()
    return "event: changed\ndata: {}\n\n"
