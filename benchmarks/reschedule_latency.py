"""How long from a reschedule by REST with newDeviceName to the start of the run on the other, idle device.

Run: python -m benchmarks.reschedule_latency [SAMPLES]
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import httpx

from benchmarks import house
from benchmarks.house import House

SAMPLES = 200
#: Each process of the pools has run once by then: its first run compiles statements and takes about 100 ms.
WARM_UP = 30


def main() -> None:
    """Print median and 99th percentile."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else SAMPLES
    with house.running() as cluster, httpx.Client(trust_env=False) as client:
        seconds = [_sample(cluster, client, study) for study in range(WARM_UP + number)][WARM_UP:]
    seconds.sort()
    print(f"reschedule to start of the run, {number} samples, one after the other:")
    print(f"median {1000 * statistics.median(seconds):.1f} ms")
    print(f"p99    {1000 * seconds[min(number - 1, int(number * 0.99))]:.1f} ms")
    print(f"max    {1000 * seconds[-1]:.1f} ms")


def _sample(cluster: House, client: httpx.Client, study: int) -> float:
    made = client.post(
        f"{cluster.url}/aets/ARCHIVE_A/rs/studies/1.2.{study}/export/Noop?scheduledTime=20900101000000"
    ).raise_for_status()
    task_id = made.json()["taskID"]
    began = time.monotonic_ns()
    client.post(f"{cluster.url}/monitor/export/{task_id}/reschedule?newDeviceName=archive-b").raise_for_status()
    house.wait_until(lambda: _started(cluster.trace_file, task_id) is not None)
    started = _started(cluster.trace_file, task_id)
    assert started is not None
    house.wait_until(lambda: client.get(f"{cluster.url}/monitor/export/{task_id}").json()["status"] == "COMPLETED")
    return (started - began) / 1e9


def _started(trace: Path, task_id: str) -> int | None:
    """Return when the run began its work, by the clock that all processes of a machine share."""
    if not trace.exists():
        return None
    for line in trace.read_text().splitlines():
        what, at, task, *_ = line.split()
        if what == "begin" and task == task_id:
            return int(at)
    return None


if __name__ == "__main__":
    main()
