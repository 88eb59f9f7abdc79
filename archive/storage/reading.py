"""Read the data set of a stored object for a peer: never a byte of a file that is not what was stored."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from sqlalchemy import select
from sqlalchemy.orm import Session

from archive import ledger, model
from archive.dicom import part10
from archive.errors import SourceError
from archive.query import StoredObject
from archive.storage import copying

#: Bytes of a file that is read once and kept in memory; a larger one is read twice.
_AT_ONCE = 16 << 20


@contextmanager
def data_set(item: StoredObject) -> Iterator[Iterator[bytes | memoryview]]:
    """Open an object for the block; gives the bytes of its data set as they are in the file, piece by piece.

    Size and digest of the whole file are checked before the block begins.

    Raises:
        SourceGone: there is no good copy any more.
        SourceError: the copy cannot be read now, or is not what was stored.
    """
    source = copying.open_source(item)
    try:
        yield _in_memory(source, item) if (item.size_bytes or 0) <= _AT_ONCE else _from_disk(source, item)
    finally:
        os.close(source)


def touch(session: Session, objects: Iterable[StoredObject]) -> None:
    """Note that the studies of these objects are used now, on the file systems where they are read."""
    used = {(item.study_uid, item.file_system.id) for item in objects if item.file_system and item.is_readable}
    study_uids = {study_uid for study_uid, _ in used}
    found = session.execute(select(model.Study.study_uid, model.Study.id).where(model.Study.study_uid.in_(study_uids)))
    ids = dict(found.all())
    for file_system_id in sorted({id_ for _, id_ in used}):
        here = {ids[study_uid] for study_uid, id_ in used if id_ == file_system_id and study_uid in ids}
        ledger.touch(session, here, file_system_id)


def _in_memory(source: int, item: StoredObject) -> Iterator[bytes | memoryview]:
    content = b"".join(_chunks(source, item))
    copying.compare(item, len(content), hashlib.sha256(content).hexdigest())
    with io.BytesIO(content) as file:
        return iter((memoryview(content)[_offset(file, item) :],))


def _from_disk(source: int, item: StoredObject) -> Iterator[bytes]:
    digest, size_bytes = hashlib.sha256(), 0
    for chunk in _chunks(source, item):
        digest.update(chunk)
        size_bytes += len(chunk)
    copying.compare(item, size_bytes, digest.hexdigest())
    with os.fdopen(source, "rb", closefd=False) as file:
        offset = _offset(file, item)
    os.lseek(source, offset, os.SEEK_SET)
    return _whole(source, item, size_bytes - offset)


def _whole(source: int, item: StoredObject, size_bytes: int) -> Iterator[bytes]:
    """Read so many bytes; a file that was cut since it was checked must not look like a whole one."""
    for chunk in _chunks(source, item):
        size_bytes -= len(chunk)
        yield chunk
    if size_bytes:
        raise SourceError(f"{item.path} was changed while it was sent")


def _offset(file: BinaryIO, item: StoredObject) -> int:
    try:
        return part10.data_set_offset(file)
    except SourceError as error:
        raise SourceError(f"{item.path}: {error}") from error


def _chunks(source: int, item: StoredObject) -> Iterator[bytes]:
    while chunk := copying.read_chunk(source, item):
        yield chunk
