"""Fifty tasks each second for an hour: memory and file handles of every process, and what the history says at the end.

Two devices with a worker of four processes each, a worker for housekeeping, beat and Flower. A line every five
minutes; the processes of the pool are counted with their worker. At the end the history checker looks at every
transition, run and sub-operation.
Run: python -m benchmarks.soak [MINUTES [TASKS_PER_S]]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from tasks.state import Status
from tests.lab import ldif
from tests.lab.cluster import Lab, cluster
from tests.lab.member import Member

MINUTES = 60
TASKS_PER_S = 50
PROCESSES = 4
DEVICES = ("archive-a", "archive-b")
_LINE_EVERY_S = 300.0
#: Until caches are filled and every process of the pools has run something.
_WARM_S = 120.0
#: Patience at the end for what still waits.
_CALM_S = 300.0


@dataclass(frozen=True)
class Use:
    """What one member and its children hold."""

    name: str
    processes: int
    pss_bytes: int
    largest_rss_bytes: int
    handles: int

    def __str__(self) -> str:
        memory = f"PSS {self.pss_bytes / 1e6:.0f} MB, largest RSS {self.largest_rss_bytes / 1e6:.0f} MB"
        return f"{self.name}: {self.processes} processes, {memory}, {self.handles} files"


def main() -> None:
    """Run it and print what was used and what was done."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else MINUTES
    per_s = int(sys.argv[2]) if len(sys.argv) > 2 else TASKS_PER_S
    queue = ldif.queue("Export", dcmMaxTasksParallel=str(PROCESSES))
    with cluster(ldif.exporter("Noop", uri="noop:", duration=0.005, operations=2), queue) as lab:
        lab.beat()
        lab.flower()
        workers = [lab.worker(device, concurrency=PROCESSES) for device in DEVICES]
        workers.append(lab.worker(DEVICES[0], housekeeping=True))
        lab.ready(*workers)
        print(f"{per_s} tasks per second for {minutes:g} minutes")
        for at_s in _feed(lab, minutes * 60, per_s):
            _report(lab, at_s)
        _finish(lab)


def _feed(lab: Lab, seconds: float, per_s: int) -> Iterator[float]:
    """Schedule the tasks of each second; yield when it is time for a line."""
    began = time.monotonic()
    next_line_s, fed = min(_WARM_S, seconds), 0
    while (at_s := time.monotonic() - began) < seconds:
        due = int(at_s * per_s) - fed
        for number, device in enumerate(DEVICES):
            share = (due + number) // len(DEVICES)
            if share:
                lab.schedule(share, device=device)
        fed += due
        if at_s >= next_line_s:
            yield at_s
            next_line_s = (at_s // _LINE_EVERY_S + 1) * _LINE_EVERY_S
        time.sleep(max(0.0, 1.0 - (time.monotonic() - began - at_s)))
    yield time.monotonic() - began


def _report(lab: Lab, at_s: float) -> None:
    counts = lab.count()
    done, all_of_them = counts.get(Status.COMPLETED, 0), sum(counts.values())
    print(f"after {at_s / 60:.0f} min: {done} of {all_of_them} tasks done", flush=True)
    for member in lab.members:
        print(f"  {_use(member)}", flush=True)


def _use(member: Member) -> Use:
    head = psutil.Process(member.pid)
    family = [head, *head.children(recursive=True)]
    memory = [process.memory_full_info() for process in family]
    return Use(
        member.name,
        len(family),
        sum(one.pss for one in memory),
        max(one.rss for one in memory),
        sum(process.num_fds() for process in family),
    )


def _finish(lab: Lab) -> None:
    end = time.monotonic() + _CALM_S
    while set(lab.count()) - {Status.COMPLETED} and time.monotonic() < end:
        time.sleep(1)
    lab.await_idle()
    print(f"at the end: {lab.count()}")
    print(f"{lab.prove().summary()}; the history checker found nothing")


if __name__ == "__main__":
    main()
