"""Waiting tasks of a device that is dead go to its failover devices, if that is configured; nothing comes back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Integer, Text, func, select, text
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from archive import configuration, db
from archive.db import Base
from config.device import Device
from tasks import operations, pausing, slots
from tasks import query as queries
from tasks.bulk import BulkResult
from tasks.control import DEAD_AFTER, WorkerNode
from tasks.errors import ConflictError
from tasks.jobs import Job, alone
from tasks.moving import Change
from tasks.query import TaskQuery
from tasks.record import Instant
from tasks.state import WAITING
from tasks.store import By

_log = structlog.get_logger()

#: What could not be moved is tried again after this, or when other tasks wait.
TRY_AGAIN_AFTER = timedelta(minutes=1)

_LIVES = WorkerNode.stopped_at.is_(None) & (WorkerNode.seen_at > slots.NOW - DEAD_AFTER)

#: Reasons that are kept for operators.
_KEPT_REASONS = 100


class Failover(Base):
    """What became of the waiting tasks of a device that was dead, the last time that it was."""

    __tablename__ = "failover"

    device: Mapped[str] = mapped_column(Text, primary_key=True)
    since: Mapped[datetime] = mapped_column(
        Instant, comment="last heartbeat of its workers when the first task was moved"
    )
    moved: Mapped[int] = mapped_column(Integer, server_default=text("0"), comment="tasks, over all times")
    stays: Mapped[int] = mapped_column(Integer, server_default=text("0"), comment="tasks, the last time")
    reasons: Mapped[list[Any]] = mapped_column(
        JSONB, server_default=text("'[]'"), comment="why they stay: [reason, number of tasks], the last time"
    )
    looked_at: Mapped[datetime] = mapped_column(Instant)
    back_at: Mapped[datetime | None] = mapped_column(Instant, comment="a worker is back; NULL: not yet")


def wards_of(name: str) -> list[Device]:
    """Return the devices whose waiting tasks this one gets when they are away."""
    ours = configuration.current().ours.values()
    return [
        device
        for device in ours
        if name in device.failover_devices and device.name != name and device.failover_after is not None
    ]


def take_over(device: Device) -> str:
    """Move the waiting tasks of those devices that are dead and that this one stands in for.

    All their failover devices that live share them, whichever of these does it.
    """
    said = [text for ward in wards_of(device.name) if (text := _care_for(ward)) is not None]
    return "; ".join(said) or "nobody is away"


def of_devices(session: Session) -> dict[str, Failover]:
    """Return what became of the tasks of dead devices, by device."""
    return {row.device: row for row in session.scalars(select(Failover))}


def _care_for(ward: Device) -> str | None:
    with db.transaction() as session:
        since = _dead_since(session, ward)
        if since is None:
            _note_back(session, ward.name)
            return None
        able, wanted = _able(session, ward), _waiting(session, ward)
        due = wanted is not None and _is_due(session, ward.name, wanted)
    if wanted is None:
        return f"{ward.name} is away since {since:%Y-%m-%d %H:%M:%S %Z}, and paused: its tasks stay"
    if not able:
        return f"{ward.name} is away since {since:%Y-%m-%d %H:%M:%S %Z}, and no failover device lives"
    return _move(ward, wanted, able, since) if due else None


def _move(ward: Device, wanted: TaskQuery, able: Sequence[str], since: datetime) -> str | None:
    by = By(f"failover of {ward.name}", f"no live worker of {ward.name} since {since:%Y-%m-%d %H:%M:%S %Z}")
    change = Change(devices=tuple(able), keep_scheduled_time=True)
    try:
        with alone(Job(ward.name, "", "fail_over"), "its tasks are being moved"):
            result = operations.reschedule(wanted, change, by)
    except ConflictError:
        return None  # another failover device does it just now
    with db.transaction() as session:
        _note(session, ward.name, since, result)
    said = f"{result.count} tasks of {ward.name} moved to {', '.join(able)}, {result.failed} stay"
    _log.warning("failover", device=ward.name, since=since, moved=result.count, stay=result.failed, to=list(able))
    return said


def _dead_since(session: Session, ward: Device) -> datetime | None:
    """Return when a worker of the device was seen last; None: one lives, or may come back soon, or never lived."""
    allowed = max(ward.failover_after or DEAD_AFTER, DEAD_AFTER)
    seen = func.max(func.coalesce(WorkerNode.stopped_at, WorkerNode.seen_at))
    row = session.execute(
        select(seen, func.coalesce(func.bool_or(_LIVES), False), seen < slots.NOW - allowed).where(
            WorkerNode.channel == ward.name
        )
    ).one()
    last: datetime | None = row[0]
    return last if last is not None and not row[1] and row[2] else None


def _able(session: Session, ward: Device) -> list[str]:
    """Return those failover devices that are installed, have a live worker, and are not paused as a whole."""
    ours = configuration.current().ours
    living = set(session.scalars(select(WorkerNode.device).where(_LIVES, WorkerNode.channel == WorkerNode.device)))
    paused = {pause.device for pause in pausing.pauses(session) if not pause.queue}
    wanted = [name for name in dict.fromkeys(ward.failover_devices) if name in ours and ours[name].installed]
    return [name for name in wanted if name in living - paused and name != ward.name]


def _waiting(session: Session, ward: Device) -> TaskQuery | None:
    """Return what waits and may be moved; None: the device is paused: whoever did that wants its tasks to stay."""
    paused = {pause.queue for pause in pausing.pauses(session) if pause.device == ward.name}
    queues = tuple(sorted(set(ward.queues) - paused))
    if "" in paused or not queues:
        return None
    return TaskQuery(devices=(ward.name,), statuses=tuple(sorted(WAITING)), queues=queues)


def _is_due(session: Session, name: str, wanted: TaskQuery) -> bool:
    """Tell whether there is something to be moved that was not refused just now."""
    waiting = queries.count(session, wanted)
    row = session.get(Failover, name)
    if row is None or not waiting or row.back_at is not None:
        return waiting > 0
    now = slots.database_time(session)
    return waiting != row.stays or now - row.looked_at >= TRY_AGAIN_AFTER


def _note(session: Session, name: str, since: datetime, result: BulkResult) -> None:
    row = session.get(Failover, name, with_for_update=True)
    before = row.moved if row is not None and row.back_at is None else 0
    values = {
        "since": since,
        "moved": before + result.count,
        "stays": result.failed,
        "reasons": [list(one) for one in result.refusals.most_common(_KEPT_REASONS)],
        "looked_at": slots.NOW,
        "back_at": None,
    }
    made = insert(Failover).values(device=name, **values)
    session.execute(made.on_conflict_do_update(index_elements=["device"], set_=values))


def _note_back(session: Session, name: str) -> None:
    """Note that the device lives again; its tasks stay where they are."""
    row = session.get(Failover, name)
    living = select(func.count()).where(WorkerNode.channel == name, _LIVES)
    if row is not None and row.back_at is None and session.scalar(living):
        row.back_at = slots.database_time(session)
