"""Errors of the archive, named by what a caller can do about them."""

from __future__ import annotations


class Permanent(Exception):
    """Mark an error that running again cannot help."""


class ArchiveError(Exception):
    """The base of all errors of this package."""


class StorageError(ArchiveError):
    """A file system or a file on it is not as it must be; may be mended, so a retry makes sense."""


class NoSpace(StorageError):
    """The file system has no bytes, no inodes or no quota left."""


class Interrupted(StorageError):
    """The entry that announced a file was cleared while the file was being written; store it again."""


class UnsafePath(Permanent, StorageError):
    """A relative path that would leave its file system's root."""


class NotStorable(Permanent, ArchiveError):
    """What was offered is no DICOM object that can be indexed; the text says why."""


class NotConfigured(Permanent, ArchiveError):
    """The configuration has no place for what was asked; the text names what is there."""


class SourceError(ArchiveError):
    """The bytes to be stored could not be read where they come from."""
