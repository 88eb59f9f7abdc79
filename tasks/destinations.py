"""Destinations as the whole cluster sees them: what runs and waits, caps, holds, and whether they answer."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import QueryableAttribute, Session

from archive import db
from tasks import breaker, slots
from tasks.breaker import Breaker
from tasks.control import Destination
from tasks.errors import NotFoundError
from tasks.record import Task
from tasks.run import Run
from tasks.state import WAITING

_log = structlog.get_logger()

#: Characters of a failure's text that are kept.
_LONGEST_TEXT = 500

_IS_WAITING = Task.status.in_([status.value for status in sorted(WAITING)])


@dataclass(frozen=True, slots=True)
class Hold:
    """What somebody wants of a destination: nothing new goes there."""

    who: str
    why: str | None = None
    #: None: until somebody releases it.
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A destination: what goes and waits, and its row where it has one."""

    name: str
    running: int
    waiting: int
    #: None: nothing was ever said of it.
    row: Destination | None

    @property
    def breaker(self) -> Breaker:
        """What is remembered of its failures."""
        return Breaker() if self.row is None else _breaker_of(self.row)


# --- what runs tell


def failed(name: str, run_id: int, text: str) -> None:
    """Count a run that could not reach the destination, or found no room there.

    Args:
        name: of the destination.
        run_id: the run.
        text: what an operator shall read.
    """
    after = db.insist(lambda session: _count_failure(session, name, run_id, text))
    if after is not None and after.open_until is not None:
        _log.warning("destination fails", destination=name, failures=after.failures, open_until=after.open_until)


def answered(name: str) -> None:
    """Note that a run was answered to its end: its failures in a row are over."""
    db.insist(lambda session: _count_success(session, name))


def _count_failure(session: Session, name: str, run_id: int, text: str) -> Breaker | None:
    row = _locked(session, name)
    now = slots.database_time(session)
    began = session.scalar(select(Run.claimed_at).where(Run.id == run_id)) or now
    before = _breaker_of(row)
    after = breaker.after_failure(before, began, now)
    if after == before:
        return None
    _remember(row, after)
    row.last_failure, row.failed_at = text[:_LONGEST_TEXT], now
    return after


def _count_success(session: Session, name: str) -> None:
    # Nearly always there is nothing to be forgiven; then nothing is locked.
    remembered = or_(Destination.failures > 0, Destination.open_until.is_not(None), Destination.gentle_cap.is_not(None))
    row = session.scalars(select(Destination).where(Destination.name == name, remembered).with_for_update()).first()
    if row is not None:
        _remember(row, breaker.after_success(_breaker_of(row), row.cap))


# --- what operators want


def hold(session: Session, name: str, wish: Hold) -> None:
    """Let nothing new go to a destination; a second wish replaces the first. Runs that go on are left alone."""
    row = _locked(session, name)
    row.held_by, row.held_why, row.held_until = wish.who, wish.why, wish.until
    row.held_since = slots.database_time(session)


def release(session: Session, name: str) -> bool:
    """End a hold, and try a failing destination at once, beginning with one run; return whether there was either."""
    row = _locked(session, name)
    before = _breaker_of(row)
    was_held = row.held_by is not None
    row.held_by = row.held_why = row.held_until = row.held_since = None
    _remember(row, Breaker(gentle_cap=before.gentle_cap))
    _wake(session, name)
    return was_held or before.failures > 0


def cap(session: Session, name: str, runs: int | None) -> None:
    """Let at most so many runs of the whole cluster go to a destination at once; None: any number."""
    _locked(session, name).cap = runs
    _wake(session, name)


def check_known(session: Session, name: str, configured: Collection[str]) -> None:
    """See that a destination is configured, limited, or wanted by a task.

    Raises:
        NotFoundError: it is not; the text names those that are.
    """
    if name in configured or session.get(Destination, name) is not None:
        return
    known = [one.name for one in listed(session, configured)]
    if name not in known:
        raise NotFoundError(f"No such destination: {name}, expected one of {', '.join(known) or 'none'}")


# --- what there is


def listed(session: Session, configured: Collection[str]) -> list[Seen]:
    """Return all destinations by name: configured, limited, waited for, or running."""
    rows = {row.name: row for row in session.scalars(select(Destination))}
    running = _counts(session, Run.destination, Run.ended_at.is_(None))
    waiting = _counts(session, Task.destination, _IS_WAITING)
    return [
        Seen(name, running.get(name, 0), waiting.get(name, 0), rows.get(name))
        for name in sorted({*configured, *rows, *running, *waiting})
    ]


def _counts(session: Session, column: QueryableAttribute[str | None], holds: Any) -> dict[str, int]:
    query = select(column, func.count()).where(holds, column.is_not(None)).group_by(column)
    return {str(name): number for name, number in session.execute(query).all()}


def _locked(session: Session, name: str) -> Destination:
    session.execute(insert(Destination).values(name=name).on_conflict_do_nothing())
    return session.scalars(select(Destination).where(Destination.name == name).with_for_update()).one()


def _breaker_of(row: Destination) -> Breaker:
    return Breaker(row.failures, row.open_until, row.gentle_cap)


def _remember(row: Destination, after: Breaker) -> None:
    row.failures, row.open_until, row.gentle_cap = after.failures, after.open_until, after.gentle_cap
    if not after.failures:
        row.last_failure = row.failed_at = None


def _wake(session: Session, name: str) -> None:
    devices = session.scalars(select(Task.device).where(Task.destination == name, _IS_WAITING).distinct()).all()
    slots.wake(session, devices)
