"""File systems, the files on them, the ledgers, and the list of what is to be unlinked."""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    String,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from archive.db import Base
from archive.model import columns


class FileSystemStatus(StrEnum):
    """What a file system is used for. Source: manual of dcm4chee 2, updateFileSystemStatus."""

    #: New objects go here; one per device and group.
    CURRENT = "RW+"
    #: Takes objects when it becomes the current one.
    WRITABLE = "RW"
    #: Is only read.
    READ_ONLY = "RO"
    #: Is not in use.
    PENDING = "PENDING"


class Availability(StrEnum):
    """How fast an object can be had. Source: PS3.3 C.4.23.1.1 (0008,0056)."""

    #: At once.
    ONLINE = "ONLINE"
    #: After a delay, by itself.
    NEARLINE = "NEARLINE"
    #: After a person has done something.
    OFFLINE = "OFFLINE"
    #: Not at all.
    UNAVAILABLE = "UNAVAILABLE"


#: Best first.
AVAILABILITY_RANK = {name: rank for rank, name in enumerate(Availability)}


class FileStatus(StrEnum):
    """What is known about a file."""

    #: Stored with its digest.
    DEFAULT = "DEFAULT"
    #: Also kept by an archive behind the file system.
    ARCHIVED = "ARCHIVED"
    #: Was not there when it was looked for.
    MISSING = "MISSING"
    #: Size or digest are not those of the index.
    DIFFERS = "DIFFERS"
    #: Could not be read.
    UNREADABLE = "UNREADABLE"


#: A file of these counts as a copy.
GOOD_FILES = (FileStatus.DEFAULT, FileStatus.ARCHIVED)


class UnlinkReason(StrEnum):
    """Why a path stands on the unlink list."""

    #: Is being written; taken off in the transaction that indexes it, else the writer has died.
    STORING = "storing"
    #: Was storing for too long; a sweep has taken it from its writer and removes what is there.
    STRAY = "stray"
    #: Was written, but another process had indexed the same object before.
    DUPLICATE = "duplicate"
    #: Its file row was deleted.
    DELETED = "deleted"
    #: Another content of the same object took its place.
    REPLACED = "replaced"


class FileSystem(Base):
    """A folder with a marker file in which files of one group of one device are kept."""

    __tablename__ = "file_system"
    __table_args__ = (
        Index(
            "uq_file_system_current",
            "owner_device",
            "group_id",
            unique=True,
            postgresql_where=text("status = 'RW+'"),
        ),
        Index(None, "owner_device", "group_id"),
        {"comment": "File systems of the devices' groups; only the owner writes and unlinks"},
    )

    id: Mapped[int] = columns.number("Number of the file system")
    path: Mapped[str] = mapped_column(unique=True, comment="Absolute path of its root")
    owner_device: Mapped[str] = mapped_column(comment="The device that writes and unlinks here")
    group_id: Mapped[str] = mapped_column(comment="File-system group of the owner")
    status: Mapped[FileSystemStatus] = mapped_column(
        columns.choice(FileSystemStatus), comment="RW+ (current), RW, RO or PENDING"
    )
    availability: Mapped[Availability] = mapped_column(
        columns.choice(Availability), comment="ONLINE, NEARLINE, OFFLINE or UNAVAILABLE"
    )
    retrieve_ae_title: Mapped[str] = mapped_column(comment="AE title from which its objects are retrieved")
    user_information: Mapped[str | None] = mapped_column(comment="Free text of the operator")
    next_id: Mapped[int | None] = mapped_column(
        ForeignKey("file_system.id"), comment="The one to switch to when this is full; null: end of the chain"
    )
    marker: Mapped[uuid.UUID] = mapped_column(Uuid, unique=True, comment="UUID in its marker file")
    shared_with: Mapped[list[str]] = mapped_column(
        ARRAY(String),
        server_default=text("'{}'"),
        comment="Further devices that mount it under the same path",
    )
    created_at: Mapped[datetime] = columns.instant("When it was added")


class File(Base):
    """One copy of an instance on a file system."""

    __tablename__ = "file"
    __table_args__ = (
        UniqueConstraint("file_system_id", "path"),
        Index(None, "instance_id"),
        CheckConstraint("octet_length(sha256) = 32", name="sha256_length"),
        CheckConstraint("size_bytes >= 0", name="size"),
        {"comment": "Files of the instances, one row for each copy"},
    )

    id: Mapped[int] = columns.number("Number of the file")
    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"), comment="The object it holds")
    file_system_id: Mapped[int] = mapped_column(ForeignKey("file_system.id"), comment="Where it lies")
    path: Mapped[str] = mapped_column(comment="Path below the root of the file system, separated by /")
    size_bytes: Mapped[int] = mapped_column(BigInteger, comment="Size in bytes as it was written")
    sha256: Mapped[str] = mapped_column(columns.Digest, comment="SHA-256 of the whole file as it was written")
    transfer_syntax_uid: Mapped[str] = mapped_column(String(64), comment="Transfer Syntax UID (0002,0010)")
    received_at: Mapped[datetime] = columns.instant("When it was stored or copied")
    source: Mapped[str | None] = mapped_column(
        comment="AE title that sent the object; null: it was imported. A copy has that of what it was copied from"
    )
    status: Mapped[FileStatus] = mapped_column(
        columns.choice(FileStatus), server_default="DEFAULT", comment="DEFAULT and ARCHIVED count as copies"
    )
    checked_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="When size and digest were last verified; null: never"
    )


