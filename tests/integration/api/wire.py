"""A client written from the description of the wire alone: it sees bytes, headers and statuses.

An answer that the OpenAPI document does not describe fails the test that gets it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any, Self

import httpx
from fastapi import FastAPI

from api.gate import Gate
from tests.integration.api import described
from tests.lab.waiting import PATIENCE_S

BASE = "/dcm4chee-arc"
EXPORTS = f"{BASE}/monitor/export"


class Wire:
    """Sends requests to an application as if they came over a socket."""

    def __init__(
        self, app: FastAPI, token: str | None = None, came_from: str = "127.0.0.1", *, patient: bool = True
    ) -> None:
        """Begin; a patient one is not told that the database is away because the machine is busy."""
        if patient:
            app.state.gate = Gate(app.state.database_probe, PATIENCE_S)
        transport = httpx.ASGITransport(app=app, client=(came_from, 40000))
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", headers=headers)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._http.aclose())
        self._runner.close()

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return described.check(self._runner.run(self._http.request(method, path, content=body, headers=named)))

    def ask_all(self, method: str, paths: Iterable[str], **headers: str) -> list[httpx.Response]:
        """Send several requests at once."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        async def gathered() -> list[httpx.Response]:
            return await asyncio.gather(*(self._http.request(method, path, headers=named) for path in paths))

        return [described.check(answer) for answer in self._runner.run(gathered())]

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.ask("GET", path, **headers)

    def post(self, path: str, **headers: str) -> httpx.Response:
        return self.ask("POST", path, **headers)

    def delete(self, path: str, **headers: str) -> httpx.Response:
        return self.ask("DELETE", path, **headers)


def error_of(answer: httpx.Response) -> str:
    """Return the text of an error as the original's pages read it: the body is JSON, its type text/plain."""
    assert answer.headers["content-type"].startswith("text/plain")
    body: dict[str, Any] = json.loads(answer.content)
    assert list(body) == ["errorMessage"]
    text = str(body["errorMessage"])
    assert "\n" not in text
    return text
