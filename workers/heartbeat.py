"""The thread that renews the leases of this worker's runs, and sees to it that they stop when asked.

It has a database connection of its own: a timer of Celery does not tick while the broker is away. It
names the runs that the worker really has; a run that it claimed but does not name any more is lost.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from archive import configuration, db
from config.device import Device
from tasks import slots, store
from tasks.run import Stop
from tasks.store import By
from workers import beat, execute, node
from workers.parent import has_ended

_log = structlog.get_logger()

#: Seconds between two looks, less where leases are short.
_TICK_S = 1.0
#: Seconds after which the process of a run that was asked to stop is killed.
_KILL_AFTER_S = 5.0
#: The same when the worker itself stops: all must be over within 15 s.
_KILL_AT_SHUTDOWN_S = 4.0
#: How long a run may be unknown to its worker: the claim is committed a moment before or after.
_UNNAMED_FOR = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Held:
    """A run that the pool has."""

    run_id: int
    #: None: no process has taken it yet.
    pid: int | None


class Heartbeat(threading.Thread):
    """Renews, watches and, where it must, kills the runs of one worker."""

    def __init__(
        self,
        of: execute.Node,
        device: str,
        engine: Engine,
        held: Callable[[], Mapping[int, Held]],
        follow: Callable[[Device], None],
        stand_in: beat.Tick,
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._node = of
        self._device = device
        self._engine = engine
        self._held = held
        self._follow = follow
        self._stand_in = stand_in
        self._died: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._shutting_down = False
        self._tick_s = _TICK_S
        self._renewed_s = self._seen_s = float("-inf")

    def died(self, run_id: int) -> None:
        """Note that the process of a run has died; the run ends at once as lost."""
        self._died.put(run_id)
        self._wake.set()

    def shut_down(self) -> None:
        """Ask all runs to stop and to be handed back; goes on renewing until `end`."""
        self._shutting_down = True
        self._wake.set()

    def end(self) -> None:
        """Say that this worker is gone, and stop."""
        self._ending.set()
        self._wake.set()
        self.join(2)

    def run(self) -> None:
        """Tick until the end; the database may be away for any time."""
        while not self._ending.is_set():
            try:
                self._tick()
            except db.OUTAGES as outage:
                _log.warning("database away, leases are not renewed", error=db.first_line(outage))
            except Exception:  # noqa: BLE001 - a defect in one tick must not end the leases of all runs
                _log.exception("heartbeat failed")
            self._wake.wait(self._tick_s)
            self._wake.clear()
        node.say_goodbye(self._engine, self._node)

    def _tick(self) -> None:
        device = configuration.current().devices.get(self._device)
        if device is not None:
            self._follow(device)
        held = self._held()
        self._notice_dead(held)
        self._bury(device)
        lease = device.task_lease if device is not None else timedelta(seconds=60)
        self._tick_s = min(_TICK_S, lease.total_seconds() / 4)
        now = time.monotonic()
        with Session(self._engine) as session, session.begin():
            leaderless = now - self._seen_s >= node.SEEN_EVERY_S and self._say_alive(session)
            if held and self._shutting_down:
                slots.ask_runs_to_stop(session, held, Stop.SHUTDOWN, "the worker stops")
            if held and now - self._renewed_s >= min(lease.total_seconds() / 4, 10.0):
                slots.renew_leases(session, held, lease)
                self._renewed_s = now
            asked = slots.leases(session, held) if held else []
        self._kill([held[lease.run_id] for lease in asked if self._must_die(lease)])
        if leaderless:
            self._stand_in.do()

    def _say_alive(self, session: Session) -> bool:
        """Say that this worker lives; True: nobody leads, so that it must do what beat does."""
        node.say_seen(session, self._node)
        for run_id in slots.unnamed_runs(session, self._node.id, self._held(), _UNNAMED_FOR):
            self._died.put(run_id)
        self._seen_s = time.monotonic()
        return beat.is_leaderless(session)

    def _must_die(self, lease: slots.Lease) -> bool:
        limit = _KILL_AT_SHUTDOWN_S if self._shutting_down else _KILL_AFTER_S
        # A run that was rescued meanwhile, and whose process hangs, keeps a process from all others.
        since_s = lease.stop_asked_for_s if lease.ended_for_s is None else lease.ended_for_s
        return since_s is not None and since_s > limit

    def _kill(self, runs: list[Held]) -> None:
        # Looked at again: a process may have gone on to the next run while the database was asked.
        now_held = self._held() if runs else {}
        for run in runs:
            if run.pid is not None and now_held.get(run.run_id) == run:
                _log.warning("run does not stop, its process is killed", run=run.run_id, pid=run.pid)
                with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
                    os.kill(run.pid, signal.SIGKILL)

    def _notice_dead(self, held: Mapping[int, Held]) -> None:
        # Celery takes up to 10 s to say that a process of its pool was killed.
        for run in held.values():
            if run.pid is not None and has_ended(run.pid):
                self._died.put(run.run_id)

    def _bury(self, device: Device | None) -> None:
        while not self._died.empty():
            run_id = self._died.get()
            try:
                with Session(self._engine) as session, session.begin():
                    self._end_dead(session, run_id, device)
            except db.OUTAGES:
                self._died.put(run_id)
                raise

    def _end_dead(self, session: Session, run_id: int, device: Device | None) -> None:
        found = slots.stop_reason(session, run_id)
        if found is None:
            return
        task_id, reason = found
        by = By(self._node.name, "its process died")
        queues = device.queues if device is not None else {}
        if reason is None:
            budgets = {(self._device, q.name): q.max_lost_leases for q in queues.values()}
            after = store.lose(session, task_id, run_id, budgets, by)
        else:
            after = execute.report_stopped(session, task_id, run_id, reason, queues, by)
        _log.warning("process of a run died", run=run_id, task=task_id, asked_to_stop=reason, task_is_now=after)
