"""Run rows: reserve a slot with its message, renew leases, ask to stop, end. Writes no status of a task.

Whoever locks both a task row and run rows locks the task row first. The heartbeat locks run rows only,
and skips those that somebody else holds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import BigInteger, ColumnElement, CursorResult, Text, any_, func, literal, select, text, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from tasks.run import Ending, Run, Stop

#: How long a sent message may stay unclaimed before it is looked after.
RESERVATION_LEASE = timedelta(seconds=10)

#: The time of the database, now and not at the start of the transaction.
NOW = func.clock_timestamp()


@dataclass(frozen=True, slots=True)
class Reservation:
    """A slot that is taken for a task, and what its message must carry."""

    run_id: int
    task_id: int
    token: str
    kind: str
    device: str
    queue: str
    study_uid: str | None


@dataclass(frozen=True, slots=True)
class Lease:
    """What the database knows of a run when its lease is looked at."""

    run_id: int
    #: Seconds until the lease ends, by the clock of the database; negative when it is over.
    remaining_s: float
    stop_reason: str | None
    #: Seconds since the run was asked to stop.
    stop_asked_for_s: float | None
    #: Seconds since it ended.
    ended_for_s: float | None

    @property
    def has_ended(self) -> bool:
        """Tell whether the run row has ended, whatever its process does."""
        return self.ended_for_s is not None


def ids(values: Collection[int]) -> Any:
    """Make one array parameter of the ids, however many, to be compared with a column."""
    return any_(array_of(values))


def array_of(values: Collection[int]) -> ColumnElement[Any]:
    """Make one array parameter of the ids; as text, which the driver passes on much faster than a list."""
    return sql_cast(literal(f"{{{','.join(map(str, values))}}}", Text), ARRAY(BigInteger))


def wake(session: Session, devices: Collection[str]) -> None:
    """Note that these devices may have something to send; acted upon after the commit."""
    session.info.setdefault("wake", set()).update(devices)


# Ten probes of ix_task_due, one a priority; now() is stable, so that the index bounds the time as well: a queue
# full of tasks for tonight costs nothing.
_RESERVE = text(
    """
    WITH free AS (
        SELECT s AS slot, row_number() OVER (ORDER BY s) AS n FROM generate_series(1, :slots) AS s
        WHERE NOT EXISTS (
            SELECT 1 FROM run WHERE ended_at IS NULL AND device = :device AND queue = :queue AND slot = s)
    ), due AS (
        SELECT t.* FROM generate_series(9, 0, -1) AS p CROSS JOIN LATERAL (
            SELECT id, kind, status, destination, study_uid, priority, scheduled_time FROM task
            WHERE device = :device AND queue = :queue AND priority = p
              AND status IN ('SCHEDULED', 'SCHEDULED FOR RETRY') AND scheduled_time <= now()
              AND NOT EXISTS (SELECT 1 FROM run WHERE run.task_id = task.id AND run.ended_at IS NULL)
              AND (destination IS NULL OR NOT destination = ANY(:blocked))
            ORDER BY scheduled_time, id LIMIT (SELECT count(*) FROM free)
            FOR UPDATE SKIP LOCKED
        ) AS t
    ), chosen AS (
        SELECT *, row_number() OVER (ORDER BY priority DESC, scheduled_time, id) AS n,
               row_number() OVER (PARTITION BY destination ORDER BY priority DESC, scheduled_time, id) AS nth
        FROM due
    ), allowed AS (
        SELECT chosen.*, row_number() OVER (ORDER BY chosen.n) AS place FROM chosen
        LEFT JOIN unnest(CAST(:capped AS text[]), CAST(:room AS int[])) AS cap (name, room)
               ON cap.name = chosen.destination
        WHERE cap.room IS NULL OR chosen.nth <= cap.room
    )
    INSERT INTO run (task_id, kind, device, queue, slot, destination, study_uid, token, came_from,
                     reserved_at, sent_at, lease_until)
    SELECT id, kind, :device, :queue, slot, destination, study_uid, gen_random_uuid(), status,
           clock_timestamp(), clock_timestamp(), clock_timestamp() + :lease
    FROM allowed JOIN free ON free.n = allowed.place
    ON CONFLICT DO NOTHING
    RETURNING id, task_id, token::text, kind, device, queue, study_uid
    """
)

_LOCK_DESTINATIONS = text(
    """
    SELECT 1 FROM destination
    WHERE cap IS NOT NULL OR held_by IS NOT NULL OR open_until IS NOT NULL OR gentle_cap IS NOT NULL
    ORDER BY name FOR UPDATE
    """
)

# A statement of its own: it sees the runs that were committed while the lock was waited for.
_DESTINATIONS = text(
    """
    SELECT name, least(cap, gentle_cap) AS cap,
           (held_by IS NOT NULL AND (held_until IS NULL OR held_until > clock_timestamp()))
           OR coalesce(open_until > clock_timestamp(), false) AS blocked,
           CASE WHEN cap IS NULL AND gentle_cap IS NULL THEN 0 ELSE (
               SELECT count(*) FROM run WHERE ended_at IS NULL AND run.destination = destination.name) END AS running
    FROM destination WHERE cap IS NOT NULL OR held_by IS NOT NULL OR open_until IS NOT NULL OR gentle_cap IS NOT NULL
    """
)


def reserve(session: Session, device: str, queue: str, slots: int) -> list[Reservation]:
    """Take free slots of the queue for its next due tasks, best first; one caller at a time per queue.

    The reservation need not survive a crash of the database (the sweep makes it again), so its commit
    does not wait for the disk; a claim's does, and with it everything before.
    """
    session.execute(
        text("SELECT set_config('synchronous_commit', 'off', true), pg_advisory_xact_lock(hashtextextended(:key, 0))"),
        {"key": f"slots of {device}/{queue}"},
    )
    limited = session.execute(_LOCK_DESTINATIONS).all()
    limits = session.execute(_DESTINATIONS).all() if limited else []
    # A full one is passed over like a held one: its tasks must not hide those for others behind them.
    blocked = [row.name for row in limits if row.blocked or (row.cap is not None and row.running >= row.cap)]
    capped = [row for row in limits if row.cap is not None and row.name not in blocked]
    rows = session.execute(
        _RESERVE,
        {
            "device": device,
            "queue": queue,
            "slots": slots,
            "blocked": blocked,
            "capped": [row.name for row in capped],
            "room": [row.cap - row.running for row in capped],
            "lease": RESERVATION_LEASE,
        },
    ).all()
    return [Reservation(r.id, r.task_id, r.token, r.kind, r.device, r.queue, r.study_uid) for r in rows]


def renew_reservations(
    session: Session, device: str, kinds: Collection[str], *, older_than: timedelta | None = None
) -> list[Reservation]:
    """Give unclaimed reservations of a device a new token, so that their message can be sent again.

    Args:
        session: the transaction.
        device: whose reservations.
        kinds: of which kinds of task.
        older_than: only those sent longer ago than this; None: all of them (a worker has just started).
    """
    due = [Run.ended_at.is_(None), Run.claimed_at.is_(None), Run.device == device, Run.kind.in_(kinds)]
    if older_than is not None:
        due.append(Run.sent_at < NOW - older_than)
    taken = select(Run.id).where(*due).order_by(Run.id).with_for_update(skip_locked=True)
    rows = session.execute(
        update(Run)
        .where(Run.id.in_(taken))
        .values(token=func.gen_random_uuid(), sent_at=NOW, lease_until=NOW + RESERVATION_LEASE)
        .returning(Run.id, Run.task_id, Run.token, Run.kind, Run.device, Run.queue, Run.study_uid)
    ).all()
    return [Reservation(*row) for row in rows]


def release(session: Session, run_ids: Collection[int], ending: Ending) -> int:
    """End reservations that no worker has claimed; those claimed meanwhile stay."""
    unclaimed = (
        select(Run.id)
        .where(Run.id == ids(run_ids), Run.ended_at.is_(None), Run.claimed_at.is_(None))
        .order_by(Run.id)
        .with_for_update()
    )
    done = session.execute(update(Run).where(Run.id.in_(unclaimed)).values(ended_at=NOW, ending=ending.value))
    return cast("CursorResult[Any]", done).rowcount


def ask_to_stop(session: Session, task_ids: Collection[int], reason: Stop, say: str | None = None) -> None:
    """Ask the open runs of these tasks to stop; a run that nobody has claimed yet ends at once."""
    task_ids = _with_open_run(session, task_ids)
    if not task_ids:
        return
    theirs = select(Run.id).where(Run.task_id == ids(task_ids), Run.ended_at.is_(None))
    # In the order in which `release` locks them too, so that neither waits for the other for ever.
    session.execute(theirs.order_by(Run.id).with_for_update())
    withdrawn = session.scalars(
        update(Run)
        .where(Run.task_id == ids(task_ids), Run.ended_at.is_(None), Run.claimed_at.is_(None))
        .values(ended_at=NOW, ending=Ending.WITHDRAWN.value, stop_reason=reason.value)
        .returning(Run.device)
    ).all()
    wake(session, set(withdrawn))
    session.execute(
        update(Run)
        .where(Run.task_id == ids(task_ids), Run.ended_at.is_(None), Run.claimed_at.is_not(None))
        .values(stop_asked_at=func.coalesce(Run.stop_asked_at, NOW), stop_reason=reason.value, stop_text=say)
    )


def _with_open_run(session: Session, task_ids: Collection[int]) -> set[int]:
    # Open runs are as few as slots: of the tasks of a bulk call hardly one has any.
    if not task_ids:
        return set()
    between = select(Run.task_id).where(Run.ended_at.is_(None), Run.task_id.between(min(task_ids), max(task_ids)))
    return set(session.scalars(between)).intersection(task_ids)


def ask_runs_to_stop(session: Session, run_ids: Collection[int], reason: Stop, say: str | None = None) -> None:
    """Ask these claimed runs to stop, unless somebody has asked before; those that are locked are left for later."""
    free = (
        select(Run.id)
        .where(Run.id == ids(run_ids), Run.ended_at.is_(None), Run.stop_asked_at.is_(None))
        .order_by(Run.id)
        .with_for_update(skip_locked=True)
    )
    session.execute(
        update(Run).where(Run.id.in_(free)).values(stop_asked_at=NOW, stop_reason=reason.value, stop_text=say)
    )


def end(session: Session, run_id: int, ending: Ending) -> bool:
    """End an open run; False if it has ended before (the caller is late)."""
    done = session.execute(
        update(Run).where(Run.id == run_id, Run.ended_at.is_(None)).values(ended_at=NOW, ending=ending.value)
    )
    return cast("CursorResult[Any]", done).rowcount == 1


def renew_leases(session: Session, run_ids: Collection[int], lease: timedelta) -> None:
    """Renew the leases of runs that their worker really has, unless they have ended."""
    held = (
        select(Run.id)
        .where(Run.id == ids(run_ids), Run.ended_at.is_(None), Run.claimed_at.is_not(None))
        .order_by(Run.id)
        .with_for_update(skip_locked=True)
    )
    session.execute(update(Run).where(Run.id.in_(held)).values(lease_until=NOW + lease))


def leases(session: Session, run_ids: Collection[int]) -> list[Lease]:
    """Return what the database knows of these runs."""
    rows = session.execute(
        select(
            Run.id,
            func.extract("epoch", Run.lease_until - NOW),
            Run.stop_reason,
            func.extract("epoch", NOW - Run.stop_asked_at),
            func.extract("epoch", NOW - Run.ended_at),
        ).where(Run.id == ids(run_ids))
    ).all()
    return [
        Lease(run_id, float(left), reason, _float(asked), _float(ended)) for run_id, left, reason, asked, ended in rows
    ]


#: Selects the claimed runs of the worker `id` that are not among those that it names: they are lost.
UNNAMED = """
    SELECT run.id FROM run WHERE run.node_id = :id AND run.ended_at IS NULL
    AND NOT run.id = ANY(CAST(:named AS bigint[])) AND run.claimed_at < clock_timestamp() - :grace"""


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that has not ended, as sweep, rescue and watchdog look at it. Times in seconds before now."""

    run_id: int
    task_id: int
    device: str
    queue: str
    sent_ago_s: float
    #: None: no worker has claimed it.
    claimed_ago_s: float | None
    progress_ago_s: float | None
    #: Negative: the lease is over.
    lease_left_s: float
    stop_asked: bool


