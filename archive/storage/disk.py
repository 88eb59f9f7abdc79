"""What is done to a disk, step by step: make, name, sync, remove; and what its refusals mean."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import TracebackType

from archive import errors

_FULL = {errno.ENOSPC, errno.EDQUOT}
#: A folder may be removed as empty by another process between its making and its use.
_FOLDER_TRIES = 20
#: Folders that are remembered at once, about 200 bytes each.
_MOST_KNOWN = 10_000

#: Folders that this process has seen synced, up to the root. That a folder is there is not enough: who made it may
#: not have come to sync its parent yet, and a power cut would take it away with all that others stored in it.
_known: set[str] = set()
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


def create(root: str, path: str) -> int:
    """Open a new file for writing and reading, making the folders on the way.

    Each folder is entered in its parent for good, whoever has made it.
    """
    folder = os.path.dirname(path)  # noqa: PTH120  for each object
    for _ in range(_FOLDER_TRIES):
        try:
            _make_folder(root, folder)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640)
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
            _known.discard(str(folder))
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
    sync_folder(above)
    with _known_lock:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known.add(folder)


def _forget(root: str, folder: str) -> None:
    """Forget a folder that another process has removed, and those above it: they may be gone too."""
    with _known_lock:
        while folder != root:
            _known.discard(folder)
            folder = os.path.dirname(folder)  # noqa: PTH120
