"""Every transition of every task, in the order in which they were committed.

A row is about one task, or about the part of a bulk call that one transaction did: then it holds all
task ids that took the same arrow. A million rescheduled tasks are a few hundred rows, and every task
still finds its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Identity, Index, Insert, Text, func, insert, or_, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, Session, mapped_column
from sqlalchemy.types import UserDefinedType

from archive.db import Base
from tasks import slots
from tasks.record import Instant
from tasks.state import Event


class Xid8(UserDefinedType[str]):
    """A transaction id of PostgreSQL that never wraps around; read as text."""

    cache_ok = True

    def get_col_spec(self, **_kw: Any) -> str:
        """Return the name of the type in SQL."""
        return "xid8"


class History(Base):
    """One transition of one task, or of many tasks in one transaction of a bulk call."""

    __tablename__ = "history"

    seq: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    xid: Mapped[str] = mapped_column(
        Xid8, server_default=text("pg_current_xact_id()"), comment="followers read only what is below xmin"
    )
    at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())
    event: Mapped[str] = mapped_column(Text)
    first_id: Mapped[int] = mapped_column(BigInteger, comment="lowest task id; no foreign key")
    last_id: Mapped[int] = mapped_column(BigInteger, comment="highest task id")
    task_ids: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger), comment="NULL: first_id alone")
    from_status: Mapped[str | None] = mapped_column(Text)
    to_status: Mapped[str | None] = mapped_column(Text, comment="NULL: deleted")
    from_device: Mapped[str | None] = mapped_column(Text)
    to_device: Mapped[str | None] = mapped_column(Text)
    run_id: Mapped[int | None] = mapped_column(BigInteger)
    actor: Mapped[str] = mapped_column(Text, comment="user@host, worker node, or beat")
    reason: Mapped[str | None] = mapped_column(Text)
    operation_id: Mapped[str | None] = mapped_column(Text, comment="of a bulk call")

    __table_args__ = (
        Index("ix_history_task", "first_id", postgresql_where=text("task_ids IS NULL")),
        Index(
            "ix_history_span",
            text("int8range(first_id, last_id, '[]')"),
            postgresql_using="gist",
            postgresql_where=text("task_ids IS NOT NULL"),
        ),
        Index("ix_history_feed", "xid", "seq"),
        Index("ix_history_operation", "operation_id", "last_id", postgresql_where=text("operation_id IS NOT NULL")),
        Index("ix_history_at", "at"),
    )


@dataclass(frozen=True, slots=True)
class Arrow:
    """What a history row says of the tasks that it is about."""

    event: Event
    from_status: str | None
    to_status: str | None
    from_device: str | None
    to_device: str | None
    actor: str
    run_id: int | None = None
    reason: str | None = None
    operation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """One transition of one task, as read."""

    seq: int
    task_id: int
    at: datetime
    event: str
    from_status: str | None
    to_status: str | None
    from_device: str | None
    to_device: str | None
    run_id: int | None
    actor: str
    reason: str | None
    operation_id: str | None


def record(arrow: Arrow, task_ids: Sequence[int]) -> Insert:
    """Return the statement that records the arrow for these tasks (at least one)."""
    return insert(History).values(
        event=arrow.event.value,
        first_id=min(task_ids),
        last_id=max(task_ids),
        task_ids=slots.array_of(task_ids) if len(task_ids) > 1 else None,
        from_status=arrow.from_status,
        to_status=arrow.to_status,
        from_device=arrow.from_device,
        to_device=arrow.to_device,
        run_id=arrow.run_id,
        actor=arrow.actor,
        reason=arrow.reason,
        operation_id=arrow.operation_id,
    )


def of_task(session: Session, task_id: int) -> list[Transition]:
    """Return all transitions of a task, oldest first; also those of a task that was deleted."""
    alone = History.task_ids.is_(None) & (History.first_id == task_id)
    in_bulk = text("task_ids IS NOT NULL AND int8range(first_id, last_id, '[]') @> cast(:id AS int8)").bindparams(
        id=task_id
    )
    rows = session.scalars(select(History).where(or_(alone, in_bulk)).order_by(History.seq))
    return [_transition(row, task_id) for row in rows if row.task_ids is None or task_id in row.task_ids]


@dataclass(frozen=True, slots=True)
class Part:
    """What a bulk call did to tasks of one status, now on one device."""

    from_status: str
    #: Where they are; of deleted ones, where they were.
    device: str
    number: int
    last_id: int
    #: When the call changed the first of them.
    began: datetime


def of_operation(session: Session, operation_id: str) -> list[Part]:
    """Return what a bulk call has done; it may not have ended."""
    device = func.coalesce(History.to_device, History.from_device)
    number = func.sum(func.coalesce(func.cardinality(History.task_ids), 1))
    rows = session.execute(
        select(History.from_status, device, number, func.max(History.last_id), func.min(History.at))
        .where(History.operation_id == operation_id)
        .group_by(History.from_status, device)
    )
    return [Part(status or "", of_device, int(some), last, at) for status, of_device, some, last, at in rows]


def last_of_operation(session: Session, operation_id: str) -> int:
    """Return the highest id of a task that a bulk call has changed; 0: none yet."""
    return session.scalar(select(func.max(History.last_id)).where(History.operation_id == operation_id)) or 0


def expand(row: History) -> Iterator[Transition]:
    """Yield one transition for each task of a row."""
    for task_id in row.task_ids or [row.first_id]:
        yield _transition(row, task_id)


def _transition(row: History, task_id: int) -> Transition:
    return Transition(
        seq=row.seq, task_id=task_id, at=row.at, event=row.event, from_status=row.from_status,
        to_status=row.to_status, from_device=row.from_device, to_device=row.to_device, run_id=row.run_id,
        actor=row.actor, reason=row.reason, operation_id=row.operation_id,
    )  # fmt: skip
