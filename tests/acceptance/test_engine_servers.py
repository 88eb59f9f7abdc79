"""Broker and database that are emptied, stopped, frozen or restarted while tasks run."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from kombu import Connection

from tasks.state import Status
from tests.lab import ldif
from tests.lab.cluster import Lab, cluster
from tests.lab.waiting import holds_for, wait_until
from workers.app import make_app

HERE, THERE = "archive-a", "archive-b"
LEASE_S = 3


@pytest.fixture
def lab() -> Iterator[Lab]:
    with cluster(
        ldif.device(arcTaskLease=f"PT{LEASE_S}S"),
        ldif.exporter("Noop", uri="noop:", duration=0.02, operations=2),
        ldif.exporter("Long", uri="noop:", duration=3 * LEASE_S, operations=300),
    ) as made:
        made.beat()
        made.worker(HERE)
        made.worker(THERE)
        made.ready()
        yield made


def lost_runs(lab: Lab, tasks: list[int]) -> list[int]:
    return [run.id for task in tasks for run in lab.runs(task) if run.ending == "lost"]


def test_no_run_is_rescued_while_the_broker_is_away_for_two_leases(lab: Lab) -> None:
    long = lab.schedule(exporter="Long")
    lab.await_running(long[0])
    lab.valkey.stop()
    began = time.monotonic()
    due = lab.schedule(20, device=HERE) + lab.schedule(20, device=THERE)
    took_ms = (time.monotonic() - began) * 1000

    holds_for(lambda: not lost_runs(lab, long), "no run is lost", for_s=2 * LEASE_S)
    lab.valkey.start()

    back = time.monotonic()
    wait_until(lambda: all(lab.runs(task) for task in due), "everything due is sent", say=lab.describe)
    sent_s = time.monotonic() - back
    lab.await_status([*long, *due], Status.COMPLETED)
    print(f"40 tasks scheduled in {took_ms:.0f} ms without broker; all sent {sent_s:.1f} s after its return")
    assert lost_runs(lab, long) == []
    lab.prove()


def test_emptied_broker_loses_no_task(lab: Lab) -> None:
    tasks = lab.schedule(100, device=HERE) + lab.schedule(100, device=THERE)
    for limit in (150, 100, 50):
        lab.await_done(at_least=200 - limit)
        lab.flush_broker()

    lab.await_status(tasks, Status.COMPLETED)

    lab.prove()


def test_database_that_is_restarted_under_load_doubles_nothing(lab: Lab) -> None:
    long = lab.schedule(exporter="Long")
    tasks = lab.schedule(150, device=HERE) + lab.schedule(150, device=THERE)
    lab.await_running(long[0])

    for done in (50, 150):
        lab.await_done(at_least=done)
        lab.restart_postgres_at_once()
        back, before = time.monotonic(), lab.count().get(Status.COMPLETED, 0)
        lab.await_done(at_least=before + 1)
        print(f"tasks go on {time.monotonic() - back:.1f} s after the restart")

    lab.await_status([*long, *tasks], Status.COMPLETED)
    assert lost_runs(lab, long) == []
    lab.prove()


def test_worker_hears_remote_control_after_each_absence_of_the_broker(lab: Lab) -> None:
    worker = next(member for member in lab.members if member.name.startswith(f"worker-{HERE}"))
    name = lab.node_name(worker)
    control = make_app().control
    for _ in range(3):
        lab.restart_broker()
        with Connection(lab.broker_url) as broker:
            wait_until(
                lambda broker=broker: control.ping(destination=[name], timeout=1, connection=broker),
                f"{name} answers",
                say=worker.tail,
            )
