"""The pool follows the configuration as far as it can, and never at the worker's expense."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from workers.device_step import resize


@dataclass
class BusyPool:
    """Celery's pool as far as its size goes: only idle processes can be taken away."""

    processes: int
    idle: int

    def grow(self, number: int) -> None:
        self.processes += number

    def shrink(self, number: int) -> None:
        if number > self.idle:
            raise ValueError("Can't shrink pool. All processes busy!")
        self.processes -= number
        self.idle -= number


@dataclass
class Worker:
    pool: BusyPool
    concurrency: int = field(default=4)


@pytest.mark.parametrize(("idle", "wanted", "expected"), [(0, 2, 4), (1, 2, 3), (4, 2, 2), (0, 6, 6), (0, 4, 4)])
def test_pool_is_resized_as_far_as_processes_are_idle(idle: int, wanted: int, expected: int) -> None:
    worker = Worker(BusyPool(processes=4, idle=idle))

    resize(worker, wanted)

    assert worker.concurrency == worker.pool.processes == expected
