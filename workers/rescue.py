"""Runs whose lease is over go back to be retried; runs that hang are asked to stop."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import structlog
from sqlalchemy import text
from sqlalchemy.orm import Session

from archive import configuration, db
from config.device import Cluster
from tasks import slots, store
from tasks.run import Stop
from tasks.slots import OpenRun
from tasks.store import By
from tasks.work import now_s

_log = structlog.get_logger()

#: A rescuer that was away for longer than this, or than most of the shortest lease, waits one lease.
_LONGEST_PAUSE_S = 5.0
_SHORTEST_PAUSE_S = 3.0

_POSTMASTER_AGE = text("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())")


_LOCK_TASK = text("SELECT 1 FROM task WHERE id = :id FOR UPDATE")
_LOCK_LOST_RUN = text("SELECT lease_until < clock_timestamp() FROM run WHERE id = :id AND ended_at IS NULL FOR UPDATE")


class Rescue:
    """Rescues, but never sooner than one lease after the database, or this process, has come back.

    Meanwhile the workers renew the leases of what really runs.
    """

    def __init__(self, actor: str, *, waits: bool = True) -> None:
        """Begin to rescue.

        Args:
            actor: who history says it was.
            waits: not before one lease is over; False where nothing was missed.
        """
        self._actor = actor
        self._last_s = now_s()
        #: Since when the database and this process have been there without a break.
        self._back_s = self._last_s if waits else float("-inf")

    def tick(self, runs: Sequence[OpenRun]) -> int:
        """Rescue runs that are lost; returns their number."""
        cluster = configuration.current()
        now = now_s()
        if now - self._last_s > _pause_s(cluster):
            self._back_s = now
        self._last_s = now
        lost = [run for run in runs if run.claimed_ago_s is not None and run.lease_left_s < 0]
        back_for_s = now - self._back_s
        return sum(
            self._rescue(run, cluster) for run in lost if back_for_s >= _lease_of(cluster, run.device).total_seconds()
        )

    def away(self) -> None:
        """Note that the database did not answer."""
        self._back_s = now_s()

    def _rescue(self, run: OpenRun, cluster: Cluster) -> int:
        lease = _lease_of(cluster, run.device)
        with db.transaction() as session:
            if float(session.scalars(_POSTMASTER_AGE).one()) < lease.total_seconds():
                return 0
            if not self._still_lost(session, run):
                return 0
            by = By(self._actor, f"lease lost: no heartbeat for {lease.total_seconds():g} s")
            after = store.lose(session, run.task_id, run.run_id, budgets(cluster), by)
        _log.warning("run lost", run=run.run_id, task=run.task_id, device=run.device, task_is_now=after)
        return 1

    def _still_lost(self, session: Session, run: OpenRun) -> bool:
        # Both rows are locked, the task's first as everywhere: the heartbeat skips a locked run, so that
        # a lease cannot be renewed between this look and the end of the run.
        session.execute(_LOCK_TASK, {"id": run.task_id})
        return bool(session.execute(_LOCK_LOST_RUN, {"id": run.run_id}).scalar_one_or_none())


def watch(runs: Sequence[OpenRun]) -> int:
    """Ask runs to stop that run too long, or show no progress for too long; returns their number."""
    cluster = configuration.current()
    hanging = [run for run in runs if run.claimed_ago_s is not None and not run.stop_asked and _hangs(run, cluster)]
    if hanging:
        with db.transaction() as session:
            slots.ask_runs_to_stop(session, [run.run_id for run in hanging], Stop.WATCHDOG)
        for run in hanging:
            _log.warning("watchdog stops a run", run=run.run_id, task=run.task_id, device=run.device)
    return len(hanging)


def _hangs(run: OpenRun, cluster: Cluster) -> bool:
    device = cluster.devices.get(run.device)
    queue = device.queues.get(run.queue) if device is not None else None
    if queue is None or run.claimed_ago_s is None:
        return False
    silent_s = run.progress_ago_s if run.progress_ago_s is not None else run.claimed_ago_s
    return _over(run.claimed_ago_s, queue.max_run_time) or _over(silent_s, queue.max_silence)


def _over(seconds: float, limit: timedelta | None) -> bool:
    # A limit of zero is switched off: absent, arcTaskMaxSilence has its default.
    return bool(limit) and limit is not None and seconds > limit.total_seconds()


def _pause_s(cluster: Cluster) -> float:
    shortest = min((device.task_lease for device in cluster.ours.values()), default=longest_lease(cluster))
    return max(_SHORTEST_PAUSE_S, min(_LONGEST_PAUSE_S, 0.75 * shortest.total_seconds()))


def budgets(cluster: Cluster) -> dict[tuple[str, str], int]:
    """Return arcTaskMaxLostLeases by device and queue."""
    return {(d.name, q.name): q.max_lost_leases for d in cluster.ours.values() for q in d.queues.values()}


def longest_lease(cluster: Cluster) -> timedelta:
    """Return the longest arcTaskLease of our devices."""
    return max((device.task_lease for device in cluster.ours.values()), default=timedelta(seconds=60))


def _lease_of(cluster: Cluster, device: str) -> timedelta:
    found = cluster.devices.get(device)
    return found.task_lease if found is not None else longest_lease(cluster)
