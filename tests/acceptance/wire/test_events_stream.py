"""Followers of the events feed: nothing is missed though the connection breaks, and nothing comes twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests import factories
from tests.acceptance.wire.client import Archive

Event = tuple[str, str, str]


@contextmanager
def followed(server: str, last_id: str | None = None) -> Iterator[Iterator[Event]]:
    """Follow the feed; yields (id, event, data) as they come."""
    headers = {"accept": "text/event-stream", **({"last-event-id": last_id} if last_id else {})}
    url = f"{server}/dcm4chee-arc/monitor/events"
    with httpx.stream("GET", url, headers=headers, timeout=60, trust_env=False) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield _events(answer.iter_lines())


def _events(lines: Iterator[str]) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in lines:
        if not line:
            if "data" in fields:
                yield fields.get("id", ""), fields.get("event", ""), fields["data"]
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value


def task_of(event: Event) -> int:
    assert event[1] == "transition"
    return int(json.loads(event[2])["taskID"])


def test_follower_that_was_cut_off_goes_on_behind_what_it_saw(archive: Archive, server: str) -> None:
    first, second, third = (task.id for task in factories.insert(3))

    with followed(server) as events:
        assert next(events)[1] == "here"
        seen = next(events)
        assert task_of(seen) == first
    [fourth] = factories.insert()
    with followed(server, seen[0]) as events:
        next(events)
        assert [task_of(next(events)) for _ in range(3)] == [second, third, fourth.id]


def test_follower_hears_of_what_happens_while_it_listens(archive: Archive, server: str) -> None:
    [task] = factories.insert()

    with followed(server) as events:
        next(events)
        assert task_of(next(events)) == task.id
        archive.change_one("POST", f"monitor/export/{task.id}/cancel")
        told = json.loads(next(events)[2])

    assert (told["taskID"], told["event"], told["to"]) == (task.id, "cancel", "CANCELED")


def test_cursor_of_a_page_is_good_for_the_stream(archive: Archive, server: str) -> None:
    first, second = (task.id for task in factories.insert(2))
    page = archive.get("monitor/events", {"limit": "1"})
    assert [one["taskID"] for one in page["events"]] == [first]

    with followed(server, page["next"]) as events:
        next(events)
        assert task_of(next(events)) == second
