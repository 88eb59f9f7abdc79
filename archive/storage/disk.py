"""What is done to a disk, step by step: make, name, sync, remove; and what its refusals mean."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from archive import errors

_FULL = {errno.ENOSPC, errno.EDQUOT}
#: A folder may be removed as empty by another process between its making and its use.
_FOLDER_TRIES = 20
#: Folders that are remembered at once, about 200 bytes each.
_MOST_KNOWN = 10_000

#: What tells a folder from one that was made in its place: disk, inode, and the inode's generation, because file
#: systems give the number of an inode that is free to the next folder.
_Identity = tuple[int, int, bytes | int]

#: FS_IOC_GETVERSION: the generation of an inode.
_GENERATION = 0x80007601 | struct.calcsize("l") << 16


class _Known(NamedTuple):
    """A folder that this process has seen synced, up to the root, and what it was then."""

    root: Path
    identity: _Identity


#: That a folder is there is not enough: who made it may not have come to sync its parent yet, and a power cut would
#: take it away with all that others stored in it.
_known: dict[Path, _Known] = {}
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


def create(root: Path, path: Path, mode: int = 0o640) -> int:
    """Open a new file for writing and reading, making the folders on the way.

    Each folder is entered in its parent for good, whoever has made it; at the latest by `sync_folder`, if others
    remove it and make it anew meanwhile.
    """
    for _ in range(_FOLDER_TRIES):
        with suppress(FileNotFoundError):
            _make_folder(root, path.parent)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
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
    """Make the names in a folder safe on disk.

    If it is another one than `create` knew, it is entered in its parent anew: whoever has made it in place of the
    first may not have come to do so. What was stored in it keeps it from being removed once more.
    """
    known = _known.get(folder)
    with _opened(folder) as descriptor:
        os.fsync(descriptor)
        is_another = known is not None and known.identity != _identity(descriptor, folder)
    if known is not None and is_another:
        _forget(known.root, folder)
        _make_folder(known.root, folder)


def top_of(folder: Path) -> Path:
    """Return the highest folder above one from which on all can be opened: a root for those that have none."""
    top = folder
    while not top.is_dir() and top != top.parent:
        top = top.parent
    while os.access(top.parent, os.R_OK | os.X_OK) and top != top.parent:
        top = top.parent
    return top


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
            _known.pop(folder, None)
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
    # Before its parent is synced: if it is replaced between the two, the next look finds that out.
    with _opened(folder) as descriptor:
        identity = _identity(descriptor, folder)
    sync_folder(folder.parent)
    with _known_lock:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[folder] = _Known(root, identity)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _identity(descriptor: int, folder: Path) -> _Identity:
    """Return what an open folder is; where the disk tells no generation, the time of change of its parent stands in."""
    found = os.fstat(descriptor)
    try:
        return found.st_dev, found.st_ino, fcntl.ioctl(descriptor, _GENERATION, bytes(8))
    except OSError:
        return found.st_dev, found.st_ino, folder.parent.stat().st_mtime_ns


def _forget(root: Path, folder: Path) -> None:
    """Forget a folder that another process has removed, and those above it: they may be gone too."""
    with _known_lock:
        while folder != root:
            _known.pop(folder, None)
            folder = folder.parent
