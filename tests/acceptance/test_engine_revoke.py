"""Celery's remote control keeps its promise: what is revoked is cancelled, stops, and does not run again."""

from __future__ import annotations

import pytest

from tasks import operations
from tasks.moving import Change
from tasks.query import TaskQuery
from tasks.run import Ending
from tasks.state import Status
from tests.lab import ldif
from tests.lab.cluster import BY, cluster
from tests.lab.waiting import wait_until
from workers.app import make_app

LONG = ldif.exporter("Long", uri="noop:", duration=300)


@pytest.mark.parametrize("terminate", [False, True], ids=["revoked", "terminated"])
def test_revoked_run_is_canceled_and_stops(terminate: bool) -> None:
    with cluster(LONG) as lab:
        lab.ready(lab.worker("archive-a"))
        [task_id] = lab.schedule(exporter="Long")
        run = lab.await_running(task_id)

        make_app().control.revoke(f"{task_id}.{run.id}", terminate=terminate, signal="SIGKILL")

        lab.await_status([task_id], Status.CANCELED)
        wait_until(lambda: lab.runs(task_id)[0].ended_at is not None, "the run has ended", say=lab.describe)
        assert lab.runs(task_id)[0].ending == Ending.STOPPED
        assert len(lab.runs(task_id)) == 1
        lab.prove()


def test_revoking_a_run_that_has_ended_leaves_the_new_one_alone() -> None:
    with cluster(LONG) as lab:
        lab.ready(lab.worker("archive-a"))
        [task_id] = lab.schedule(exporter="Long")
        old = lab.await_running(task_id)
        operations.reschedule_one(task_id, TaskQuery(), Change(), BY)
        wait_until(lambda: len(lab.runs(task_id)) == 2, "a second run", say=lab.describe)
        new = lab.await_running(task_id)

        make_app().control.revoke(f"{task_id}.{old.id}")
        [other] = lab.schedule(exporter="Noop")
        lab.await_status([other], Status.COMPLETED)

        assert lab.task(task_id).status is Status.IN_PROCESS
        assert [run.id for run in lab.runs(task_id) if run.ended_at is None] == [new.id]
