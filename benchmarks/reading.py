"""Lists, counts and CSV of REST over a million tasks of all sorts, one after the other, each with its p95.

Run: python -m benchmarks.reading [TASKS [SAMPLES]]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import httpx
import psycopg

from benchmarks import crowd, house

TASKS = 1_000_000
SAMPLES = 20

_STUDY = "SELECT study_uid FROM task WHERE id = (SELECT max(id) / 2 FROM task)"
_DAY = "to_char(now() - interval '50 days', 'YYYYMMDD')"

#: Filters, alone and in the usual pairs.
_FILTERS = (
    "", "status=FAILED", "status=COMPLETED", "status=CANCELED", "status=waiting", "dicomDeviceName=archive-b",
    "dicomDeviceName=archive-c", "ExporterID=Exporter1", "ExporterID=Rare", "batchID=batch-100",
    "StudyInstanceUID={study}", "createdTime={day}", "updatedTime={day}", "createdTime={day}-", "updatedTime={day}-",
    "status=FAILED&dicomDeviceName=archive-b", "status=FAILED&dicomDeviceName=archive-c",
    "status=FAILED&ExporterID=Exporter2", "status=FAILED&ExporterID=Rare", "status=FAILED&batchID=batch-110",
    "dicomDeviceName=archive-b&ExporterID=Exporter1", "status=COMPLETED&updatedTime={day}",
    "status=COMPLETED&createdTime={day}",
)  # fmt: skip


def main() -> None:
    """Print milliseconds, and rows of CSV per second."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else TASKS
    samples = int(sys.argv[2]) if len(sys.argv) > 2 else SAMPLES
    with (
        house.running("--only-servers") as cluster,
        house.api(cluster) as process,
        psycopg.connect(cluster.database_url(), autocommit=True) as connection,
        httpx.Client(base_url=cluster.url, trust_env=False, timeout=None) as client,
    ):
        crowd.mixed(connection, number)
        study, day = _one(connection, _STUDY), _one(connection, f"SELECT {_DAY}")
        print(f"{number} tasks; median and p95 of {samples}, in ms")
        for given in _FILTERS:
            query = given.format(study=study, day=day)
            page = _sampled(client, f"/monitor/export?limit=20&{query}", samples)
            count = _sampled(client, f"/monitor/export/count?{query}", samples)
            print(f"  {given:46} page {page}   count {count}")
        for order in ("-updatedTime", "createdTime"):
            _csv(client, f"/monitor/export?accept=text/csv&orderby={order}", process.pid)


def _one(connection: crowd.Connection, statement: str) -> str:
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return str(row[0])


def _sampled(client: httpx.Client, path: str, samples: int) -> str:
    client.get(path).raise_for_status()
    taken = []
    for _ in range(samples):
        began = time.monotonic()
        client.get(path)
        taken.append(1000 * (time.monotonic() - began))
    taken.sort()
    return f"{taken[len(taken) // 2]:6.1f} {taken[min(len(taken) - 1, int(len(taken) * 0.95))]:6.1f}"


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
