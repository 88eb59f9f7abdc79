"""How the command line follows a change that runs by itself: here, at another server, on a terminal, to any end."""

from __future__ import annotations

import json
import os
import pty
from collections.abc import Callable, Iterator
from typing import Any

import click
import httpx
import pytest

from api.cli import progress
from api.client import Client
from tests.integration.api.wire import BASE
from tests.lab import recording
from tests.lab.cluster import free_port
from tests.lab.recording import Node

ID = "0a1b2c3d-0000-4000-8000-000000000000"
PLACE = f"{BASE}/monitor/operations/{ID}"


def operation(state: str, **more: Any) -> dict[str, Any]:
    return {"operationID": ID, "state": state, "total": 5, "count": 0, "failed": 0, **more}


def telling(*said: dict[str, Any]) -> Callable[[], bytes]:
    """Return what says one after the other, and the last one for ever."""
    left = list(said)
    return lambda: json.dumps(left.pop(0) if len(left) > 1 else left[0]).encode()


def accepted(place: str = PLACE) -> httpx.Response:
    return httpx.Response(202, json=operation("waiting"), headers={"Location": place})


@pytest.fixture
def node() -> Iterator[Node]:
    with recording.node() as made:
        yield made


def result(node: Node, answer: httpx.Response | None = None) -> dict[str, Any]:
    with Client.remote(f"http://127.0.0.1:{node.port}", "arcfleet_t") as client:
        return progress.result_of(client, answer or accepted(), "tasks canceled")


def test_answer_without_an_operation_is_the_result(node: Node) -> None:
    assert result(node, httpx.Response(200, json={"count": 7})) == {"count": 7}
    assert node.looks == []


def test_operation_is_followed_to_its_end(node: Node) -> None:
    node.told[PLACE] = telling(operation("running", count=2), operation("done", count=4, failed=1))

    found = result(node)

    assert (found["state"], found["count"], found["failed"], len(node.looks)) == ("done", 4, 1, 2)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (operation("canceled", count=2, stopAskedBy="ann@here"), "ended after 2 tasks: canceled by ann@here"),
        (operation("failed", count=3, errorMessage="the disk is full"), "ended after 3 tasks: the disk is full"),
    ],
)
def test_operation_that_ended_early_is_an_error_that_says_why(node: Node, end: dict[str, Any], said: str) -> None:
    node.told[PLACE] = telling(operation("running"), end)

    with pytest.raises(click.ClickException, match=said):
        result(node)


def test_terminal_shows_how_far_it_is(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.told[PLACE] = telling(operation("running", count=2, failed=1), operation("done", count=4, failed=1))
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")

    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patched:
        patched.setattr("sys.stderr", terminal)
        result(node)
    shown = os.read(ours, 65536).decode()
    os.close(ours)

    assert "tasks canceled" in shown
    assert "3/5" in shown


def test_what_is_no_terminal_gets_nothing(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.told[PLACE] = telling(operation("running", count=2), operation("done", count=4))

    result(node)

    assert capsys.readouterr() == ("", "")


def test_operation_of_another_server_is_followed_there(node: Node) -> None:
    with recording.node() as other:
        other.told[PLACE] = telling(operation("running"), operation("done", count=5))

        found = result(node, accepted(f"http://127.0.0.1:{other.port}{PLACE}"))

        assert (found["state"], found["count"]) == ("done", 5)
        assert other.looks[0].headers["authorization"] == "Bearer arcfleet_t"
        assert node.looks == []


def test_operation_of_another_server_that_cannot_be_followed_is_named(node: Node) -> None:
    place = f"http://127.0.0.1:{free_port()}{PLACE}"

    with pytest.raises(click.ClickException, match=f"it goes on as operation {place}, but cannot be followed"):
        result(node, accepted(place))


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_interrupt_ends_the_watching_and_says_how_to_end_the_work(
    node: Node, is_elsewhere: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    # Not by a signal: who was started in the background of a shell hears none.
    monkeypatch.setattr(progress.time, "sleep", interrupt)
    node.told[PLACE] = telling(operation("running"))
    url = f"http://127.0.0.1:{node.port}"

    with pytest.raises(KeyboardInterrupt):
        result(node, accepted(f"{url}{PLACE}" if is_elsewhere else PLACE))

    end = f" --url {url}" if is_elsewhere else ""
    said = f"it goes on as operation {ID}; to end it: arcfleet operation cancel {ID}{end}\n"
    assert capsys.readouterr().err == said
