"""The tables of the archive: what was received, where its files lie, and what is to be unlinked."""

from __future__ import annotations

from archive.model.deletions import DeletionPremise, FileSystemReport, StudyDeletion, StudyProtection
from archive.model.files import (
    AVAILABILITY_RANK,
    GOOD_FILES,
    Availability,
    BytesReceived,
    File,
    FileStatus,
    FileSystem,
    FileSystemStatus,
    StudyOnFileSystem,
    Unlink,
    UnlinkReason,
)
from archive.model.objects import Instance, Patient, Series, SeriesState, Study

__all__ = [
    "AVAILABILITY_RANK",
    "GOOD_FILES",
    "Availability",
    "BytesReceived",
    "DeletionPremise",
    "File",
    "FileStatus",
    "FileSystem",
    "FileSystemReport",
    "FileSystemStatus",
    "Instance",
    "Patient",
    "Series",
    "SeriesState",
    "Study",
    "StudyDeletion",
    "StudyOnFileSystem",
    "StudyProtection",
    "Unlink",
    "UnlinkReason",
]
