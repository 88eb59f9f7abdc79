"""Files below the root of a file system: where they go, how they get there, and how they leave."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from archive import errors
from archive.storage import disk

#: Suffix of a file that is not yet whole; its name is known from the final path.
PART = ".part"

_CHUNK = 1 << 20
_CLIMBING = {"", ".", ".."}

#: Called with the name of each step done; tests end the process there.
Step = Callable[[str], None]


class Written(NamedTuple):
    """A file that is whole on disk."""

    #: Below the root, separated by /.
    path: str
    size_bytes: int
    #: 64 hexadecimal digits.
    sha256: str


def no_step(step: str) -> None:
    """Do nothing after a step."""


def path_for(study_uid: str, series_uid: str, sop_uid: str | None, now: datetime) -> str:
    """Return a new path for an object: date, then hashes of its UIDs, then a token.

    The token makes each path unique for all time, so that removing an old copy can never hit a new one.
    None: an object that is not yet known.
    """
    study, series, sop = (hashlib.sha256(uid.encode()).hexdigest() for uid in (study_uid, series_uid, sop_uid or ""))
    name = f"{sop[:16]}-{secrets.token_hex(4)}" if sop_uid else secrets.token_hex(12)
    return f"{now:%Y/%m/%d}/{study[:10]}/{series[:10]}/{name}"


def within(root: Path, relative: str) -> Path:
    """Return the absolute path of `relative`.

    Raises:
        UnsafePath: it is absolute, climbs, is empty, or a link on the way leads out of the root.
    """
    return Path(_within(str(root), relative))


def _within(root: str, relative: str) -> str:
    parts = relative.split("/")
    if "\0" in relative or "\\" in relative or not _CLIMBING.isdisjoint(parts):
        raise errors.UnsafePath(f"Path {relative!r} is not a plain relative path below {root}")
    target = f"{root}/{relative}"
    folder = root
    for part in parts[:-1]:
        folder = f"{folder}/{part}"
        # For each object: no pathlib.
        if os.path.islink(folder) and not Path(target).parent.resolve().is_relative_to(Path(root).resolve()):  # noqa: PTH114
            raise errors.UnsafePath(f"Path {relative!r} leads out of {root} through a link")
    return target


class Part:
    """A file below the root of a file system that is being written.

    Every method raises NoSpace (bytes, inodes or quota are used up) or StorageError (the disk refused otherwise);
    what was appended before can still be had by `taken_over`. Who does not come to `keep` calls `abandon`.
    """

    def __init__(self, root: Path, relative: str) -> None:
        """Make the file under its temporary name.

        Raises:
            UnsafePath: `relative` would leave the root.
        """
        self.root = root
        self.relative = relative
        self.size_bytes = 0
        self._target = _within(str(root), relative)
        self._path = self._target + PART
        self._digest = hashlib.sha256()
        with disk.refusals(root, relative):
            self._descriptor = disk.create(str(root), self._path)

    @property
    def path(self) -> Path:
        """Its absolute path, temporary until `rename`."""
        return Path(self._path)

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return Path(self._target).parent

    @property
    def disk(self) -> int:
        """Number of the disk that it lies on (st_dev), whatever is mounted there by now."""
        return os.fstat(self._descriptor).st_dev

    def append(self, chunk: bytes) -> None:
        """Write more; a chunk that is refused counts as not written."""
        with disk.refusals(self.root, self.relative):
            disk.write_all(self._descriptor, chunk)
        self._digest.update(chunk)
        self.size_bytes += len(chunk)

    def sync(self) -> None:
        """Make the content safe on disk."""
        with disk.refusals(self.root, self.relative):
            os.fsync(self._descriptor)

    def rename(self) -> None:
        """Give it its name, which `sync_folders` makes safe."""
        with disk.refusals(self.root, self.relative):
            disk.rename(self._path, self._target)
        self._path = self._target

    def sync_folder(self) -> None:
        """Make its name safe on disk."""
        with disk.refusals(self.root, self.relative):
            disk.sync_folder(os.path.dirname(self._target))  # noqa: PTH120  for each object

    def written(self) -> Written:
        """Return what is in it."""
        return Written(self.relative, self.size_bytes, self._digest.hexdigest())

    def content(self, offset: int = 0) -> bytes:
        """Read at most 1 MB of what was appended, also if the file was unlinked meanwhile; empty at the end."""
        with disk.refusals(self.root, self.relative):
            return os.pread(self._descriptor, min(_CHUNK, max(0, self.size_bytes - offset)), offset)

    def taken_over(self, root: Path, relative: str) -> Part:
        """Return a new file, elsewhere, with what was appended to this one; this one stays.

        Raises:
            NoSpace: there is no space there either; nothing is left there.
            StorageError: this one cannot be read back as it was written, or the disk there refused.
        """
        copy = Part(root, relative)
        try:
            while chunk := self.content(copy.size_bytes):
                copy.append(chunk)
            if copy.written() != Written(relative, self.size_bytes, self._digest.hexdigest()):
                raise errors.StorageError(f"{self._path} cannot be read back as it was written")
        except BaseException:
            copy.abandon()
            raise
        return copy

    def close(self) -> None:
        """Let go of a file that was kept."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def abandon(self) -> None:
        """Take it off the disk; a sweep of the unlink list finds what resists."""
        self.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        disk.remove_empty_folders(self.root, self.relative)


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
    part = Part(root, relative)
    try:
        for chunk in [content] if isinstance(content, bytes) else content:
            part.append(chunk)
        part.sync()
        after_step("part")
        part.rename()
        after_step("renamed")
        if unsynced is None:
            sync_folders(root, [part.folder])
            after_step("synced")
        else:
            unsynced.add(part.folder)
    except BaseException:
        part.abandon()
        raise
    part.close()
    return part.written()


def sync_folders(root: Path, folders: Iterable[Path]) -> None:
    """Make the names of files for good that were written with these folders left unsynced.

    Raises:
        StorageError: the disk refused.
    """
    for folder in sorted(folders):
        with disk.refusals(root, folder.relative_to(root).as_posix()):
            disk.sync_folder(folder)


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


def remove(root: Path, relative: str, *, unsynced: set[Path] | None = None) -> bool:
    """Unlink a file and what is left of its writing, then its empty folders; tell whether it was there.

    It is gone for good then, also if another had unlinked it before. With `unsynced`, the folder that it left is
    added to it instead, and the caller syncs (`sync_remaining`).

    Raises:
        StorageError: the disk refused.
        UnsafePath: `relative` would leave the root.
    """
    target = within(root, relative)
    was_there = False
    for path in (target, target.with_name(target.name + PART)):
        with disk.refusals(root, relative), suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
            was_there = True
    left = disk.remove_empty_folders(root, relative)
    if unsynced is None:
        sync_remaining(root, [left])
    else:
        unsynced.add(left)
    return was_there


def sync_remaining(root: Path, folders: Iterable[Path]) -> None:
    """Make it good that files have left these folders; where one is gone itself, the nearest above it is synced.

    Raises:
        StorageError: the disk refused.
    """
    waiting = set(folders)
    while waiting:
        folder = max(waiting)  # those below others first, so that one is synced after all that have left it
        waiting.remove(folder)
        with disk.refusals(root, folder.relative_to(root).as_posix()):
            try:
                disk.sync_folder(folder)
            except (FileNotFoundError, NotADirectoryError):
                if folder == root:
                    raise
                waiting.add(folder.parent)
