"""A client of the REST services: of a server, or of the application within this process, with no server at all."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import re
import socket
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import httpx

from api.app import BASE, create_app
from api.security import Caller, is_loopback
from archive.accounts import Role
from config import settings
from workers import dispatch
from workers.app import app as celery_app

Parameters = Sequence[tuple[str, str]]

#: RFC 9111 5.5: code, who warns, text.
_HINT = re.compile(r'299 arcfleet "([^"]*)"')

_CONNECT_S = 5.0
#: Seconds that sending may take before this process ends; a broker that is away costs about 1 s.
_SEND_S = 5.0


class AnswerError(Exception):
    """The answer is an error, or there is none; the text is for whoever asked."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        #: HTTP status; None: no answer.
        self.http_status = status


class _Transport(Protocol):
    def request(
        self, method: str, url: str, parameters: Parameters, headers: dict[str, str], content: bytes | None = None
    ) -> httpx.Response: ...

    def download(self, url: str, parameters: Parameters, headers: dict[str, str]) -> Iterator[str]: ...

    def close(self) -> None: ...


class Client:
    """Asks for paths below `/dcm4chee-arc`."""

    def __init__(self, transport: _Transport) -> None:
        self._transport = transport

    @classmethod
    def remote(cls, url: str, token: str | None) -> Client:
        """Return a client of a server.

        Args:
            url: of the server, with or without `/dcm4chee-arc`.
            token: bearer token; None: none is needed there.

        Raises:
            AnswerError: it is no URL.
        """
        return cls(_Remote(url, token))

    def elsewhere(self, url: str) -> Client:
        """Return a client of another server, with the same token.

        Args:
            url: of the server, with `/dcm4chee-arc`.

        Raises:
            AnswerError: it is no URL.
        """
        token = self._transport.token if isinstance(self._transport, _Remote) else None
        return Client.remote(url, token)

    @classmethod
    def local(cls, account: Caller | None = None) -> Client:
        """Return a client of the application within this process, by default as the account of the machine."""
        return cls(_Local(account or own_account()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()

    def send(
        self, method: str, path: str, parameters: Parameters = (), headers: dict[str, str] | None = None,
        *, content: bytes | None = None,
    ) -> httpx.Response:  # fmt: skip
        """Return the answer, be it an error.

        Raises:
            AnswerError: there is none.
        """
        return self._transport.request(method, BASE + path, parameters, headers or {}, content)

    def call(
        self, method: str, path: str, parameters: Parameters = (), headers: dict[str, str] | None = None,
        *, content: bytes | None = None,
    ) -> httpx.Response:  # fmt: skip
        """Return the answer; 409 too, if it is the result of a bulk call.

        Raises:
            AnswerError: there is none, or it is an error.
        """
        answer = self.send(method, path, parameters, headers, content=content)
        if answer.status_code >= HTTPStatus.BAD_REQUEST and not (
            answer.status_code == HTTPStatus.CONFLICT and "failed" in _object(answer.text)
        ):
            raise AnswerError(_message(answer), answer.status_code)
        return answer

    def download(self, path: str, parameters: Parameters, accept: str) -> Iterator[str]:
        """Yield the parts of a list as they come.

        Raises:
            AnswerError: there is none, or it is an error.
        """
        return self._transport.download(BASE + path, parameters, {"Accept": accept})


class _Remote:
    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise AnswerError(f"--url {url}: expected http://HOST:PORT or https://HOST:PORT")
        self._url = url.rstrip("/").removesuffix(BASE)
        self.token = token
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {token}"} if token else {},
            # A bulk call may take long; a server that is away is found at once.
            timeout=httpx.Timeout(None, connect=_CONNECT_S),
            trust_env=not is_loopback(parts.hostname),
        )

    def request(
        self, method: str, url: str, parameters: Parameters, headers: dict[str, str], content: bytes | None = None
    ) -> httpx.Response:
        try:
            return self._http.request(
                method, self._url + url, params=list(parameters), headers=headers, content=content
            )
        except httpx.TransportError as error:
            raise AnswerError(f"{self._url}: no answer: {error}") from error

    def download(self, url: str, parameters: Parameters, headers: dict[str, str]) -> Iterator[str]:
        try:
            with self._http.stream("GET", self._url + url, params=list(parameters), headers=headers) as answer:
                if answer.status_code != HTTPStatus.OK:
                    answer.read()
                    raise AnswerError(_message(answer), answer.status_code)
                yield from answer.iter_text()
        except httpx.TransportError as error:
            raise AnswerError(f"{self._url}: the answer broke off: {error}") from error

    def close(self) -> None:
        self._http.close()


class _Local:
    """Runs the application on a loop of its own; what it schedules is sent from here."""

    def __init__(self, account: Caller) -> None:
        transport = httpx.ASGITransport(app=create_app(account=account))
        self._http = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=None)  # noqa: S113
        self._runner = asyncio.Runner()
        self._sends = False

    def request(
        self, method: str, url: str, parameters: Parameters, headers: dict[str, str], content: bytes | None = None
    ) -> httpx.Response:
        if method != "GET" and not self._sends:
            settings.current().broker()  # without one this is an error, not a thread that dies
            dispatch.start(celery_app)
            self._sends = True
        return self._runner.run(
            self._http.request(method, url, params=list(parameters), headers=headers, content=content)
        )

    def download(self, url: str, parameters: Parameters, headers: dict[str, str]) -> Iterator[str]:
        answer = self.request("GET", url, parameters, headers)
        if answer.status_code != HTTPStatus.OK:
            raise AnswerError(_message(answer), answer.status_code)
        yield answer.text

    def close(self) -> None:
        self._runner.run(self._http.aclose())
        self._runner.close()
        if self._sends:
            dispatch.stop(_SEND_S)


def own_account() -> Caller:
    """Return the account of the machine that runs this process; who reaches the database may do all."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid {os.getuid()}"
    return Caller(name, Role.ADMIN, socket.gethostname())


def _message(answer: httpx.Response) -> str:
    said = _object(answer.text).get("errorMessage")
    if not said:
        return f"HTTP status {answer.status_code}"
    # What was expected, where the text is that of the original.
    return ", ".join([str(said), *_HINT.findall(answer.headers.get("warning", ""))])


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
