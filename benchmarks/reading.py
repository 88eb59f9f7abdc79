"""Lists, counts and CSV of REST over a million tasks of all sorts, one after the other, each with its p95.

At last counts are asked for while a bulk call changes a quarter of the tasks.
Run: python -m benchmarks.reading [TASKS [SAMPLES]]
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg

from benchmarks import crowd, house

TASKS = 1_000_000
SAMPLES = 20
#: Processors that all of it shares.
_PROCESSORS = 2

_STUDY = "SELECT study_uid FROM task WHERE id >= (SELECT max(id) / 2 FROM task) AND kind = 'EXPORT' ORDER BY id LIMIT 1"
_DAY = "to_char(now() - interval '50 days', 'YYYYMMDD')"

#: Of every resource: filters, alone and in the usual pairs.
_COMMON = (
    "", "taskID={id}", "status=FAILED", "status=COMPLETED", "status=CANCELED", "status=waiting",
    "dicomDeviceName=archive-b", "dicomDeviceName=archive-c", "createdTime={day}", "updatedTime={day}",
    "status=FAILED&dicomDeviceName=archive-b",
)  # fmt: skip
_STUDY_FILTER = "StudyInstanceUID={study}"
#: Those of each besides; a frequent value, a rare one, one that no task has.
_FILTERS = {
    "export": (
        "ExporterID=Exporter1", "ExporterID=Rare", "batchID=batch-100", _STUDY_FILTER, "createdTime={day}-",
        "updatedTime={day}-", "status=FAILED&dicomDeviceName=archive-c", "status=FAILED&ExporterID=Exporter2",
        "status=FAILED&ExporterID=Rare", "status=FAILED&batchID=batch-110",
        "dicomDeviceName=archive-b&ExporterID=Exporter1", "status=COMPLETED&updatedTime={day}",
        "status=COMPLETED&createdTime={day}",
    ),
    "retrieve": (
        "LocalAET=ARCHIVE_A", "LocalAET=ARCFLEET", "LocalAET=X", "RemoteAET=PACS1", "RemoteAET=RARE", "RemoteAET=X",
        "DestinationAET=ARCHIVE_A", "DestinationAET=STATION3", "DestinationAET=X", _STUDY_FILTER,
        "dcmQueueName=Retrieve", "dcmQueueName=Rare", "dcmQueueName=Rare,X", "status=FAILED&RemoteAET=PACS1",
        "batchID=batch-100",
    ),
    "diff": (
        "LocalAET=ARCHIVE_A", "PrimaryAET=PACS1", "PrimaryAET=RARE", "SecondaryAET=SECOND1", "SecondaryAET=RARE",
        "comparefield=PatientName", "comparefield=X", "checkMissing=true", "checkMissing=false",
        "checkDifferent=true", "checkDifferent=false", "batchID=batch-100",
    ),
    "stgver": ("LocalAET=ARCHIVE_A", "LocalAET=ARCFLEET", _STUDY_FILTER, "batchID=batch-100"),
    "deletion": (_STUDY_FILTER,),
    "queue/Export": ("localAET=ARCHIVE_A", "localAET=ARCFLEET", "localAET=X", _STUDY_FILTER, "batchID=batch-100"),
    "queue/Retrieve": ("localAET=ARCHIVE_A", "remoteAET=PACS1", "remoteAET=RARE", "remoteAET=X", _STUDY_FILTER),
    "queue/Rare": (),
    "queue/X": (),
}  # fmt: skip

#: Changes a quarter of the tasks: their devices, queues and AE titles are those of the shipped configuration.
_BULK = "/monitor/retrieve/reschedule?all=true&scheduledTime=20900101000000"
_COUNTED_MEANWHILE = ("export", "retrieve", "queue/Export", "queue/Retrieve")


def main() -> None:
    """Print milliseconds, and rows of CSV per second."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else TASKS
    samples = int(sys.argv[2]) if len(sys.argv) > 2 else SAMPLES
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_PROCESSORS])  # what is started inherits it
    with (
        house.running("--only-servers") as cluster,
        house.api(cluster) as process,
        psycopg.connect(cluster.database_url(), autocommit=True) as connection,
        httpx.Client(base_url=cluster.url, trust_env=False, timeout=None) as client,
    ):
        crowd.mixed(connection, number)
        known = {
            "study": _one(connection, _STUDY), "day": _one(connection, f"SELECT {_DAY}"),
            "id": _one(connection, "SELECT max(id) / 2 FROM task"),
        }  # fmt: skip
        print(f"{number} tasks; median and p95 of {samples}, in ms")
        slowest = Slowest()
        for path, query in _requests(known):
            page = _sampled(client, f"{path}?limit=20&{query}", samples)
            count = _sampled(client, f"{path}/count?{query}", samples)
            slowest.note(f"{path}?{query}", page, count)
            print(f"  {path + '?' + query:76} page {_text(page)}   count {_text(count)}", flush=True)
        print(slowest)
        for order in ("-updatedTime", "createdTime"):
            _csv(client, f"/monitor/export?accept=text/csv&orderby={order}", process.pid)
        _csv(client, "/monitor/retrieve?accept=text/csv", process.pid)
        _csv(client, "/monitor/diff?accept=text/csv;delimiter=semicolon", process.pid)
        _counts_beside_a_bulk_call(cluster.url, client)


