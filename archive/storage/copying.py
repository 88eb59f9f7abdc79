"""Copy a stored file elsewhere: its bytes as the index knows them, whole under its name or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from archive.errors import Permanent, SourceError
from archive.query import StoredObject
from archive.storage import disk
from archive.storage.health import MARKER

#: Bytes that are in memory at once.
_CHUNK = 1 << 20


class SourceGone(SourceError, Permanent):
    """The file is not there although its file system is: trying again cannot help."""


def copy(item: StoredObject, target: Path, part: Path) -> None:
    """Copy an object's file to `target` through `part`, which lies in the same folder.

    Raises:
        SourceGone: there is no good copy any more.
        SourceError: the copy cannot be read now, or is not what was stored.
        OSError: the target cannot be written; nothing of it is left.
    """
    source = open_source(item)
    try:
        part.unlink(missing_ok=True)  # of a run that could not remove it
        with (
            _removed_unless_done(part),
            os.fdopen(disk.create(str(disk.top_of(part.parent)), str(part), 0o666), "wb") as out,
        ):
            _fill(out.fileno(), source, item)
            os.fsync(out.fileno())
            part.replace(target)
        disk.sync_folder(target.parent)
    finally:
        os.close(source)


@contextmanager
def _removed_unless_done(part: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def place_of(item: StoredObject) -> tuple[Path, Path]:
    """Return the file of an object and the root of its file system, as the index has them.

    Raises:
        SourceGone: there is no good copy any more.
        SourceError: good copies lie out of reach of the device.
    """
    if item.path is None or item.file_system is None:
        raise SourceGone(f"no good copy of {item.sop_uid} is left")
    if not item.is_readable:
        raise SourceError(f"no good copy of {item.sop_uid} is within reach of this device, only {item.path}")
    return item.path, item.file_system.path


def open_source(item: StoredObject) -> int:
    """Open an object's file for reading and return its descriptor.

    Raises:
        SourceGone: there is no good copy any more.
        SourceError: the copy cannot be read now.
    """
    path, root = place_of(item)
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        if (root / MARKER).exists():
            raise SourceGone(f"{path} is gone") from error
        raise SourceError(f"{path} cannot be read: {root} is not mounted") from error
    except OSError as error:
        raise SourceError(f"{item.path} cannot be read: {os.strerror(error.errno or 0)}") from error


def _fill(out: int, source: int, item: StoredObject) -> None:
    digest, size = hashlib.sha256(), 0
    while chunk := read_chunk(source, item):
        digest.update(chunk)
        size += len(chunk)
        disk.write_all(out, chunk)
    compare(item, size, digest.hexdigest())


def compare(item: StoredObject, size_bytes: int, sha256: str) -> None:
    """See that what was read is what was stored.

    Raises:
        SourceError: size or digest differs.
    """
    if size_bytes != item.size_bytes or sha256 != item.sha256:
        raise SourceError(f"{item.path} is not what was stored: size or digest differs from the index")


def read_chunk(source: int, item: StoredObject) -> bytes:
    """Return the next bytes of an open file, none at its end.

    Raises:
        SourceError: the disk refused.
    """
    try:
        return os.read(source, _CHUNK)
    except OSError as error:
        raise SourceError(f"{item.path} cannot be read: {os.strerror(error.errno or 0)}") from error
