"""Whether what was written lies on the disk that was meant: one may be unmounted, or mounted over, at any time."""

from __future__ import annotations

import os

from archive import errors, model
from archive.storage import health

#: What tells a marker file, once read, from any other: device, inode, size and time of change.
Identity = tuple[int, int, int, int]

_NONE = (0, 0, 0, 0)


def identity(root: str) -> Identity:
    """Return the identity of a file system's marker file; of one that is gone, one that no file has."""
    try:
        found = os.stat(f"{root}/{health.MARKER}")  # noqa: PTH116  asked for each object
    except OSError:
        return _NONE
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class Mounts:
    """Remembers which marker files were read and right, so that the next look costs one call."""

    def __init__(self) -> None:
        self._right: dict[int, Identity] = {}

    def require(self, file_system: model.FileSystem, disk: int) -> None:
        """See that a file system is mounted, and that a file lies on it.

        Args:
            file_system: as its row says.
            disk: on which the file lies, `st_dev` as the file itself says.

        Raises:
            NotMounted: another disk or none is mounted there, or was when the file was begun.
        """
        marker = identity(file_system.path)
        if marker == _NONE or self._right.get(file_system.id) != marker:
            problem = health.marker_problem_of(file_system)
            if problem is not None:
                raise errors.NotMounted(problem)
            self._right[file_system.id] = marker
        if disk != marker[0]:
            raise errors.NotMounted(
                f"File system {file_system.path}: found a file on disk {disk}, expected it on {marker[0]} as "
                f"{health.MARKER} is; it was mounted or unmounted meanwhile"
            )