class Slowest:
    """The slowest page and the slowest count, by their p95 in ms."""

    def __init__(self) -> None:
        self._page = self._count = (0.0, "")

    def note(self, name: str, page: list[float], count: list[float]) -> None:
        """Note the times of one filter."""
        self._page = max(self._page, (_p95(page), name))
        self._count = max(self._count, (_p95(count), name))

    def __str__(self) -> str:
        return "slowest by p95: page {:.1f} ms ({}), count {:.1f} ms ({})".format(*self._page, *self._count)


def _requests(known: dict[str, str]) -> list[tuple[str, str]]:
    found = []
    for resource, own in _FILTERS.items():
        path = resource if resource.startswith("queue") else f"monitor/{resource}"
        found += [(f"/{path}", given.format(**known)) for given in (*_COMMON, *own)]
    return found


def _counts_beside_a_bulk_call(url: str, client: httpx.Client) -> None:
    """Print how long counts take while a bulk call runs."""
    taken: list[float] = []
    with ThreadPoolExecutor(1) as other:
        began = time.monotonic()
        call = other.submit(httpx.post, url + _BULK, timeout=None, trust_env=False)
        while not call.done():
            for resource in _COUNTED_MEANWHILE:
                path = resource if resource.startswith("queue") else f"monitor/{resource}"
                taken += _timed(client, f"/{path}/count", 1)
        took_s = time.monotonic() - began
    taken.sort()
    print(
        f"counts beside a bulk call of {took_s:.0f} s ({call.result().text[:80]}): median {_middle(taken):.0f} ms, "
        f"p95 {_p95(taken):.0f} ms of {len(taken)}"
    )


def _one(connection: crowd.Connection, statement: str) -> str:
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return str(row[0])


def _sampled(client: httpx.Client, path: str, samples: int) -> list[float]:
    """Return sorted times in ms; the first request is not one of them."""
    client.get(path).raise_for_status()
    return sorted(_timed(client, path, samples))


def _timed(client: httpx.Client, path: str, samples: int) -> list[float]:
    taken = []
    for _ in range(samples):
        began = time.monotonic()
        client.get(path).raise_for_status()
        taken.append(1000 * (time.monotonic() - began))
    return taken


def _middle(taken: list[float]) -> float:
    return taken[len(taken) // 2]


def _p95(taken: list[float]) -> float:
    return taken[min(len(taken) - 1, int(len(taken) * 0.95))]


def _text(taken: list[float]) -> str:
    return f"{_middle(taken):6.1f} {_p95(taken):6.1f}"


def _csv(client: httpx.Client, path: str, pid: int) -> None:
    before, rows = _peak_mb(pid), 0
    began = time.monotonic()
    with client.stream("GET", path) as answer:
        for part in answer.iter_raw(1024 * 1024):
            rows += part.count(b"\n")
    took_s = time.monotonic() - began
    print(
        f"CSV {path}: {rows - 1} rows in {took_s:.1f} s, {rows / took_s:,.0f} rows/s; "
        f"peak memory of the API {before:.0f} MB before, {_peak_mb(pid):.0f} MB after"
    )


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
