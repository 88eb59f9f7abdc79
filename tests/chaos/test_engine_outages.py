"""Servers that are away for long while tasks run: nothing is lost, nothing is taken for lost."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tasks.state import Status
from tests.lab import ldif
from tests.lab.cluster import Lab, cluster
from tests.lab.waiting import holds_for, wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

LEASE_S = 3


@pytest.fixture
def lab() -> Iterator[Lab]:
    with cluster(
        ldif.device(arcTaskLease=f"PT{LEASE_S}S"),
        ldif.exporter("Noop", uri="noop:", duration=0.02, operations=2),
        ldif.exporter("Long", uri="noop:", duration=20, operations=400),
    ) as made:
        made.beat()
        made.worker("archive-a")
        made.worker("archive-b")
        made.ready()
        yield made


def endings(lab: Lab, tasks: list[int]) -> set[str | None]:
    return {run.ending for task in tasks for run in lab.runs(task)}


def test_no_run_is_rescued_while_the_broker_hangs_for_three_leases(lab: Lab) -> None:
    long = lab.schedule(exporter="Long")
    lab.await_running(long[0])
    lab.valkey.freeze()
    due = lab.schedule(20, device="archive-a") + lab.schedule(20, device="archive-b")

    holds_for(lambda: "lost" not in endings(lab, long), "no run is lost", for_s=3 * LEASE_S)
    lab.valkey.thaw()

    back = time.monotonic()
    wait_until(lambda: all(lab.runs(task) for task in due), "everything due is sent", say=lab.describe)
    print(f"all sent {time.monotonic() - back:.1f} s after the broker came back")
    lab.await_status([*long, *due], Status.COMPLETED)
    assert endings(lab, long) == {"completed"}
    lab.prove()


def test_both_servers_away_for_a_minute_end_no_run(lab: Lab) -> None:
    long = lab.schedule(2, exporter="Long")
    for task in long:
        lab.await_running(task)
    processes = {lab.process_of(lab.runs(task)[0].id) for task in long}

    lab.valkey.stop()
    lab.postgres.stop()
    # Nothing can be asked while both are away: that all still runs is seen in the trace.
    away = time.monotonic()
    holds_for(lambda: all(member.is_running for member in lab.members), "no process ends", for_s=60)
    lab.postgres.start()
    lab.valkey.start()

    back = time.monotonic()
    lab.await_status(long, Status.COMPLETED)
    print(f"away for {back - away:.0f} s; COMPLETED {time.monotonic() - back:.1f} s after they came back")
    assert endings(lab, long) == {"completed"}
    assert {lab.process_of(lab.runs(task)[0].id) for task in long} == processes
    lab.await_status(lab.schedule(40), Status.COMPLETED)
    lab.prove()
