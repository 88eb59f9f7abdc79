"""`/health/live` and `/health/ready`: without a token, so that a supervisor needs none."""

from __future__ import annotations

from functools import partial

from tornado.web import RequestHandler

from api.console.guard import Guarded
from api.rest import health


class Alive(RequestHandler):
    """Whether this process answers."""

    def get(self) -> None:
        """Say that it does."""
        self.write({"status": "UP"})


class Ready(Guarded):
    """Whether the database answers; the broker is told, but may be away."""

    async def prepare(self) -> None:
        """Let anybody ask."""

    async def get(self) -> None:
        """Answer 200, or 503."""
        ask = partial(health.readiness, self.work.database, self.console.broker_probe)
        status, told = await self.work.begin(ask)
        self.set_status(status)
        self.write(told)
