"""Is a file system what its row says? Marker file, mount-failed file, write probe."""

from __future__ import annotations

import json
import os
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archive import errors, model
from archive.storage import answers, files
from archive.storage.answers import Sort

#: Lies in the root of each file system of ours.
MARKER = ".arcfleet-fs"
#: Lies in the mount point below; a good mount hides it. Source: manual of dcm4chee 2, MountFailedCheckFile.
MOUNT_FAILED = "NO_MOUNT"


@dataclass(frozen=True, slots=True)
class Marker:
    """What a marker file says: which file system this is."""

    uuid: uuid.UUID
    group: str
    device: str


def problem_of(file_system: model.FileSystem) -> str | None:
    """Return why a file system must neither be written nor unlinked on, None if it is healthy.

    Names the path, what was found and what was expected. Writes and removes a small file. Returns in limited time,
    also of a disk that hangs.
    """
    problem = marker_problem_of(file_system)
    if problem is not None:
        return problem
    root = Path(file_system.path)
    return _answered(root, lambda: _probe(root), Sort.WRITE)


def marker_problem_of(file_system: model.FileSystem) -> str | None:
    """Return why the folder is not the file system of the row, None if it is; only reads, in limited time."""
    root = Path(file_system.path)
    return _answered(root, lambda: _marker_problem_of(file_system, root))


def _answered(root: Path, look: Callable[[], str | None], sort: Sort = Sort.READ) -> str | None:
    try:
        return answers.ask(root, look, sort)
    except errors.StorageError as exc:
        return str(exc)


def _marker_problem_of(file_system: model.FileSystem, root: Path) -> str | None:
    problem = mount_problem_of(root)
    if problem is not None:
        return problem
    try:
        found = read_marker(root)
    except errors.StorageError as exc:
        return str(exc)
    if found is None:
        return (
            f"File system {root}: no {MARKER} in it, expected one with uuid {file_system.marker}; is the disk mounted?"
        )
    if found.uuid != file_system.marker:
        return (
            f"File system {root}: {MARKER} has uuid {found.uuid} (device {found.device}, "
            f"group {found.group}), expected {file_system.marker}; another disk is mounted there"
        )
    return None


def told_apart(file_system: model.FileSystem, refusal: errors.StorageError) -> errors.StorageError:
    """Return the refusal of a disk, or NotMounted in its place if that disk is not there any more."""
    problem = None if isinstance(refusal, errors.Unfit) else marker_problem_of(file_system)
    return refusal if problem is None else errors.NotMounted(problem)


def mount_problem_of(root: Path) -> str | None:
    """Return why the folder cannot be a file system at all, None if it can."""
    if not root.is_dir():
        return f"File system {root}: found {'a file' if root.exists() else 'nothing'}, expected a folder"
    if os.path.lexists(root / MOUNT_FAILED):
        return f"File system {root}: found {MOUNT_FAILED}, which a mounted disk would hide; it is not mounted"
    return None


def read_marker(root: Path) -> Marker | None:
    """Read the marker file of a folder; None if there is none.

    Raises:
        StorageError: it cannot be read, or is not one of ours.
    """
    path = root / MARKER
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        return Marker(uuid.UUID(content["uuid"]), str(content["group"]), str(content["device"]))
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise errors.StorageError(f"Marker {path} cannot be read: {exc.strerror}") from exc
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise errors.StorageError(
            f"Marker {path} is not JSON with uuid, group and device; remove it only if this is no archive"
        ) from exc


def write_marker(root: Path, marker: Marker) -> None:
    """Write the marker file of a new file system; the caller keeps others from doing the same.

    Raises:
        StorageError: there is one already, or the disk refused.
    """
    (root / (MARKER + files.PART)).unlink(missing_ok=True)  # of a run that died here
    content = {"uuid": str(marker.uuid), "group": marker.group, "device": marker.device}
    files.write(root, MARKER, json.dumps(content, indent=1).encode() + b"\n")


def _probe(root: Path) -> str | None:
    """Write, sync and remove a small file."""
    name = f".arcfleet-probe-{secrets.token_hex(8)}"
    try:
        files.write(root, name, b"?")
        files.remove(root, name)
    except errors.StorageError as exc:
        return str(exc)
    return None
