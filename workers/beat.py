"""Beat: one of any number leads, by a lease on the clock of the database. It ticks; the database says what is due."""

from __future__ import annotations

import os
import platform
import time
from datetime import timedelta
from typing import Any

import structlog
from celery.beat import Scheduler
from sqlalchemy import ColumnElement, func, select, text
from sqlalchemy.orm import Session

from archive import configuration, db
from config.device import Cluster
from tasks import slots
from tasks.control import Leader
from workers import dispatch, housekeeping, rescue
from workers.dispatch import UNCLAIMED_FOR

_log = structlog.get_logger()

#: Name of the entry that beat keeps; it is done here and not sent.
TICK = "tick"
#: Seconds between two ticks.
TICK_EVERY_S = 1.0
#: How old the lease of a leader may be when it ticks.
RENEWED_EVERY_S = 3.0
#: How long a leader leads after its last sign of life.
LEADERSHIP_S = 10
#: Database connections of a beat: for ticks, and for sending.
CONNECTIONS = 2
#: After so long without a leader any worker sweeps and rescues.
NO_LEADER_FOR_S = 30

_LEAD = text(
    """
    INSERT INTO leader (role, holder, until) VALUES ('beat', :holder, clock_timestamp() + make_interval(secs => :lease))
    ON CONFLICT (role) DO UPDATE SET holder = excluded.holder, until = excluded.until
    WHERE leader.holder = excluded.holder OR leader.until < clock_timestamp()
    RETURNING holder
    """
)
_RESIGN = text("DELETE FROM leader WHERE role = 'beat' AND holder = :holder")
#: Nobody has led for so long that workers must help themselves.
LEADERLESS: ColumnElement[bool] = ~(
    select(Leader)
    .where(Leader.role == "beat", Leader.until > func.clock_timestamp() - timedelta(seconds=NO_LEADER_FOR_S))
    .exists()
)


class Tick:
    """What beat does every second: sweep, rescue, watchdog, housekeeping that is due."""

    def __init__(self, actor: str, dispatcher: dispatch.Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._rescue = rescue.Rescue(actor)

    def do(self) -> None:
        """Tick once; a database that is away is left to the next tick."""
        try:
            with db.single_statements() as session:
                runs = slots.open_runs(session)
                due = slots.queues_with_due_tasks(session, _queues(configuration.current()))
            self._rescue.tick(runs)
            rescue.watch(runs)
            for device in {run.device for run in runs if _unclaimed(run)}:
                self._dispatcher.look_again(device)
            if due:
                self._dispatcher.wake({device for device, _ in due})
            housekeeping.send_due(self._dispatcher)
        except db.OUTAGES as outage:
            self._rescue.away()
            _log.warning("database away, no tick", error=db.first_line(outage))


class LeaderScheduler(Scheduler):  # type: ignore[misc]
    """Celery's scheduler with one entry, ticking only while it leads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._holder = f"beat.{os.getpid()}@{platform.node()}"
        self._tick: Tick | None = None
        self._leads = False
        #: When the lease was asked for last, by the clock of this process.
        self._renewed_s = float("-inf")

    def setup_schedule(self) -> None:
        """Keep the one entry; what is due, and when, stands in the database."""
        self.install_default_entries({})
        self.update_from_dict({TICK: {"task": f"housekeeping.{TICK}", "schedule": TICK_EVERY_S}})

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Look whether it is time, and return when to look again; Celery looks several times for each tick."""
        return min(float(super().tick(*args, **kwargs)), TICK_EVERY_S)

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Tick in this process, for it must not wait for the broker, and only if the lease of leadership is ours."""
        del producer
        if entry.name != TICK or not self._lead():
            return
        if self._tick is None:
            self._tick = Tick(self._holder, dispatch.start(self.app))
        self._tick.do()

    def close(self) -> None:
        """Let another beat lead at once."""
        if self._leads:
            try:
                with db.transaction() as session:
                    session.execute(_RESIGN, {"holder": self._holder})
            except db.OUTAGES as outage:
                _log.warning("database away, leadership ends by its lease", error=db.first_line(outage))
        dispatch.stop()

    def _lead(self) -> bool:
        now_s = time.monotonic()
        if self._leads and now_s - self._renewed_s < RENEWED_EVERY_S:
            return True
        try:
            with db.single_statements() as session:
                leads = lead(session, self._holder)
        except db.OUTAGES as outage:
            _log.warning("database away, nobody leads", error=db.first_line(outage))
            self._leads = False
            return False
        if leads != self._leads:
            _log.info("leads" if leads else "does not lead", beat=self._holder)
        self._leads, self._renewed_s = leads, now_s
        return leads


def lead(session: Session, holder: str) -> bool:
    """Take or renew the lease of leadership; False while another one has it."""
    return session.scalars(_LEAD, {"holder": holder, "lease": LEADERSHIP_S}).one_or_none() is not None


def _queues(cluster: Cluster) -> list[tuple[str, str]]:
    return [(device.name, queue) for device in cluster.ours.values() for queue in device.queues]


def _unclaimed(run: slots.OpenRun) -> bool:
    return run.claimed_ago_s is None and run.sent_ago_s > UNCLAIMED_FOR.total_seconds()
