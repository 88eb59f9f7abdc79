"""Bulk calls of REST on a million tasks, beside one bare statement on the same rows and beside sending them anew.

Each contestant finds the same rows, written anew. Sending is measured with some of the messages: Celery's send_task
one by one, and kombu's batches of a thousand. At last tasks are rescheduled once more, while other requests are timed.
Run: python -m benchmarks.million [TASKS [ROUNDS]]
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import httpx
import psycopg
from celery import Celery

from benchmarks import crowd, house
from benchmarks.contest import in_turn
from benchmarks.crowd import Connection

TASKS = 1_000_000
#: Messages that are really sent.
_SENT = 20_000
_BATCH = 1000
#: Seconds between two other requests.
_EVERY_S = 0.05

_SAME = """
    UPDATE task SET status = 'SCHEDULED', device = 'archive-b', queue = 'Export', exporter_id = 'Noop',
        local_aet = 'ARCHIVE_A', destination = NULL, round = round, scheduled_time = timestamptz '2090-01-01',
        updated_time = now(), started_time = NULL, ended_time = NULL, failures = 0, lost_leases = 0,
        outcome_message = NULL, error_message = NULL
"""
_BARE: Mapping[str, tuple[str, str]] = {
    "reschedule": ("FAILED", _SAME),
    "cancel": ("SCHEDULED", "UPDATE task SET status = 'CANCELED', updated_time = now()"),
    "delete": ("FAILED", "DELETE FROM task"),
}
_CALLS = {
    "reschedule": ("POST", "/reschedule?status=FAILED&newDeviceName=archive-b&scheduledTime=20900101000000"),
    "cancel": ("POST", "/cancel?status=SCHEDULED"),
    "delete": ("DELETE", "?status=FAILED"),
}

#: Returns seconds for a million of what is measured.
Contestant = Callable[[], float]


def main() -> None:
    """Print tasks per second, the ratios, the latency of other requests, and the memory of the server."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else TASKS
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with (
        house.running("--only-servers") as cluster,
        house.api(cluster) as process,
        psycopg.connect(cluster.database_url(), autocommit=True) as connection,
    ):
        bench = Bench(cluster.url, process.pid, connection, number)
        seconds: dict[str, list[float]] = {}
        contestants = bench.contestants() | _senders(cluster.broker_url(), number)
        for turn in range(rounds):
            for name in in_turn(list(contestants), turn):
                seconds.setdefault(name, []).append(contestants[name]())
                print(f"  {name}: {number / seconds[name][-1]:,.0f} tasks/s")
        bench.disturbed()
        _report({name: statistics.median(taken) for name, taken in seconds.items()}, number)
        bench.report()


class Bench:
    """The calls and the bare statements, and what is seen of the server meanwhile."""

    def __init__(self, url: str, pid: int, connection: Connection, number: int) -> None:
        self._url = url
        self._pid = pid
        self._connection = connection
        self._number = number
        self._latencies: list[float] = []
        self._memory: list[str] = []

    def contestants(self) -> dict[str, Contestant]:
        """Return each call and, beside it, the bare statement."""
        found: dict[str, Contestant] = {}
        for verb in _CALLS:
            found[f"bare {verb}"] = lambda verb=verb: self._bare(verb)  # type: ignore[misc]
            found[verb] = lambda verb=verb: self._call(verb)  # type: ignore[misc]
        return found

    def report(self) -> None:
        """Print how long other requests took during the calls, and how the memory grew."""
        found = sorted(self._latencies)
        p99 = found[min(len(found) - 1, int(len(found) * 0.99))]
        print(
            f"other requests meanwhile: median {1000 * statistics.median(found):.0f} ms, p99 {1000 * p99:.0f} ms, "
            f"worst {1000 * found[-1]:.0f} ms of {len(found)}"
        )
        for line in self._memory:
            print(line)

    def _bare(self, verb: str) -> float:
        status, statement = _BARE[verb]
        crowd.failed(self._connection, self._number, status)
        began = time.monotonic()
        changed = self._connection.execute(statement.encode()).rowcount
        took_s = time.monotonic() - began
        assert changed == self._number
        return took_s

    def _call(self, verb: str, meanwhile: AbstractContextManager[Any] | None = None) -> float:
        crowd.failed(self._connection, self._number, _BARE[verb][0])
        httpx.get(f"{self._url}/monitor/export/count", trust_env=False).raise_for_status()
        method, path = _CALLS[verb]
        before = _resident_mb(self._pid)
        with meanwhile or nullcontext():
            began = time.monotonic()
            answer = httpx.request(method, f"{self._url}/monitor/export{path}", timeout=None, trust_env=False)
            took_s = time.monotonic() - began
        self._memory.append(f"memory of the API: {before:.0f} MB before {verb}, {_resident_mb(self._pid):.0f} MB after")
        assert answer.json() == {"count": self._number}, answer.text
        return took_s

    def disturbed(self) -> None:
        """Reschedule once more, and time other requests meanwhile."""
        others = Others(self._url)
        took_s = self._call("reschedule", others)
        self._latencies += others.seconds
        print(f"reschedule beside other requests: {self._number / took_s:,.0f} tasks/s")


