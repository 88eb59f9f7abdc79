"""REST as an operator uses it: one call, its status, its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx

from api.demo.report import Report, StepFailed

#: Base path of all services, as the web applications of the sample have it.
BASE = "/dcm4chee-arc"


class Rest:
    """Calls the REST services of the devices, and prints each call."""

    def __init__(self, urls: Mapping[str, str], report: Report) -> None:
        self._urls = urls
        self._report = report
        self._client = httpx.Client(timeout=10, trust_env=False)

    def call(self, device: str, request: str, expected: int, *, quietly: bool = False) -> Any:
        """Make a call through one device; returns the JSON that is answered, None: nothing is.

        Args:
            device: whose HTTP connection is used.
            request: method, and path below the base path with its query, as `GET /version`.
            expected: the HTTP status.
            quietly: it is not printed.

        Raises:
            StepFailed: the answer has another status, or there is none.
        """
        method, _, path = request.partition(" ")
        url = f"{self._urls[device]}{BASE}{path}"
        try:
            answer = self._client.request(method, url)
        except httpx.HTTPError as error:
            raise StepFailed(f"{method} {url}: no answer ({error})") from error
        if answer.status_code != expected:
            raise StepFailed(f"{method} {url}: {answer.status_code} {answer.text.strip()[:300]}, expected {expected}")
        content = answer.json() if answer.content else None
        if not quietly:
            shown = "" if content is None else " " + _short(json.dumps(content))
            self._report.say(f"{method} {url} -> {answer.status_code}{shown}")
        return content

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."
