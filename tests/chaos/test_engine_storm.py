"""Faults under load, on the scale that the project promises to stand."""

from __future__ import annotations

import pytest

from tasks.state import Status
from tests.lab import ldif
from tests.lab.cluster import Lab, cluster
from tests.lab.storm import Storm

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

CHANGES = (
    ldif.device(arcTaskLease="PT3S"),
    ldif.queue("Export", arcTaskMaxLostLeases="50"),
    ldif.exporter("Noop", uri="noop:", duration=0.01, operations=2),
)


def storm_over(lab: Lab, *, tasks: int = 1000, kills: int = 60, by_the_clock: bool = False) -> Storm:
    lab.beat()
    workers = [lab.worker(device, concurrency=1) for _ in range(2) for device in ("archive-a", "archive-b")]
    return Storm(lab, workers, tasks=tasks, kills=kills, by_the_clock=by_the_clock)


def test_thousand_tasks_complete_once_through_sixty_kills_and_a_failing_broker() -> None:
    """Two devices with two workers each, tasks of 10 ms, lease 3 s, budget of 50 lost leases.

    A thousand such tasks alone are over in seconds: they arrive in 60 shares, one just before each kill, so
    that each kill finds work going on. The broker is emptied three times, stopped and started, restarted,
    and frozen and woken, each while kills go on.
    """
    with cluster(*CHANGES) as lab:
        storm = storm_over(lab)

        storm.rage(
            {5: "flush", 12: "stop", 18: "start", 24: "flush", 30: "restart", 38: "freeze", 44: "thaw", 52: "flush"}
        )

        storm.calm()


def test_thousand_tasks_complete_once_although_a_worker_is_killed_each_second() -> None:
    """The same by the clock: each second the next worker is killed, ready or not.

    A worker lives for four seconds, of which it needs two or three to start.
    """
    with cluster(*CHANGES) as lab:
        storm = storm_over(lab, by_the_clock=True)
        lab.ready()

        storm.rage(
            {5: "flush", 12: "stop", 18: "start", 24: "flush", 30: "restart", 38: "freeze", 44: "thaw", 52: "flush"}
        )

        storm.calm()


def test_tasks_complete_once_through_kills_and_restarts_of_the_database() -> None:
    """The same with the database restarted four times without letting anything finish."""
    with cluster(*CHANGES) as lab:
        storm = storm_over(lab, tasks=400, kills=24)

        storm.rage(dict.fromkeys((4, 9, 14, 19), "restart database") | {11: "flush"})

        storm.calm()


def test_workers_frozen_beyond_their_lease_double_nothing() -> None:
    """Ten times a worker is frozen in the middle of a run, and woken while another one runs the same task.

    It must not begin one more sub-operation then, however it slept: its lease is over.
    """
    with cluster(
        ldif.device(arcTaskLease="PT3S"),
        ldif.queue("Export", arcTaskMaxLostLeases="50"),
        ldif.exporter("Noop", uri="noop:", duration=4, operations=80),
    ) as lab:
        lab.beat()
        workers = [lab.worker("archive-a"), lab.worker("archive-a")]
        lab.ready()
        for _ in range(10):
            tasks = lab.schedule(2)
            run = lab.await_running(tasks[0])
            victim = next(worker for worker in workers if lab.node_id(worker) == run.node_id)

            victim.freeze()
            lab.await_running(tasks[0], after=run)
            victim.thaw()

            lab.await_status(tasks, Status.COMPLETED)

        print(lab.prove().summary())
