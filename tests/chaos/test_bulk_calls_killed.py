"""Cancel and delete of many tasks that are killed half-way, as reschedules are in `test_bulk_calls`."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import text

from tasks.state import Event, Status
from tests.chaos.test_bulk_calls import MANY, answers, ask, fill, killed_half_way, times_changed
from tests.lab.cluster import Lab, cluster
from tests.lab.member import Member
from tests.lab.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

#: Event, what the caller says of it, and the request that does the same.
CHANGES = [
    (Event.CANCEL, "canceled", ("POST", "/monitor/export/cancel?status=SCHEDULED")),
    (Event.DELETE, "deleted", ("DELETE", "/monitor/export?status=SCHEDULED")),
]


def fill_waiting(lab: Lab) -> None:
    fill(lab)
    lab.ask(lambda session: session.execute(text("UPDATE task SET status = 'SCHEDULED', failures = 0")) and None)


def all_are_changed(lab: Lab, event: Event) -> bool:
    rows = ask(lab, "SELECT status, count(*) FROM task WHERE study_uid LIKE '1.2.%' GROUP BY status")
    return rows == ([(Status.CANCELED, MANY)] if event is Event.CANCEL else [])


@pytest.mark.parametrize(("event", "done", "_request"), CHANGES)
def test_operation_that_is_killed_goes_on_where_it_was(event: Event, done: str, _request: tuple[str, str]) -> None:
    with cluster(sends=False) as lab:
        fill_waiting(lab)
        command = [sys.executable, "-m", "tests.lab.bulk_caller", "the-operation", event]
        caller = Member("caller", command, lab.home / "caller.log", lab.environment())
        caller.start()
        killed_half_way(lab, caller)
        before = sum(times_changed(lab).values())
        [later] = lab.schedule(study_uid="9.9")

        caller.start()
        wait_until(lambda: not caller.is_running, "the operation has ended", timeout_s=300, say=caller.tail)

        assert 0 < before < MANY
        assert caller.said(f"{done} {MANY}"), caller.tail()
        assert times_changed(lab) == {1: MANY}
        assert all_are_changed(lab, event)
        assert lab.task(later).status is Status.SCHEDULED


@pytest.mark.parametrize(("event", "_done", "request_"), CHANGES)
def test_request_whose_server_is_killed_is_sent_again_and_does_nothing_twice(
    event: Event, _done: str, request_: tuple[str, str]
) -> None:
    method, path = request_
    with cluster(sends=False) as lab, ThreadPoolExecutor(1) as other:
        fill_waiting(lab)
        server, url = lab.api()
        answers(url)
        first = other.submit(lambda: httpx.request(method, url + path, timeout=None, trust_env=False))
        killed_half_way(lab, server)
        with pytest.raises(httpx.HTTPError):
            first.result(timeout=60)
        before = sum(times_changed(lab).values())

        server.start()
        answers(url)
        second = httpx.request(method, url + path, timeout=None, trust_env=False).json()

        assert 0 < before < MANY
        assert second == {"count": MANY - before}
        assert times_changed(lab) == {1: MANY}
        assert all_are_changed(lab, event)
