"""Bulk calls of REST on a million tasks, beside one bare statement on the same rows and beside sending them anew.

All in turn, round after round, on two processors. Each contestant finds the same rows, written anew; each call is made
by itself and beside other requests, whose latency is measured. Sending is measured with shares of the messages, each
twice as large as the one before, so that it is seen that a million would take that many times as long: Celery's
send_task one by one, and kombu's batches of a thousand. The memory of the server is looked at ten times a second.
Run: python -m benchmarks.million [TASKS [ROUNDS [VERB ...]]], verbs are reschedule, cancel and delete.
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import psycopg
from celery import Celery

from benchmarks import crowd, house
from benchmarks.contest import in_turn
from benchmarks.crowd import Connection

TASKS = 1_000_000
_ROUNDS = 3
#: Messages that are really sent, one share after the other.
_SHARES = (4_000, 8_000, 16_000, 32_000)
_BATCH = 1000
#: Processors that all of it shares.
_PROCESSORS = 2
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
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else _ROUNDS
    verbs = sys.argv[3:] or list(_CALLS)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_PROCESSORS])  # what is started inherits it
    with (
        house.running("--only-servers") as cluster,
        house.api(cluster) as process,
        psycopg.connect(cluster.database_url(), autocommit=True) as connection,
    ):
        bench = Bench(cluster.url, process.pid, connection, number)
        senders = Senders(cluster.broker_url(), number)
        seconds: dict[str, list[float]] = {}
        contestants = bench.contestants(verbs) | senders.contestants()
        for turn in range(rounds):
            for name in in_turn(list(contestants), turn):
                seconds.setdefault(name, []).append(contestants[name]())
                print(f"  {name}: {number / seconds[name][-1]:,.0f} tasks/s", flush=True)
        _report({name: statistics.median(taken) for name, taken in seconds.items()}, number, verbs)
        senders.report()
        bench.report()


class Bench:
    """The calls and the bare statements, and what is seen of the server meanwhile."""

    def __init__(self, url: str, pid: int, connection: Connection, number: int) -> None:
        self._url = url
        self._pid = pid
        self._connection = connection
        self._number = number
        self._latencies: dict[str, list[float]] = {}
        self._memory: list[str] = []

    def contestants(self, verbs: Sequence[str]) -> dict[str, Contestant]:
        """Return each call, by itself and beside other requests, and the bare statement."""
        found: dict[str, Contestant] = {}
        for verb in verbs:
            found[f"bare {verb}"] = lambda verb=verb: self._bare(verb)  # type: ignore[misc]
            found[verb] = lambda verb=verb: self._call(verb)  # type: ignore[misc]
            found[f"{verb} beside others"] = lambda verb=verb: self._disturbed(verb)  # type: ignore[misc]
        return found

    def report(self) -> None:
        """Print how long other requests took during the calls, and how the memory grew."""
        for verb, taken in self._latencies.items():
            found = sorted(taken)
            p99 = found[min(len(found) - 1, int(len(found) * 0.99))]
            print(
                f"other requests beside {verb}: median {1000 * statistics.median(found):.0f} ms, "
                f"p99 {1000 * p99:.0f} ms, worst {1000 * found[-1]:.0f} ms of {len(found)}"
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

    def _call(self, verb: str, others: Others | None = None) -> float:
        crowd.failed(self._connection, self._number, _BARE[verb][0])
        httpx.get(f"{self._url}/monitor/export/count", trust_env=False).raise_for_status()
        method, path = _CALLS[verb]
        with Memory(self._pid) as memory, others or nullcontext():
            began = time.monotonic()
            answer = httpx.request(method, f"{self._url}/monitor/export{path}", timeout=None, trust_env=False)
            took_s = time.monotonic() - began
        self._memory.append(f"memory of the API, {verb}{' beside others' if others else ''}: {memory}")
        # What others schedule meanwhile may be canceled too.
        said = answer.json()
        assert said["count"] == self._number or (others and said["count"] > self._number), answer.text
        return took_s

    def _disturbed(self, verb: str) -> float:
        others = Others(self._url)
        took_s = self._call(verb, others)
        self._latencies.setdefault(verb, []).extend(others.seconds)
        return took_s


class Memory:
    """What a process holds, looked at again and again."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._seen = [_resident_mb(pid)]

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def __str__(self) -> str:
        seen = self._seen
        return f"{seen[0]:.0f} MB before, {min(seen):.0f} to {max(seen):.0f} MB meanwhile, {seen[-1]:.0f} MB at the end"

    def _look(self) -> None:
        while not self._ended.wait(0.1):
            self._seen.append(_resident_mb(self._pid))


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


class Senders:
    """Those who send the same tasks as messages: shares of them, the rest by proportion."""

    def __init__(self, url: str, number: int) -> None:
        self._app = Celery("bench", broker=url)
        self._app.conf.task_ignore_result = True
        self._number = number
        #: Messages a second of each share.
        self._rates: dict[str, dict[int, list[float]]] = {}

    def contestants(self) -> dict[str, Contestant]:
        """Return the contestants by name."""
        ways = {"send_task": self._one_by_one, "batches of kombu": self._in_batches}
        return {name: lambda name=name, way=way: self._measured(name, way) for name, way in ways.items()}  # type: ignore[misc]

    def report(self) -> None:
        """Print how many messages a second each share was: they are alike if sending is linear."""
        for name, rates in self._rates.items():
            shares = ", ".join(f"{statistics.median(found):,.0f} of {share:,}" for share, found in rates.items())
            print(f"{name}, messages per second by share: {shares}")

    def _measured(self, name: str, way: Callable[[int], None]) -> float:
        taken_s = 0.0
        for share in _SHARES:
            began = time.monotonic()
            way(share)
            took_s = time.monotonic() - began
            self._rates.setdefault(name, {}).setdefault(share, []).append(share / took_s)
            taken_s += took_s
        # Not emptied in between: what was sent before is there as it would be of a million.
        with self._app.connection_for_write() as connection:
            connection.default_channel.queue_purge("bench")
        return taken_s * self._number / sum(_SHARES)

    def _one_by_one(self, number: int) -> None:
        for task_id in range(number):
            self._app.send_task("run.EXPORT", [1, task_id, task_id, "token"], queue="bench")

    def _in_batches(self, number: int) -> None:
        with self._app.connection_for_write() as connection:
            producer: Any = self._app.amqp.Producer(connection)
            for start in range(0, number, _BATCH):
                with producer.batch(_BATCH):
                    for task_id in range(start, start + _BATCH):
                        self._app.send_task(
                            "run.EXPORT", [1, task_id, task_id, "token"], queue="bench", producer=producer
                        )


def _report(seconds: Mapping[str, float], number: int, verbs: Sequence[str]) -> None:
    for name, took_s in seconds.items():
        print(f"{name:24} {number / took_s:9,.0f} tasks/s")
    for verb in verbs:
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
