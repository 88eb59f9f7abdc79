"""What is done to a disk, step by step: make, name, sync, remove; and what its refusals mean."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from archive import errors

_FULL = {errno.ENOSPC, errno.EDQUOT}
#: A folder may be removed as empty by another process between its making and its use.
_FOLDER_TRIES = 20


@contextmanager
def refusals(root: Path, relative: str) -> Iterator[None]:
    """Translate what the disk of a file system refuses while something is done to `relative`.

    Raises:
        NoSpace: bytes, inodes or quota are used up.
        StorageError: any other refusal.
    """
    try:
        yield
    except OSError as exc:
        said = exc.strerror or str(exc)
        if exc.errno in _FULL:
            raise errors.NoSpace(f"File system {root} is full: {relative} not written ({said})") from exc
        if isinstance(exc, FileExistsError):
            raise errors.StorageError(f"{root / relative} exists already, and no file is replaced") from exc
        raise errors.StorageError(f"{root / relative} could not be written or removed: {said}") from exc


def create(root: Path, path: Path) -> int:
    """Open a new file for writing and reading, making the folders on the way.

    Each new folder is entered in its parent for good.
    """
    for _ in range(_FOLDER_TRIES):
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640)
        if not root.is_dir():
            break
        _make_folder(root, path.parent)
    raise FileNotFoundError(errno.ENOENT, "its folder is removed again and again, or its file system is gone")


def write_all(descriptor: int, chunk: bytes) -> None:
    """Write all of a chunk."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def rename(part: Path, target: Path) -> None:
    """Give a file its name, which nothing else has; paths are never used twice, so this is a last look only."""
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    part.rename(target)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder safe on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_empty_folders(root: Path, relative: str) -> None:
    """Remove the folders above `relative` that are empty; whoever needs one makes it anew."""
    for parent in PurePosixPath(relative).parents:
        if parent == PurePosixPath("."):
            return
        try:
            root.joinpath(parent).rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return  # not empty, or in use by another process


def _make_folder(root: Path, folder: Path) -> None:
    """Make `folder` and its parents, but never the root: without it the mount is gone."""
    if folder == root or folder.is_dir():
        return
    _make_folder(root, folder.parent)
    with suppress(FileExistsError, FileNotFoundError):
        folder.mkdir()
        sync_folder(folder.parent)
