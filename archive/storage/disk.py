"""What is done to a disk, step by step: make, name, sync, remove; and what its refusals mean."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from archive import errors

_FULL = {errno.ENOSPC, errno.EDQUOT}
#: A folder may be removed as empty by another process between its making and its use.
_FOLDER_TRIES = 20
#: Folders that are remembered at once, about 200 bytes each.
_MOST_KNOWN = 10_000

#: Folders that this process has seen synced, up to the root. That a folder is there is not enough: who made it may
#: not have come to sync its parent yet, and a power cut would take it away with all that others stored in it.
_known: set[Path] = set()
_known_lock = threading.Lock()


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

    Each folder is entered in its parent for good, whoever has made it.
    """
    for _ in range(_FOLDER_TRIES):
        with suppress(FileNotFoundError):
            _make_folder(root, path.parent)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640)
        if not root.is_dir():
            break
        _forget(root, path.parent)
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


def remove_empty_folders(root: Path, relative: str) -> Path:
    """Remove the folders above `relative` that are empty; whoever needs one makes it anew.

    Returns:
        The first folder that stays: when it is synced, all of this is safe on disk.
    """
    for parent in PurePosixPath(relative).parents:
        folder = root.joinpath(parent)
        if folder == root:
            break
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            return folder  # not empty, or in use by another process
        with _known_lock:
            _known.discard(folder)
    return root


def _make_folder(root: Path, folder: Path) -> None:
    """Make `folder` and its parents safe on disk, but never the root: without it the mount is gone.

    Costs nothing for a folder that is known.
    """
    if folder == root or folder in _known:
        return
    _make_folder(root, folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    sync_folder(folder.parent)
    with _known_lock:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known.add(folder)


def _forget(root: Path, folder: Path) -> None:
    """Forget a folder that another process has removed, and those above it: they may be gone too."""
    with _known_lock:
        while folder != root:
            _known.discard(folder)
            folder = folder.parent