_IS_KEPT = text("kept_premise <> 0")


class StudyOnFileSystem(Base):
    """When a study was last used on a file system, and whether it is marked for deletion there."""

    __tablename__ = "study_on_file_system"
    __table_args__ = (
        Index(None, "file_system_id", "access_time"),
        Index("ix_study_on_file_system_marked", "file_system_id", postgresql_where=text("marked_at IS NOT NULL")),
        Index(None, "mark_task_id", postgresql_where=text("mark_task_id IS NOT NULL")),
        Index(
            "ix_study_on_file_system_to_judge",
            "file_system_id",
            "access_time",
            "study_id",
            postgresql_where=text("kept_premise = 0"),
        ),
        Index("ix_study_on_file_system_premise", "kept_premise", postgresql_where=text("kept_premise <> 0")),
        Index(
            "ix_study_on_file_system_kept", "file_system_id", "kept_until", postgresql_where=text("kept_premise <> 0")
        ),
        {"comment": "Ledger of access per study and file system; carries the mark of the deleter"},
    )

    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), primary_key=True, comment="The study")
    file_system_id: Mapped[int] = mapped_column(
        ForeignKey("file_system.id"), primary_key=True, comment="Where files of it lie"
    )
    access_time: Mapped[datetime] = columns.instant("When it was last received, or read for others")
    marked_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="When it was marked for deletion; null: not marked"
    )
    mark_reason: Mapped[str | None] = mapped_column(comment="Trigger and rules that led to the mark")
    mark_task_id: Mapped[int | None] = mapped_column(
        BigInteger, comment="DELETE_STUDY task of the mark; it counts only while that task is not done"
    )
    mark_bytes: Mapped[int | None] = mapped_column(BigInteger, comment="Bytes that its deletion will free")
    kept_premise: Mapped[int] = mapped_column(
        BigInteger,
        server_default=text("0"),
        comment="Row of deletion_premise under which a look found that rules keep it; 0: the next look judges it",
    )
    kept_until: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="When that is to be looked at again at the latest"
    )
    kept_because: Mapped[str | None] = mapped_column(comment="The rules that keep it, with commas between")


class BytesReceived(Base):
    """Bytes that came by C-STORE from outside, from which the expected daily volume is measured."""

    __tablename__ = "bytes_received"
    __table_args__ = ({"comment": "Bytes received by C-STORE per device, hour and source; no imports, no copies"},)

    device_name: Mapped[str] = mapped_column(primary_key=True, comment="The device that received")
    hour: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True, comment="Begin of the hour (UTC)")
    source: Mapped[str] = mapped_column(primary_key=True, comment="AE title that sent")
    size_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0", comment="Bytes stored in the hour")
    num_objects: Mapped[int] = mapped_column(Integer, server_default="0", comment="Objects stored in the hour")


class Unlink(Base):
    """A path that must not stay on disk unless a file row names it."""

    __tablename__ = "unlink"
    __table_args__ = (
        UniqueConstraint("file_system_id", "path"),
        Index(None, "file_system_id", "next_attempt_at"),
        Index(None, "deletion_id", postgresql_where=text("deletion_id IS NOT NULL")),
        {"comment": "Paths being written (so that a crash leaves no stray file) and paths to be unlinked"},
    )

    id: Mapped[int] = columns.number("Number of the entry")
    file_system_id: Mapped[int] = mapped_column(ForeignKey("file_system.id"), comment="Where the file lies")
    path: Mapped[str] = mapped_column(comment="Path below the root, separated by /; with .part while written")
    reason: Mapped[UnlinkReason] = mapped_column(
        columns.choice(UnlinkReason), comment="storing, stray, duplicate, deleted or replaced"
    )
    size_bytes: Mapped[int] = mapped_column(
        BigInteger, server_default="0", comment="Bytes that unlinking frees; 0 while storing"
    )
    created_at: Mapped[datetime] = columns.instant("When the path was put on the list")
    attempts: Mapped[int] = mapped_column(server_default="0", comment="How often unlinking failed")
    next_attempt_at: Mapped[datetime] = columns.instant("Not to be tried before; of storing: when it is stale")
    error: Mapped[str | None] = mapped_column(comment="Why the last attempt failed")
    deletion_id: Mapped[int | None] = mapped_column(
        BigInteger, comment="Row of study_deletion that it is part of; null: of none"
    )
