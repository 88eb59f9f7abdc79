"""Bulk calls on many tasks: killed half-way, and eight at once while others schedule."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import text

from tasks.state import Status
from tests.lab.cluster import Lab, cluster
from tests.lab.member import Member
from tests.lab.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

MANY = 200_000
#: Tasks that are there, and tasks that are scheduled in so many seconds, beside the bulk calls.
FILLED, SCHEDULED, SECONDS = 20_000, 10_000, 60
#: Far ahead: nothing of it runs.
LATER = "scheduledTime=20900101000000"

_FAILED = text(
    """
    INSERT INTO task (kind, device, queue, status, scheduled_time, failures, exporter_id, study_uid)
    SELECT 'EXPORT', 'archive-a', 'Export', 'FAILED', timestamptz '2090-01-01', 11, 'Noop', '1.2.' || n
    FROM generate_series(1, :number) AS n
    """
)


#: Tasks that no reschedule can move, as their exporter is nowhere; half of them on each device, a fifth in a batch.
REFUSED = 500
_UNMOVABLE = text(
    """
    INSERT INTO task (kind, device, queue, status, scheduled_time, failures, exporter_id, study_uid, batch_id)
    SELECT 'EXPORT', CASE WHEN n % 2 = 0 THEN 'archive-a' ELSE 'archive-b' END, 'Export', 'FAILED',
           timestamptz '2090-01-01', 11, 'Nowhere', '1.3.' || n, CASE WHEN n % 5 = 0 THEN 'b1' END
    FROM generate_series(1, :number) AS n
    """
)


def fill(lab: Lab, number: int = MANY) -> None:
    lab.ask(lambda session: session.execute(_FAILED, {"number": number}) and None)


def ask(lab: Lab, statement: str, **values: object) -> list[tuple[object, ...]]:
    return lab.ask(lambda session: [tuple(row) for row in session.execute(text(statement), values)])


def times_changed(lab: Lab) -> Counter[int]:
    """Return of how many tasks the history tells one change, two changes, and so on."""
    rows = ask(
        lab,
        "SELECT times, count(*) FROM (SELECT count(*) AS times FROM history,"
        " unnest(coalesce(task_ids, ARRAY[first_id])) AS task_id WHERE event <> 'create' GROUP BY task_id) AS each"
        " GROUP BY times",
    )
    return Counter({int(str(times)): int(str(number)) for times, number in rows})


def half_way(lab: Lab) -> Callable[[], bool]:
    return lambda: bool(ask(lab, "SELECT FROM history WHERE last_id > :half LIMIT 1", half=MANY // 3))


def killed_half_way(lab: Lab, member: Member) -> None:
    wait_until(half_way(lab), "a third of the tasks is moved", timeout_s=300, say=member.tail)
    member.kill()
    wait_until(
        lambda: not ask(lab, "SELECT FROM pg_locks WHERE relation = 'task'::regclass AND mode = 'RowExclusiveLock'"),
        "its transaction is undone",
    )


def test_operation_that_is_killed_goes_on_where_it_was() -> None:
    with cluster(sends=False) as lab:
        fill(lab)
        caller = Member("caller", _command("the-operation"), lab.home / "caller.log", lab.environment())
        caller.start()
        killed_half_way(lab, caller)
        before = sum(times_changed(lab).values())
        later = lab.schedule()

        caller.start()
        wait_until(lambda: not caller.is_running, "the operation has ended", timeout_s=300, say=caller.tail)

        assert 0 < before < MANY
        assert caller.said(f"moved {MANY}"), caller.tail()
        assert times_changed(lab) == {1: MANY}
        assert lab.count(devices=("archive-b",)) == {Status.SCHEDULED: MANY}
        assert lab.task(later[0]).device == "archive-a"


def test_request_whose_server_is_killed_is_sent_again_and_does_nothing_twice() -> None:
    with cluster(sends=False) as lab, ThreadPoolExecutor(1) as other:
        fill(lab)
        server, url = lab.api()
        answers(url)
        path = f"/monitor/export/reschedule?status=FAILED&newDeviceName=archive-b&{LATER}"
        first = other.submit(lambda: httpx.post(url + path, timeout=None, trust_env=False))
        killed_half_way(lab, server)
        with pytest.raises(httpx.HTTPError):
            first.result(timeout=60)
        before = sum(times_changed(lab).values())

        server.start()
        answers(url)
        second = httpx.post(url + path, timeout=None, trust_env=False).json()

        assert 0 < before < MANY
        assert second == {"count": MANY - before}
        assert times_changed(lab) == {1: MANY}
        assert lab.count() == {Status.SCHEDULED: MANY}


#: Method, path, and how many tasks each answer tells as refused.
CALLS = (
    ("POST", f"/monitor/export/reschedule?all=true&newDeviceName=archive-b&{LATER}", REFUSED),
    ("POST", f"/monitor/export/reschedule?batchID=b1&newDeviceName=archive-a&{LATER}", REFUSED // 5),
    (
        "POST",
        f"/monitor/export/reschedule?dicomDeviceName=archive-b&newDeviceName=archive-a,archive-b&{LATER}",
        REFUSED // 2,
    ),
    ("POST", "/monitor/export/cancel?status=SCHEDULED", 0),
    ("POST", "/monitor/export/cancel?status=SCHEDULED&batchID=b2", 0),
    ("POST", f"/monitor/export/reschedule?status=CANCELED&{LATER}", 0),
    ("DELETE", "/monitor/export?batchID=b3", 0),
    ("DELETE", "/monitor/export?status=CANCELED&batchID=b4", 0),
)


def test_ten_thousand_tasks_a_minute_are_scheduled_beside_eight_bulk_calls() -> None:
    """The calls are made again and again until all tasks are scheduled; each answer is compared with the history."""
    with cluster(sends=False) as lab, ThreadPoolExecutor(16) as pool:
        fill(lab, FILLED)
        lab.ask(lambda session: session.execute(_UNMOVABLE, {"number": REFUSED}) and None)
        _, url = lab.api()
        answers(url)
        stop = threading.Event()
        callers = [pool.submit(again_and_again, url, call, stop) for call in CALLS]
        began = time.monotonic()
        schedulers = [pool.submit(schedule, url, SCHEDULED // 4, SECONDS) for _ in range(4)]
        made = [one for done in schedulers for one in done.result(timeout=600)]
        took_s = time.monotonic() - began
        stop.set()
        results = [one for done in callers for one in done.result(timeout=600)]

        assert len({*made}) == SCHEDULED
        print(f"{SCHEDULED} tasks scheduled in {took_s:.0f} s beside {len(results)} bulk calls")
        assert_counts_are_those_of_the_history(lab, results)
        assert_rows_are_what_the_history_says(lab, FILLED + REFUSED + SCHEDULED)


def schedule(url: str, number: int, seconds: float) -> list[str]:
    made = []
    began = time.monotonic()
    with httpx.Client(trust_env=False, timeout=60) as client:
        for count in range(number):
            # Not faster than asked for; a slower machine takes as long as it takes.
            threading.Event().wait(max(0.0, began + seconds * count / number - time.monotonic()))
            path = f"/aets/ARCHIVE_A/rs/studies/1.2.{time.time_ns()}/export/Noop"
            answer = client.post(f"{url}{path}?{LATER}&batchID=b{count % 5}&allowDuplicate=true")
            assert answer.status_code == 202, answer.text
            made.append(answer.json()["taskID"])
    return made


def again_and_again(url: str, call: tuple[str, str, int], stop: threading.Event) -> list[int]:
    """Make a call until told to stop; returns how many tasks each changed, and sees that the others are told too."""
    method, path, refused = call
    counts = []
    while not stop.is_set():
        answer = httpx.request(method, url + path, timeout=None, trust_env=False)
        said = answer.json()
        count, failed = int(said.get("count", 0)), int(said.get("failed", 0))
        assert answer.status_code == (200 if not refused else 202 if count else 409), answer.text
        assert (failed, sum(one["count"] for one in said.get("refusals", ()))) == (refused, refused), answer.text
        counts.append(count)
    return counts


def assert_counts_are_those_of_the_history(lab: Lab, counts: Sequence[int]) -> None:
    rows = ask(
        lab,
        "SELECT sum(coalesce(cardinality(task_ids), 1)) FROM history WHERE operation_id IS NOT NULL"
        " GROUP BY operation_id",
    )
    told = Counter(int(str(number)) for (number,) in rows)
    assert told == Counter(count for count in counts if count)


def assert_rows_are_what_the_history_says(lab: Lab, made: int) -> None:
    deleted = ask(
        lab, "SELECT coalesce(sum(coalesce(cardinality(task_ids), 1)), 0) FROM history WHERE event = 'delete'"
    )
    assert ask(lab, "SELECT count(*) FROM task")[0][0] == made - int(str(deleted[0][0]))
    differing = ask(
        lab,
        "SELECT task.id FROM task JOIN (SELECT DISTINCT ON (task_id) task_id, to_status, to_device FROM history,"
        " unnest(coalesce(task_ids, ARRAY[first_id])) AS task_id ORDER BY task_id, seq DESC) AS last"
        " ON last.task_id = task.id WHERE (status, device) <> (to_status, to_device)",
    )
    assert differing == []


def answers(url: str) -> None:
    def ready() -> bool:
        try:
            return httpx.get(f"{url}/health/ready", trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    wait_until(ready, "REST answers", timeout_s=120)


def _command(operation: str) -> list[str]:
    return [sys.executable, "-m", "tests.lab.bulk_caller", operation]
