"""Bulk calls that run as operations: kept in a row with their progress, so that any process can go on with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import BigInteger, Index, Text, Uuid, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column

from archive import db
from archive.db import Base
from tasks import query as queries
from tasks.bulk import BulkResult, Watch
from tasks.errors import ConflictError, NotFoundError, TaskError
from tasks.record import Instant
from tasks.slots import NOW
from tasks.wish import Wish

#: How long an operation stays with its process without a word of it; each chunk is one.
_LEASE = timedelta(seconds=30)


class Operation(Base):
    """One bulk call that was asked to run by itself, and how far it has come."""

    __tablename__ = "operation"

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True, comment="operation_id of its history rows")
    action: Mapped[str] = mapped_column(Text, comment="CancelTasks, RescheduleTasks or DeleteTasks")
    request: Mapped[str] = mapped_column(Text, comment="method, path and query as they were sent")
    wish: Mapped[str] = mapped_column(Text, comment="JSON of tasks.wish.Wish: what is carried out")
    user: Mapped[str] = mapped_column(Text, comment="who asked")
    host: Mapped[str] = mapped_column(Text, comment="from where")
    requested_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())
    started_at: Mapped[datetime | None] = mapped_column(Instant)
    updated_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now(), comment="end of the last chunk")
    ended_at: Mapped[datetime | None] = mapped_column(Instant)
    holder: Mapped[str | None] = mapped_column(Uuid(as_uuid=False), comment="who works on it; NULL: nobody")
    lease_until: Mapped[datetime] = mapped_column(Instant, comment="then another process may go on with it")
    total: Mapped[int | None] = mapped_column(BigInteger, comment="tasks that matched when it began")
    count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), comment="tasks changed")
    failed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), comment="tasks refused")
    refusals: Mapped[dict[str, int]] = mapped_column(JSONB, server_default=text("'{}'"), comment="reason to number")
    by_device: Mapped[dict[str, int]] = mapped_column(JSONB, server_default=text("'{}'"), comment="device to number")
    by_status: Mapped[dict[str, int]] = mapped_column(JSONB, server_default=text("'{}'"), comment="status to number")
    stop_asked_at: Mapped[datetime | None] = mapped_column(Instant)
    stop_asked_by: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text, comment="why it ended before its end")

    __table_args__ = (
        Index("ix_operation_open", "lease_until", postgresql_where=text("ended_at IS NULL")),
        Index("ix_operation_requested", "requested_at"),
    )

    @property
    def state(self) -> str:
        """Where it is: waiting, running, stopping, done, canceled or failed."""
        if self.ended_at is None:
            if self.stop_asked_at is not None:
                return "stopping"
            return "waiting" if self.started_at is None else "running"
        if self.error is not None:
            return "failed"
        return "done" if self.stop_asked_at is None else "canceled"

    def result(self) -> BulkResult:
        """Return what it has done so far, as a bulk call says it."""
        return BulkResult(
            self.count, self.failed, Counter(self.refusals), Counter(self.by_device), Counter(self.by_status), self.id
        )


class TakenOverError(TaskError):
    """Another process goes on with the operation; what this one was about to do is undone."""


def accept(wish: Wish, request: str, user: str, host: str) -> Operation:
    """Keep a bulk call, to be carried out soon."""
    with db.transaction() as session:
        made = Operation(
            id=str(uuid4()), action=wish.action.value, request=request, wish=wish.to_json(), user=user, host=host,
            lease_until=func.now(),
        )  # fmt: skip
        session.add(made)
        session.flush()
        session.refresh(made)
        return made


def get(operation_id: str) -> Operation:
    """Return an operation.

    Raises:
        NotFoundError: there is none with this id.
    """
    with db.transaction() as session:
        return _one(session, operation_id)


def newest(limit: int) -> Sequence[Operation]:
    """Return the operations that were asked for last."""
    with db.transaction() as session:
        return session.scalars(select(Operation).order_by(Operation.requested_at.desc()).limit(limit)).all()


def abandoned() -> list[str]:
    """Return the ids of operations that nobody works on, the oldest first."""
    with db.transaction() as session:
        query = select(Operation.id).where(Operation.ended_at.is_(None), Operation.lease_until < NOW)
        return list(session.scalars(query.order_by(Operation.requested_at)))


def ask_to_stop(operation_id: str, who: str) -> None:
    """Ask an operation to stop at the end of its chunk; what is changed by then stays changed.

    Raises:
        NotFoundError: there is none with this id.
        ConflictError: it has ended.
    """
    with db.transaction() as session:
        asked = update(Operation).where(Operation.id == operation_id, Operation.ended_at.is_(None))
        values = {
            "stop_asked_at": func.coalesce(Operation.stop_asked_at, NOW),
            "stop_asked_by": func.coalesce(Operation.stop_asked_by, who),
        }
        if session.execute(asked.values(values).returning(Operation.id)).one_or_none() is None:
            state = _one(session, operation_id).state
            raise ConflictError(f"Operation {operation_id} is {state} and cannot be canceled")


@dataclass(frozen=True, slots=True)
class Held:
    """An operation that this process works on."""

    operation: Operation
    token: str
    wish: Wish


def take(operation_id: str) -> Held | None:
    """Take an operation that nobody works on; None: somebody does, or it has ended."""
    token = str(uuid4())
    with db.transaction() as session:
        free = or_(Operation.holder.is_(None), Operation.lease_until < NOW)
        taken = session.scalars(
            update(Operation)
            .where(Operation.id == operation_id, Operation.ended_at.is_(None), free)
            .values(holder=token, lease_until=NOW + _LEASE, started_at=func.coalesce(Operation.started_at, NOW))
            .returning(Operation)
        ).one_or_none()
        if taken is None:
            return None
        held = Held(taken, token, Wish.of_json(taken.wish))
        if taken.total is None:
            taken.total = queries.count(session, held.wish.wanted)
        return held


class Following(Watch):
    """Writes the progress of a held operation with each chunk, and says when to stop."""

    def __init__(self, held: Held, leaving: Callable[[], bool]) -> None:
        """Follow.

        Args:
            held: the operation.
            leaving: this process ends, and another one shall go on.
        """
        self._held = held
        self._leaving = leaving
        self._is_asked_to_stop = held.operation.stop_asked_at is not None
        #: What was refused by who worked on it before; what was changed then, the history tells.
        self._refused_before = Counter(held.operation.refusals)
        #: It stopped because the process ends.
        self.left = False

    def wants_stop(self) -> bool:
        """Tell whether the operation shall end here, or be left to another process."""
        if self._is_asked_to_stop:
            return True
        self.left = self._leaving()
        return self.left

    def note(self, session: Session, result: BulkResult) -> None:
        """Write the progress.

        Raises:
            TakenOverError: another process has the operation.
        """
        refusals = result.refusals + self._refused_before
        values = {
            "count": result.count, "failed": refusals.total(), "refusals": dict(refusals),
            "by_device": dict(result.by_device), "by_status": dict(result.by_status),
        }  # fmt: skip
        written = session.execute(
            update(Operation)
            .where(Operation.id == self._held.operation.id, Operation.holder == self._held.token)
            .values(**values, updated_at=NOW, lease_until=NOW + _LEASE)
            .returning(Operation.stop_asked_at.is_not(None))
        ).one_or_none()
        if written is None:
            raise TakenOverError(f"Operation {self._held.operation.id} is in other hands")
        self._is_asked_to_stop = bool(written[0])


def end(held: Held, *, was_stopped: bool = False, error: str | None = None) -> None:
    """Note that an operation has ended; a wish to stop it that came too late is forgotten."""
    forgotten = {} if was_stopped else {"stop_asked_at": None, "stop_asked_by": None}
    _release(held, {"ended_at": NOW, "error": error, **forgotten})


def give_back(held: Held) -> None:
    """Let another process go on with an operation."""
    _release(held, {"lease_until": NOW})


def _release(held: Held, values: dict[str, Any]) -> None:
    with db.transaction() as session:
        session.execute(
            update(Operation)
            .where(Operation.id == held.operation.id, Operation.holder == held.token)
            .values(**values, holder=None, updated_at=NOW)
        )


def _one(session: Session, operation_id: str) -> Operation:
    found = session.get(Operation, operation_id)
    if found is None:
        raise NotFoundError(f"No such Operation : {operation_id}")
    return found