class Others:
    """Other requests, one after the other: a task, a page, a new task."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.seconds: list[float] = []

    def __enter__(self) -> Others:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _ask(self) -> None:
        with httpx.Client(trust_env=False, timeout=60) as client:
            made = client.post(f"{self._url}/aets/ARCHIVE_A/rs/studies/1.2.3/export/Noop?scheduledTime=20900101000000")
            requests: list[Callable[[], httpx.Response]] = [
                lambda: client.get(f"{self._url}/monitor/export/{made.json()['taskID']}"),
                lambda: client.get(f"{self._url}/monitor/export?limit=20"),
                lambda: client.post(
                    f"{self._url}/aets/ARCHIVE_A/rs/studies/1.2.{time.time_ns()}/export/Noop"
                    "?scheduledTime=20900101000000"
                ),
            ]
            while not self._ended.wait(_EVERY_S):
                for request in requests:
                    began = time.monotonic()
                    answer = request()
                    self.seconds.append(time.monotonic() - began)
                    assert answer.status_code in (200, 202, 404), answer.text


def _senders(url: str, number: int) -> dict[str, Contestant]:
    app = Celery("bench", broker=url)
    app.conf.task_ignore_result = True

    def messages() -> float:
        began = time.monotonic()
        for task_id in range(_SENT):
            app.send_task("run.EXPORT", [1, task_id, task_id, "token"], queue="bench")
        return _purged(app, (time.monotonic() - began) * number / _SENT)

    def batches() -> float:
        began = time.monotonic()
        with app.connection_for_write() as connection:
            producer: Any = app.amqp.Producer(connection)
            for start in range(0, _SENT, _BATCH):
                with producer.batch(_BATCH):
                    for task_id in range(start, start + _BATCH):
                        app.send_task("run.EXPORT", [1, task_id, task_id, "token"], queue="bench", producer=producer)
        return _purged(app, (time.monotonic() - began) * number / _SENT)

    return {"send_task": messages, "batches of kombu": batches}


def _purged(app: Celery, took_s: float) -> float:
    with app.connection_for_write() as connection:
        connection.default_channel.queue_purge("bench")
    return took_s


def _report(seconds: Mapping[str, float], number: int) -> None:
    for name, took_s in seconds.items():
        print(f"{name:18} {number / took_s:9,.0f} tasks/s")
    for verb in _CALLS:
        ratio = seconds[f"bare {verb}"] / seconds[verb]
        times = seconds["send_task"] / seconds[verb], seconds["batches of kombu"] / seconds[verb]
        print(
            f"{verb}: {ratio:.2f} of the bare statement, {times[0]:.1f} times send_task, {times[1]:.1f} times batches"
        )


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
