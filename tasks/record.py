"""The row of a task, a frozen view of it, and what a new one is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, RowMapping, SmallInteger, Text, desc, func, text
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from archive.db import Base
from tasks.state import WAITING, Status

#: A time with zone, as all of ours are.
Instant = TIMESTAMP(timezone=True)

#: Task priorities: 0 to 9, the highest runs first.
DEFAULT_PRIORITY = 4
HIGHEST_PRIORITY = 9

_WAITING_SQL = "status IN ({})".format(", ".join(f"'{s}'" for s in sorted(WAITING)))
_STATUSES_SQL = "status IN ({})".format(", ".join(f"'{s}'" for s in Status))


class Task(Base):
    """One task. Only `tasks.store` writes `status`."""

    __tablename__ = "task"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True, comment="taskID on the wire")
    kind: Mapped[str] = mapped_column(Text, comment="EXPORT, RETRIEVE, DIFF, STGVER, DELETE_STUDY, ...")
    device: Mapped[str] = mapped_column(Text, comment="device that shall run it, or ran it last")
    queue: Mapped[str] = mapped_column(Text, comment="dcmQueueName")
    status: Mapped[str] = mapped_column(Text, comment="written by tasks.store alone")
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("4"), comment="0 to 9, 9 first")
    scheduled_time: Mapped[datetime] = mapped_column(Instant, comment="earliest start")
    created_time: Mapped[datetime] = mapped_column(Instant, server_default=func.now())
    updated_time: Mapped[datetime] = mapped_column(Instant, server_default=func.now())
    started_time: Mapped[datetime | None] = mapped_column(Instant, comment="start of the last run")
    ended_time: Mapped[datetime | None] = mapped_column(Instant, comment="end of the last run")
    failures: Mapped[int] = mapped_column(server_default=text("0"), comment="failed attempts")
    lost_leases: Mapped[int] = mapped_column(server_default=text("0"), comment="lost leases in a row")
    round: Mapped[int] = mapped_column(
        server_default=text("0"), comment="objects confirmed in this round are not sent again"
    )
    batch_id: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text, comment="text of the last exception")
    outcome_message: Mapped[str | None] = mapped_column(Text, comment="text of the last outcome")
    local_aet: Mapped[str | None] = mapped_column(Text)
    remote_aet: Mapped[str | None] = mapped_column(Text)
    destination_aet: Mapped[str | None] = mapped_column(Text)
    exporter_id: Mapped[str | None] = mapped_column(Text)
    destination: Mapped[str | None] = mapped_column(Text, comment="what caps, holds and breakers go by")
    study_uid: Mapped[str | None] = mapped_column(Text)
    series_uid: Mapped[str | None] = mapped_column(Text)
    sop_uid: Mapped[str | None] = mapped_column(Text)
    params: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"), comment="of its kind")
    progress: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"), comment="of its kind")
    requester_user: Mapped[str | None] = mapped_column(Text)
    requester_host: Mapped[str | None] = mapped_column(Text)
    request_uri: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        CheckConstraint(_STATUSES_SQL, name="status"),
        CheckConstraint("priority BETWEEN 0 AND 9", name="priority"),
        Index(
            "ix_task_due", "device", "queue", desc("priority"), "scheduled_time", "id",
            postgresql_where=text(_WAITING_SQL),
        ),
        # Each for an order of lists and for counts; the id makes the order of tasks that one chunk changed.
        Index("ix_task_kind_updated", "kind", "updated_time", "id"),
        Index("ix_task_kind_status", "kind", "status", "updated_time", "id"),
        Index("ix_task_kind_device", "kind", "device", "status", "updated_time", "id"),
        Index(
            "ix_task_exporter", "exporter_id", "status", "updated_time", "id",
            postgresql_include=["kind", "device"], postgresql_where=text("exporter_id IS NOT NULL"),
        ),
        Index("ix_task_kind_created", "kind", "created_time"),
        # By its hash: the text of a UID costs as much as all other indexes together.
        Index(
            "ix_task_study", "study_uid", postgresql_using="hash", postgresql_where=text("study_uid IS NOT NULL")
        ),
        # Of a queue, whatever its kinds: those of each status in their order.
        Index("ix_task_queue", "queue", "status", "updated_time", "id", postgresql_include=["device", "local_aet"]),
        # PostgreSQL skips over those that are not asked for. Of exports there are most, and few titles.
        Index(
            "ix_task_titles", "kind", "remote_aet", "destination_aet", "local_aet", "queue",
            postgresql_where=text("kind <> 'EXPORT'"),
        ),
        Index("ix_task_compared", text("(params ->> 'comparefield')"), postgresql_where=text("kind = 'DIFF'")),
        Index("ix_task_batch", "batch_id", postgresql_where=text("batch_id IS NOT NULL")),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task as it was read: what handlers, REST and the command line see."""

    id: int
    kind: str
    device: str
    queue: str
    status: Status
    priority: int
    scheduled_time: datetime
    created_time: datetime
    updated_time: datetime
    started_time: datetime | None
    ended_time: datetime | None
    failures: int
    lost_leases: int
    round: int
    batch_id: str | None
    error_message: str | None
    outcome_message: str | None
    local_aet: str | None
    remote_aet: str | None
    destination_aet: str | None
    exporter_id: str | None
    destination: str | None
    study_uid: str | None
    series_uid: str | None
    sop_uid: str | None
    params: Mapping[str, Any]
    progress: Mapping[str, Any]
    requester_user: str | None
    requester_host: str | None
    request_uri: str | None

    @classmethod
    def of(cls, row: RowMapping) -> TaskView:
        """Make a view of a row (a mapping of column names)."""
        return cls(**{**cast("Mapping[str, Any]", row), "status": Status(row["status"])})


@dataclass(frozen=True, slots=True)
class NewTask:
    """What a task is made from. `scheduled_time` None: now, by the clock of the database."""

    kind: str
    device: str
    queue: str
    priority: int = DEFAULT_PRIORITY
    scheduled_time: datetime | None = None
    batch_id: str | None = None
    local_aet: str | None = None
    remote_aet: str | None = None
    destination_aet: str | None = None
    exporter_id: str | None = None
    destination: str | None = None
    study_uid: str | None = None
    series_uid: str | None = None
    sop_uid: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    requester_user: str | None = None
    requester_host: str | None = None
    request_uri: str | None = None
