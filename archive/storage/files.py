"""Files below the root of a file system: where they go, how they get there, and how they leave."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

from archive import errors

#: Suffix of a file that is not yet whole; its name is known from the final path.
PART = ".part"

_CHUNK = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
#: A folder may be removed as empty by another process between its making and its use.
_FOLDER_TRIES = 20

#: Called with the name of each step done; tests end the process there.
Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Written:
    """A file that is whole on disk."""

    #: Below the root, separated by /.
    path: str
    size_bytes: int
    #: 64 hexadecimal digits.
    sha256: str


def no_step(step: str) -> None:
    """Do nothing after a step."""


def path_for(study_uid: str, series_uid: str, sop_uid: str, now: datetime) -> str:
    """Return a new path for an object: date, then hashes of its UIDs, then a token.

    The token makes each path unique for all time, so that removing an old copy can never hit a new one.
    """
    study, series, sop = (hashlib.sha256(uid.encode()).hexdigest() for uid in (study_uid, series_uid, sop_uid))
    return f"{now:%Y/%m/%d}/{study[:10]}/{series[:10]}/{sop[:16]}-{secrets.token_hex(4)}"


def within(root: Path, relative: str) -> Path:
    """Return the absolute path of `relative`.

    Raises:
        UnsafePath: it is absolute, climbs, is empty, or a link on the way leads out of the root.
    """
    parts = relative.split("/")
    if "\0" in relative or "\\" in relative or any(part in ("", ".", "..") for part in parts):
        raise errors.UnsafePath(f"Path {relative!r} is not a plain relative path below {root}")
    target = root.joinpath(*parts)
    if not target.parent.resolve().is_relative_to(root.resolve()):
        raise errors.UnsafePath(f"Path {relative!r} leads out of {root} through a link")
    return target


def write(
    root: Path,
    relative: str,
    content: bytes | Iterable[bytes],
    *,
    unsynced: set[Path] | None = None,
    after_step: Step = no_step,
) -> Written:
    """Write a new file so that it is on disk whole, under its name, or not at all.

    Steps: `part` (written and synced under a temporary name), `renamed`, `synced` (its folder too).
    With `unsynced`, the folder is added to it instead, and the caller syncs (`sync_folders`).
    What `content` raises while it is read goes through, with nothing left behind.

    Raises:
        NoSpace: bytes, inodes or quota are used up.
        StorageError: it exists already, or the disk refused.
        UnsafePath: `relative` would leave the root.
    """
    target = within(root, relative)
    part, ours = target.with_name(target.name + PART), None
    try:
        with _disk(root, relative):
            descriptor = _create(root, part)
        ours = part
        size_bytes, sha256 = _fill(descriptor, content, root, relative)
        after_step("part")
        with _disk(root, relative):
            _rename(part, target)
        ours = target
        after_step("renamed")
        if unsynced is None:
            sync_folders(root, [target.parent])
            after_step("synced")
        else:
            unsynced.add(target.parent)
    except BaseException:
        _undo(root, relative, ours)
        raise
    return Written(relative, size_bytes, sha256)


def sync_folders(root: Path, folders: Iterable[Path]) -> None:
    """Make the names of files for good that were written with these folders left unsynced.

    Raises:
        StorageError: the disk refused.
    """
    for folder in sorted(folders):
        with _disk(root, folder.relative_to(root).as_posix()):
            _sync_folder(folder)


def verify(path: Path, size_bytes: int, sha256: str) -> str | None:
    """Compare a file with what the index says; return what is wrong with it, None if nothing.

    Raises:
        StorageError: the file is there but could not be read.
    """
    try:
        found = path.stat().st_size
        if found != size_bytes:
            return f"{path} has {found} bytes, expected {size_bytes}"
        digest = digest_of(path)
    except FileNotFoundError:
        return f"{path} does not exist, expected {size_bytes} bytes"
    except OSError as exc:
        raise errors.StorageError(f"{path} cannot be read: {exc.strerror}") from exc
    return None if digest == sha256 else f"{path} has SHA-256 {digest}, expected {sha256}"


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def chunks_of(path: Path) -> Iterable[bytes]:
    """Read a file piece by piece."""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def remove(root: Path, relative: str) -> bool:
    """Unlink a file and what is left of its writing, then its empty folders; tell whether it was there.

    Raises:
        StorageError: the disk refused.
        UnsafePath: `relative` would leave the root.
    """
    target = within(root, relative)
    was_there = False
    for path in (target, target.with_name(target.name + PART)):
        with _disk(root, relative), suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
            was_there = True
    _remove_empty_folders(root, relative)
    return was_there


@contextmanager
def _disk(root: Path, relative: str) -> Iterator[None]:
    """Translate what the destination's disk refuses; errors of the content never pass through here."""
    try:
        yield
    except OSError as exc:
        said = exc.strerror or str(exc)
        if exc.errno in _FULL:
            raise errors.NoSpace(f"File system {root} is full: {relative} not written ({said})") from exc
        if isinstance(exc, FileExistsError):
            raise errors.StorageError(f"{root / relative} exists already, and no file is replaced") from exc
        raise errors.StorageError(f"{root / relative} could not be written or removed: {said}") from exc


def _create(root: Path, part: Path) -> int:
    """Open a new file, making the folders on the way; each new folder is entered in its parent for good."""
    for _ in range(_FOLDER_TRIES):
        try:
            _make_folder(root, part.parent)
            return os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640)
        except FileNotFoundError:
            if not root.is_dir():
                raise
    raise FileNotFoundError(errno.ENOENT, "its folder is removed again and again")


def _make_folder(root: Path, folder: Path) -> None:
    """Make `folder` and its parents, but never the root: without it the mount is gone."""
    if folder == root or folder.is_dir():
        return
    _make_folder(root, folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    _sync_folder(folder.parent)


def _fill(descriptor: int, content: bytes | Iterable[bytes], root: Path, relative: str) -> tuple[int, str]:
    """Write everything and sync; return the size in bytes and the digest."""
    digest = hashlib.sha256()
    size_bytes = 0
    try:
        for chunk in [content] if isinstance(content, bytes) else content:
            digest.update(chunk)
            size_bytes += len(chunk)
            with _disk(root, relative):
                _write_all(descriptor, chunk)
        with _disk(root, relative):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return size_bytes, digest.hexdigest()


def _write_all(descriptor: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _rename(part: Path, target: Path) -> None:
    """Give the file its name; unlike rename, link refuses to replace what is there."""
    try:
        os.link(part, target)
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from exc
        part.rename(target)
        return
    try:
        part.unlink()
    except OSError:
        target.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _undo(root: Path, relative: str, ours: Path | None) -> None:
    """Take back what of a file is on disk; a sweep of the unlink list finds what resists."""
    with suppress(OSError):
        if ours is not None:
            ours.unlink(missing_ok=True)
    _remove_empty_folders(root, relative)


def _remove_empty_folders(root: Path, relative: str) -> None:
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
