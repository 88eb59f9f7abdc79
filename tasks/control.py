"""What the cluster knows besides tasks: workers seen, pauses, destinations, the leader, housekeeping jobs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Identity, Index, Integer, Text, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from archive.db import Base
from tasks.record import Instant

#: A worker that has not been seen for this long is taken for dead.
DEAD_AFTER = timedelta(seconds=15)


class WorkerNode(Base):
    """One start of one worker: its heartbeat, and what its runs refer to."""

    __tablename__ = "worker_node"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(Text, comment="archive-a.1@host")
    device: Mapped[str] = mapped_column(Text)
    channel: Mapped[str] = mapped_column(Text, comment="Celery queue that it consumes")
    host: Mapped[str] = mapped_column(Text)
    pid: Mapped[int] = mapped_column(Integer)
    version: Mapped[str] = mapped_column(Text)
    concurrency: Mapped[int] = mapped_column(Integer)
    started_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())
    stopped_at: Mapped[datetime | None] = mapped_column(Instant)
    clock_ahead_s: Mapped[float | None] = mapped_column(
        comment="seconds by which the clock of its host was ahead of the database's; NULL: not told"
    )

    __table_args__ = (Index("ix_worker_node_channel", "channel", "seen_at"),)


class Pause(Base):
    """A device, or one queue of it, that takes nothing new. Set by operators; works without LDAP."""

    __tablename__ = "pause"

    device: Mapped[str] = mapped_column(Text, primary_key=True)
    queue: Mapped[str] = mapped_column(Text, primary_key=True, server_default="", comment="'': all of them")
    draining: Mapped[bool] = mapped_column(server_default=text("false"), comment="finish what runs, then stay")
    who: Mapped[str] = mapped_column(Text)
    why: Mapped[str | None] = mapped_column(Text)
    since: Mapped[datetime] = mapped_column(Instant, server_default=func.now())
    until: Mapped[datetime | None] = mapped_column(Instant, comment="NULL: until resumed")


class Destination(Base):
    """A remote AE, web application or folder as the whole cluster sees it."""

    __tablename__ = "destination"

    name: Mapped[str] = mapped_column(Text, primary_key=True, comment="dicom:PACS, stow:NAME, file:/folder")
    cap: Mapped[int | None] = mapped_column(Integer, comment="runs at once in the whole cluster; NULL: any")
    held_by: Mapped[str | None] = mapped_column(Text)
    held_why: Mapped[str | None] = mapped_column(Text)
    held_since: Mapped[datetime | None] = mapped_column(Instant)
    held_until: Mapped[datetime | None] = mapped_column(Instant)
    failures: Mapped[int] = mapped_column(Integer, server_default=text("0"), comment="connection failures in a row")
    open_until: Mapped[datetime | None] = mapped_column(Instant, comment="circuit breaker: nothing before this")
    gentle_cap: Mapped[int | None] = mapped_column(
        Integer, comment="runs at once after the breaker was open, one more with each success; NULL: no limit but cap"
    )
    last_failure: Mapped[str | None] = mapped_column(Text, comment="what the last of the failures said; NULL: none")
    failed_at: Mapped[datetime | None] = mapped_column(Instant, comment="when it was")


class Leader(Base):
    """Who drives the clock: the beat whose lease is not over."""

    __tablename__ = "leader"

    role: Mapped[str] = mapped_column(Text, primary_key=True)
    holder: Mapped[str] = mapped_column(Text)
    until: Mapped[datetime] = mapped_column(Instant)


class HousekeepingJob(Base):
    """What beat sends to a device's housekeeping channel, and when next."""

    __tablename__ = "housekeeping_job"

    device: Mapped[str] = mapped_column(Text, primary_key=True)
    file_system_group: Mapped[str] = mapped_column(Text, primary_key=True, server_default="")
    job: Mapped[str] = mapped_column(Text, primary_key=True)
    interval_s: Mapped[float] = mapped_column(comment="seconds between two runs")
    next_run_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())
    sent_at: Mapped[datetime | None] = mapped_column(Instant)
    started_at: Mapped[datetime | None] = mapped_column(Instant)
    ended_at: Mapped[datetime | None] = mapped_column(Instant)
    result: Mapped[str | None] = mapped_column(Text, comment="one line: what was done, or the error")


class AcceptedMessage(Base):
    """An intake message that was answered; kept 30 days, so that a second delivery makes no second task."""

    __tablename__ = "accepted_message"

    message_id: Mapped[str] = mapped_column(Text, primary_key=True)
    task_ids: Mapped[list[int]] = mapped_column(JSONB, server_default=text("'[]'"))
    refused: Mapped[str | None] = mapped_column(Text, comment="why it was refused; NULL: accepted")
    at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())


class IdempotencyKey(Base):
    """A REST request that was answered; kept 30 days, so that its repetition gets the same answer."""

    __tablename__ = "idempotency_key"

    key: Mapped[str] = mapped_column(Text, primary_key=True)
    requester: Mapped[str] = mapped_column(Text, primary_key=True, server_default="")
    request: Mapped[str] = mapped_column(Text, comment="method and URI; another request is a conflict")
    task_ids: Mapped[list[int]] = mapped_column(JSONB, server_default=text("'[]'"))
    progress: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB, comment="of a request for many tasks: how far it has come; NULL: it was for one"
    )
    at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())


class ClusterIdentity(Base):
    """One row: who this cluster is, and which life of its database this is."""

    __tablename__ = "cluster_identity"

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True, server_default=text("gen_random_uuid()"))
    epoch: Mapped[str] = mapped_column(
        Uuid(as_uuid=False), server_default=text("gen_random_uuid()"), comment="new after a restore: cursors end"
    )
    created_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())
