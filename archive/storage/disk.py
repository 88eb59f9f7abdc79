"""What is done to a disk, step by step: make, name, sync, remove; and what its refusals mean."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
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

    root: str
    identity: _Identity


#: That a folder is there is not enough: who made it may not have come to sync its parent yet, and a power cut would
#: take it away with all that others stored in it.
_known: dict[str, _Known] = {}
_known_lock = threading.Lock()


class refusals:  # noqa: N801  used as `with refusals(...)`, for each object several times
    """Translate what the disk of a file system refuses while something is done to `relative`.

    Raises:
        NoSpace: bytes, inodes or quota are used up.
        StorageError: any other refusal.
    """

    __slots__ = ("_relative", "_root")

    def __init__(self, root: Path, relative: str) -> None:
        self._root = root
        self._relative = relative

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        """Raise what a refusal means; anything else goes through."""
        if not isinstance(exc, OSError):
            return
        said = exc.strerror or str(exc)
        if exc.errno in _FULL:
            raise errors.NoSpace(f"File system {self._root} is full: {self._relative} not written ({said})") from exc
        path = self._root / self._relative
        if isinstance(exc, FileExistsError):
            raise errors.StorageError(f"{path} exists already, and no file is replaced") from exc
        raise errors.StorageError(f"{path} could not be written or removed: {said}") from exc


def create(root: str, path: str, mode: int = 0o640) -> int:
    """Open a new file for writing and reading, making the folders on the way.

    Each folder is entered in its parent for good, whoever has made it; at the latest by `sync_folder`, if others
    remove it and make it anew meanwhile.
    """
    folder = os.path.dirname(path)  # noqa: PTH120  for each object
    for _ in range(_FOLDER_TRIES):
        try:
            _make_folder(root, folder)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        except FileNotFoundError:
            if not os.path.isdir(root):  # noqa: PTH112
                break
            _forget(root, folder)
    raise FileNotFoundError(errno.ENOENT, "its folder is removed again and again, or its file system is gone")


def write_all(descriptor: int, chunk: bytes) -> None:
    """Write all of a chunk."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def rename(part: str, target: str) -> None:
    """Give a file its name, which nothing else has; paths are never used twice, so this is a last look only."""
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(part, target)  # noqa: PTH104  for each object


def sync_folder(folder: str | Path) -> None:
    """Make the names in a folder safe on disk.

    If it is another one than `create` knew, it is entered in its parent anew: whoever has made it in place of the
    first may not have come to do so. What was stored in it keeps it from being removed once more.
    """
    folder = str(folder)
    known = _known.get(folder)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
        is_another = known is not None and known.identity != _identity(descriptor, folder)
    finally:
        os.close(descriptor)
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
            _known.pop(str(folder), None)
    return root


def _make_folder(root: str, folder: str) -> None:
    """Make `folder` and its parents safe on disk, but never the root: without it the mount is gone.

    Costs nothing for a folder that is known.
    """
    if folder == root or folder in _known:
        return
    above = os.path.dirname(folder)  # noqa: PTH120
    _make_folder(root, above)
    with suppress(FileExistsError):
        os.mkdir(folder)  # noqa: PTH102
    # Before its parent is synced: if it is replaced between the two, the next look finds that out.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        identity = _identity(descriptor, folder)
    finally:
        os.close(descriptor)
    sync_folder(above)
    with _known_lock:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[folder] = _Known(root, identity)


def _identity(descriptor: int, folder: str) -> _Identity:
    """Return what an open folder is; where the disk tells no generation, the time of change of its parent stands in."""
    found = os.fstat(descriptor)
    try:
        return found.st_dev, found.st_ino, fcntl.ioctl(descriptor, _GENERATION, bytes(8))
    except OSError:
        return found.st_dev, found.st_ino, os.stat(os.path.dirname(folder)).st_mtime_ns  # noqa: PTH116, PTH120


def _forget(root: str, folder: str) -> None:
    """Forget a folder that another process has removed, and those above it: they may be gone too."""
    with _known_lock:
        while folder != root:
            _known.pop(folder, None)
            folder = os.path.dirname(folder)  # noqa: PTH120
