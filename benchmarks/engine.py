"""The engine by itself: tasks per second of one device, and how soon work goes on after a fault.

Run: python -m benchmarks.engine [TASKS]
"""

from __future__ import annotations

import sys
import time

from tasks.state import Status
from tests.lab import ldif
from tests.lab.cluster import Lab, cluster
from tests.lab.waiting import wait_until

TASKS = 3000
PROCESSES = 4


def throughput(lab: Lab, tasks: int) -> None:
    """Tasks that do nothing: claim, run, report, history, and the message of the next one."""
    lab.multiply(lab.schedule(device="archive-b")[0], tasks - 1)
    worker = lab.worker("archive-b", concurrency=PROCESSES)
    lab.ready(worker)
    began = time.monotonic()
    wait_until(
        lambda: lab.count(devices=("archive-b",)).get(Status.COMPLETED, 0) == tasks, "all are done", timeout_s=600
    )
    took_s = time.monotonic() - began
    print(f"{tasks} tasks that do nothing, {PROCESSES} processes: {tasks / took_s:.0f} per second")
    worker.stop()


def recovery(lab: Lab) -> None:
    """From a fault to the next run that completes, with tasks waiting."""
    lab.ready(lab.worker("archive-a"), lab.worker("archive-a"))
    lab.multiply(lab.schedule(exporter="Short")[0], 20_000)
    lab.await_done(at_least=lab.count().get(Status.COMPLETED, 0) + 20)
    for name, fault in (
        ("broker emptied", lab.flush_broker),
        ("broker restarted", lab.restart_broker),
        ("database restarted at once", lab.restart_postgres_at_once),
        ("one of two workers killed", lab.members[-1].kill),
    ):
        fault()
        began, before = time.monotonic(), lab.count().get(Status.COMPLETED, 0)
        lab.await_done(at_least=before + 10)
        print(f"{name}: ten more tasks done after {time.monotonic() - began:.2f} s")


def main() -> None:
    """Run all and print one line each."""
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else TASKS
    with cluster(
        ldif.exporter("Noop", uri="noop:"),
        ldif.exporter("Short", uri="noop:", duration=0.05),
        ldif.queue("Export", dcmMaxTasksParallel=str(PROCESSES)),
    ) as lab:
        lab.beat()
        throughput(lab, tasks)
        recovery(lab)


if __name__ == "__main__":
    main()
