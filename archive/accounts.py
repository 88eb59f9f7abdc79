"""Who may use the services, and who changed what: bearer tokens (hashed) and the audit table."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, Integer, Text, func
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from archive.db import Base

_Instant = TIMESTAMP(timezone=True)


class Role(StrEnum):
    """What a token may do; each may do what those before it may."""

    #: See everything.
    READER = "reader"
    #: Create tasks; cancel its own.
    SUBMITTER = "submitter"
    #: Change all tasks; pause devices.
    OPERATOR = "operator"
    #: Configuration, deletion rules, tokens.
    ADMIN = "admin"


class ApiToken(Base):
    """A bearer token; the token itself is shown once and never stored."""

    __tablename__ = "api_token"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True, comment="who uses it; the user of audit entries")
    sha256: Mapped[str] = mapped_column(Text, unique=True, comment="of the token, 64 hexadecimal digits")
    role: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(_Instant, server_default=func.now())
    created_by: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[datetime | None] = mapped_column(_Instant)
    revoked_at: Mapped[datetime | None] = mapped_column(_Instant)
    last_used_at: Mapped[datetime | None] = mapped_column(_Instant)

    __table_args__ = (CheckConstraint("role IN ('reader', 'submitter', 'operator', 'admin')", name="role"),)


class AuditEntry(Base):
    """One change that somebody made or tried to make: written before it is tried, completed when it is done."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(_Instant, server_default=func.now())
    user: Mapped[str] = mapped_column(Text, comment="name of the token, or of the account on the machine itself")
    host: Mapped[str] = mapped_column(Text, comment="address that the request came from")
    action: Mapped[str] = mapped_column(Text, comment="RescheduleTasks, CancelTask, AddToken, ...")
    what: Mapped[str] = mapped_column(Text, comment="the object: task id, filter as it was given, device, ...")
    count: Mapped[int | None] = mapped_column(Integer, comment="objects changed")
    failed: Mapped[int | None] = mapped_column(Integer, comment="objects refused")
    outcome: Mapped[str | None] = mapped_column(Text, comment="NULL: done; 'not finished'; else the error")

    __table_args__ = (Index("ix_audit_at", "at"),)