def _ago(column: Any) -> Any:
    return func.extract("epoch", NOW - column)


# Made once: beat asks every second.
_OPEN = select(
    Run.id, Run.task_id, Run.device, Run.queue, _ago(Run.sent_at), _ago(Run.claimed_at), _ago(Run.progress_at),
    func.extract("epoch", Run.lease_until - NOW), Run.stop_asked_at.is_not(None),
).where(Run.ended_at.is_(None))  # fmt: skip


def open_runs(session: Session) -> list[OpenRun]:
    """Return all runs that have not ended: as many as there are slots in use."""
    rows: Sequence[Sequence[Any]] = session.execute(_OPEN).all()
    return [
        OpenRun(run_id, task_id, device, queue, float(sent or 0), _float(claimed), _float(progress), float(left), asked)
        for run_id, task_id, device, queue, sent, claimed, progress, left, asked in rows
    ]


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def reservation(session: Session, run_id: int, token: str) -> tuple[Run, datetime] | None:
    """Return the run that a message is about, and the time, if it is not stale and no worker has claimed it."""
    unclaimed = (Run.id == run_id, Run.token == token, Run.ended_at.is_(None), Run.claimed_at.is_(None))
    row = session.execute(select(Run, NOW).where(*unclaimed)).one_or_none()
    return None if row is None else (row[0], row[1])


def stop_reason(session: Session, run_id: int) -> tuple[int, str | None] | None:
    """Return (task id, why it was asked to stop) of a claimed run, or None if it has ended.

    A process that died before the claim changes nothing: the message is sent again after a while, so
    that what kills a process at once does not do so in a tight loop.
    """
    claimed = (Run.id == run_id, Run.ended_at.is_(None), Run.claimed_at.is_not(None))
    row = session.execute(select(Run.task_id, Run.stop_reason).where(*claimed)).one_or_none()
    return None if row is None else (row.task_id, row.stop_reason)


def database_time(session: Session) -> datetime:
    """Return the time of the database."""
    now: datetime = session.scalars(select(NOW)).one()
    return now
