"""An HTTP server that answers as a test says and keeps what it was asked: another product's node."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came."""

    method: str
    #: With the query string.
    path: str
    headers: Mapping[str, str]


@dataclass(slots=True)
class Node:
    """What answers, and what came."""

    port: int = 0
    status: int = 200
    body: bytes = b'{"count":7}'
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    asked: list[Asked] = field(default_factory=list)
    #: What is answered to paths of their own, with status 200; those questions are kept in `looks`.
    told: dict[str, bytes | Callable[[], bytes]] = field(default_factory=dict)
    looks: list[Asked] = field(default_factory=list)


@contextmanager
def node() -> Iterator[Node]:
    """Listen on a free port of loopback until the end of the block."""
    made = Node()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            told = made.told.get(self.path)
            (made.asked if told is None else made.looks).append(Asked(self.command, self.path, headers))
            body = made.body if told is None else told() if callable(told) else told
            self.send_response(made.status if told is None else 200)
            for name, value in made.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815  # names of the base class

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield made
        server.shutdown()
        thread.join(60)
