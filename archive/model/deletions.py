"""What deletion needs to know and leaves behind: the ledger of deletions, protected studies, health as last seen."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, ForeignKey, Index, Integer, String, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from archive.db import Base
from archive.model import columns


class StudyDeletion(Base):
    """A study that was deleted from a file system: written in the transaction that deletes, kept for ever."""

    __tablename__ = "study_deletion"
    __table_args__ = (
        Index(None, "study_uid"),
        Index(None, "deleted_at"),
        Index("ix_study_deletion_open", "device", postgresql_where=text("unlinked_at IS NULL")),
        {"comment": "Ledger of deletions, never purged; names instead of references, which may be gone one day"},
    )

    id: Mapped[int] = columns.number("Number of the deletion")
    study_uid: Mapped[str] = mapped_column(String(64), comment="Study Instance UID (0020,000D)")
    file_system_id: Mapped[int] = mapped_column(BigInteger, comment="The file system; no foreign key")
    file_system_path: Mapped[str] = mapped_column(comment="Path of its root when the study was deleted")
    device: Mapped[str] = mapped_column(comment="The device that owned it")
    group_id: Mapped[str] = mapped_column(comment="Its file-system group")
    num_files: Mapped[int] = mapped_column(Integer, comment="Files that were put on the unlink list")
    size_bytes: Mapped[int] = mapped_column(BigInteger, comment="Bytes of these files")
    access_time: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), comment="When the study was last used on the file system"
    )
    trigger: Mapped[str] = mapped_column(comment="Why it was looked at: a rule of the group, or who asked how")
    rules: Mapped[list[str]] = mapped_column(ARRAY(String), comment="Rules that were asked and let it go")
    task_id: Mapped[int] = mapped_column(BigInteger, unique=True, comment="The DELETE_STUDY task; no foreign key")
    who: Mapped[str] = mapped_column(comment="user@host, or the job that chose the study")
    remaining_copies: Mapped[list[str]] = mapped_column(
        ARRAY(String), comment="device/group: number of its objects with a good copy there"
    )
    deleted_at: Mapped[datetime] = columns.instant("When its files lost their rows")
    unlinked_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="When the last of its files had left the disk; null: not yet"
    )


class StudyProtection(Base):
    """A study that nothing deletes until somebody lifts the protection."""

    __tablename__ = "study_protection"
    __table_args__ = ({"comment": "Studies that are kept on every file system, whatever the rules say"},)

    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), primary_key=True, comment="The study")
    who: Mapped[str] = mapped_column(comment="user@host")
    why: Mapped[str | None] = mapped_column(comment="Shown to whoever wonders")
    since: Mapped[datetime] = columns.instant("When it was protected")


class DeletionPremise(Base):
    """Under which terms, and with which disks in reach, looks found that studies are kept.

    What was found holds as long as the terms are the same and no disk counts that did not count then: fewer copies
    free no study.
    """

    __tablename__ = "deletion_premise"
    __table_args__ = (
        Index(None, "device", "group_id"),
        {"comment": "Premises of what looks found; those that nobody has used for long are removed"},
    )

    id: Mapped[int] = columns.number("Number of the premise")
    device: Mapped[str] = mapped_column(comment="The device that looked")
    group_id: Mapped[str] = mapped_column(comment="The file-system group that it looked at")
    terms: Mapped[str] = mapped_column(comment="What the rules asked for, as far as it matters for copies")
    counting: Mapped[list[str]] = mapped_column(
        ARRAY(String), comment="File systems whose copies counted: number:device/group"
    )
    mounted: Mapped[list[str]] = mapped_column(
        ARRAY(String), comment="Those of them whose copies counted without being verified lately"
    )
    used_at: Mapped[datetime] = columns.instant("When a look last found it to be its own")


class FileSystemReport(Base):
    """What the owner of a file system last saw of it: all that others can know of a disk that they do not mount."""

    __tablename__ = "file_system_report"
    __table_args__ = ({"comment": "Health and space of the file systems as their owners last saw them"},)

    file_system_id: Mapped[int] = mapped_column(
        ForeignKey("file_system.id", ondelete="CASCADE"), primary_key=True, comment="The file system"
    )
    checked_at: Mapped[datetime] = columns.instant("When its owner looked")
    problem: Mapped[str | None] = mapped_column(comment="Why it is not healthy; null: it is")
    free_bytes: Mapped[int | None] = mapped_column(BigInteger, comment="Bytes that can be written; null: unknown")
    total_bytes: Mapped[int | None] = mapped_column(BigInteger, comment="Size in bytes; null: unknown")
