"""One call of REST that reschedules many FAILED tasks to another device, and beside it a bare UPDATE of the same rows.

Run: python -m benchmarks.bulk_reschedule [TASKS]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import httpx
import psycopg

from benchmarks import house

TASKS = 100_000

_INSERT = """
    INSERT INTO task (kind, device, queue, status, scheduled_time, failures, exporter_id, study_uid, local_aet)
    SELECT 'EXPORT', 'archive-a', 'Export', 'FAILED', now(), 11, 'Noop', '1.2.' || n, 'ARCHIVE_A'
    FROM generate_series(1, %s) AS n
"""

_UPDATE = """
    UPDATE task SET status = 'FAILED', device = 'archive-a', scheduled_time = now(), updated_time = now(),
        failures = 11 WHERE status = 'SCHEDULED'
"""


def main() -> None:
    """Print tasks per second and the memory of the API process."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else TASKS
    with (
        house.running("--only-servers") as cluster,
        house.api(cluster) as process,
        psycopg.connect(cluster.database_url(), autocommit=True) as connection,
    ):
        connection.execute(_INSERT, (number,))
        connection.execute("VACUUM ANALYZE task")
        httpx.get(f"{cluster.url}/monitor/export/count", trust_env=False).raise_for_status()
        before = _peak_mb(process.pid)
        call_s = _call(cluster.url, number)
        after = _peak_mb(process.pid)
        connection.execute("VACUUM ANALYZE task")
        began = time.monotonic()
        changed = connection.execute(_UPDATE).rowcount
        update_s = time.monotonic() - began
    assert changed == number
    print(f"bulk reschedule by REST: {number} tasks in {call_s:.2f} s, {number / call_s:,.0f} tasks/s")
    print(f"bare UPDATE:             {number} tasks in {update_s:.2f} s, {number / update_s:,.0f} tasks/s")
    print(f"peak RSS of the API:     {before:.0f} MB before, {after:.0f} MB after")


def _call(url: str, number: int) -> float:
    # Far ahead, so that nothing of it is sent while it is measured.
    target = f"{url}/monitor/export/reschedule?status=FAILED&newDeviceName=archive-b&scheduledTime=20900101000000"
    began = time.monotonic()
    answer = httpx.post(target, timeout=None, trust_env=False)
    took = time.monotonic() - began
    assert answer.json() == {"count": number}, answer.text
    return took


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
