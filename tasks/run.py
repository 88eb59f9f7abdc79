"""The row of a run (one attempt of one task), and of each object's outcome in it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, Identity, Index, SmallInteger, Text, Uuid, func, text
from sqlalchemy.orm import Mapped, mapped_column

from archive.db import Base
from tasks.record import Instant


class Stop(StrEnum):
    """Why a run was asked to stop."""

    CANCEL = "cancel"
    RESCHEDULE = "reschedule"
    DELETE = "delete"
    #: Ran too long, or was silent too long: counts as a failure.
    WATCHDOG = "watchdog"
    #: Its worker stops in order: the task goes back to where it came from.
    SHUTDOWN = "shutdown"


class Ending(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    WARNING = "warning"
    FAILED = "failed"
    RETRY = "retry"
    #: What the task was for is not wanted any more.
    DROPPED = "dropped"
    #: The lease was over, or the process died.
    LOST = "lost"
    GIVEN_BACK = "given back"
    #: Stopped as asked by cancel, reschedule or delete.
    STOPPED = "stopped"
    #: The reservation was taken back before any worker claimed it.
    WITHDRAWN = "withdrawn"
    #: The broker did not take the message.
    UNSENT = "unsent"


class Run(Base):
    """One attempt of one task: reserved with its message, claimed by a worker, ended by it or by rescue."""

    __tablename__ = "run"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    task_id: Mapped[int] = mapped_column(BigInteger, comment="no foreign key: a run outlives a deleted task")
    kind: Mapped[str] = mapped_column(Text)
    device: Mapped[str] = mapped_column(Text)
    queue: Mapped[str] = mapped_column(Text)
    slot: Mapped[int] = mapped_column(SmallInteger, comment="1 to dcmMaxTasksParallel of the queue")
    destination: Mapped[str | None] = mapped_column(Text, comment="what caps and breakers go by")
    study_uid: Mapped[str | None] = mapped_column(Text, comment="the study that it reads: pins it")
    token: Mapped[str] = mapped_column(Uuid(as_uuid=False), comment="the message must carry this one")
    came_from: Mapped[str] = mapped_column(Text, comment="status of the task when it was reserved")
    reserved_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())
    sent_at: Mapped[datetime | None] = mapped_column(Instant, comment="last time that a message was sent")
    claimed_at: Mapped[datetime | None] = mapped_column(Instant)
    node_id: Mapped[int | None] = mapped_column(BigInteger, comment="the worker that claimed it")
    lease_until: Mapped[datetime] = mapped_column(Instant, comment="over: the run is lost")
    progress_at: Mapped[datetime | None] = mapped_column(Instant, comment="last sign of progress")
    stop_asked_at: Mapped[datetime | None] = mapped_column(Instant)
    stop_reason: Mapped[str | None] = mapped_column(Text)
    stop_text: Mapped[str | None] = mapped_column(Text, comment="what the operator or the watchdog says")
    ended_at: Mapped[datetime | None] = mapped_column(Instant)
    ending: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        Index("uq_run_open_slot", "device", "queue", "slot", unique=True, postgresql_where=text("ended_at IS NULL")),
        Index("uq_run_open_task", "task_id", unique=True, postgresql_where=text("ended_at IS NULL")),
        Index("ix_run_task", "task_id"),
        Index("ix_run_open_node", "node_id", postgresql_where=text("ended_at IS NULL")),
        Index("ix_run_ended", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
    )


class ObjectOutcomeRow(Base):
    """How one object ended in one run."""

    __tablename__ = "object_outcome"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    run_id: Mapped[int] = mapped_column(BigInteger, comment="no foreign key, as with run.task_id")
    task_id: Mapped[int] = mapped_column(BigInteger)
    round: Mapped[int] = mapped_column(comment="round of the task when it was sent")
    sop_uid: Mapped[str] = mapped_column(Text)
    result: Mapped[str] = mapped_column(Text, comment="sent, warning, refused, unreadable, not reached")
    status_code: Mapped[int | None] = mapped_column(comment="DIMSE or HTTP status")
    text: Mapped[str | None] = mapped_column(Text)
    sha256: Mapped[str | None] = mapped_column(Text, comment="of the file that was sent; NULL where no file was known")
    began_at: Mapped[datetime | None] = mapped_column(Instant)
    at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())

    __table_args__ = (
        Index("ix_object_outcome_task", "task_id", "round", "sop_uid"),
        Index("ix_object_outcome_run", "run_id"),
    )
