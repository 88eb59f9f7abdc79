"""Errors of the archive, named by what a caller can do about them."""

from __future__ import annotations


class Permanent(Exception):
    """Mark an error that running again cannot help."""


class ArchiveError(Exception):
    """The base of all errors of this package."""


class StorageError(ArchiveError):
    """A file system or a file on it is not as it must be; may be mended, so a retry makes sense."""


class Unfit(StorageError):
    """A file system does not take the object; another one of the group may."""


class NoSpace(Unfit):
    """The file system has no bytes, no inodes or no quota left."""


class NotMounted(Unfit):
    """The disk of the file system was unmounted, or another one mounted there, while a file was written."""


class NoAnswer(NotMounted):
    """The disk of the file system hangs: a call to it has not returned in time; a retry later makes sense."""


class NoPlace(StorageError):
    """No file system of the group can take an object; the text names each with what is wrong with it."""


class Interrupted(StorageError):
    """The entry that announced a file was cleared while the file was being written; store it again."""


class UnsafePath(Permanent, StorageError):
    """A relative path that would leave its file system's root."""


class NotStorable(Permanent, ArchiveError):
    """What was offered is no DICOM object that can be indexed; the text says why."""


class NotAsAnnounced(NotStorable):
    """The data set is of another object, or of another SOP class, than the command that brought it says."""


class NotConfigured(Permanent, ArchiveError):
    """The configuration has no place for what was asked; the text names what is there."""


class SourceError(ArchiveError):
    """The bytes to be stored could not be read where they come from."""


class PeerError(ArchiveError):
    """A DICOM peer could not be reached or did not do its part; every text begins with the peer."""


class PeerUnreachable(PeerError):
    """No connection: refused, no route, no such name, or the time to connect ran out."""


class PeerRejected(PeerError):
    """The peer answered the association request with A-ASSOCIATE-RJ; the text names result, source and reason."""

    def __init__(self, text: str, *, is_transient: bool = False) -> None:
        super().__init__(text)
        self.is_transient = is_transient


class PeerAborted(PeerError):
    """The association is gone: A-ABORT arrived or the connection was closed."""


class PeerTimedOut(PeerError):
    """The peer was silent, or took no bytes, for longer than its time limit."""


class PeerMisbehaved(PeerError):
    """The peer sent what the standard does not allow at that point."""


class InvalidKey(ArchiveError):
    """A key of a query has a value that cannot be used; the text names both and what was expected."""


class PeerRefused(PeerError):
    """The peer answered a request with a status that says it was not done; the text has it."""
