"""One object on its way to disk, which goes on to the next file system where one is full."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from archive import errors
from archive.storage import files, health
from archive.storage.choosing import Chooser
from archive.storage.files import Part, Step
from archive.storage.naming import Name, Names

T = TypeVar("T")


class Placing:
    """Writes one file under a reserved name.

    Every method raises NoPlace when no file system of the group has space, StorageError when a disk refused
    otherwise. At the end comes `enter`, or `abandon`.
    """

    def __init__(self, chooser: Chooser, names: Names, series: tuple[str, str], after_step: Step) -> None:
        """Begin a file for an object of a series, given as (study UID, series UID). Step: `listed`."""
        self._chooser = chooser
        self._names = names
        self._series = series
        self._after_step = after_step
        #: The file, and its place on the unlink list; None before the first and after `abandon`.
        self._begun: tuple[Part, Name] | None = None
        #: Why file systems did not take this object, by number.
        self._refused: dict[int, str] = {}
        self._is_settled = False
        self.file_system = chooser.current()
        self._begin_somewhere()

    @property
    def part(self) -> Part:
        """The file."""
        return self._both()[0]

    @property
    def name(self) -> Name:
        """Its place on the unlink list."""
        return self._both()[1]

    def append(self, chunk: bytes) -> None:
        """Write more of the object."""
        self._insist(lambda: self.part.append(chunk))

    def settle(self) -> None:
        """Make the file safe on disk under its name, here or not at all. Steps: `part`, `renamed`, `synced`."""
        if self._is_settled:
            return
        part = self.part
        part.sync()
        self._after_step("part")
        part.rename()
        self._after_step("renamed")
        files.sync_folders(part.root, [part.folder])
        self._after_step("synced")
        self._is_settled = True

    def finish(self) -> None:
        """Make the file safe on disk under its name, on another file system if this one is full."""
        self._insist(self.settle)

    def enter(self, index: Callable[[], T]) -> T:
        """Run what settles and indexes the file, once more with a new name if a sweep has cleared the one it had.

        What `index` raises as StorageError means that nothing was committed: the file is abandoned. After any other
        error nobody knows: the file stays, and the unlink list tells whether it is to be removed.
        """
        try:
            try:
                return index()
            except errors.Interrupted:
                self._names.close()
                self._begin_somewhere()
                return index()
        except (errors.StorageError, errors.SourceError):
            self.abandon()
            raise
        finally:
            if self._begun is not None:
                self.part.close()

    def abandon(self) -> None:
        """Take the file off the disk, and give its name back if that went well."""
        if self._begun is not None:
            (part, name), self._begun = self._begun, None
            part.abandon()
            self._give_back(name)

    def _both(self) -> tuple[Part, Name]:
        if self._begun is None:
            raise RuntimeError("the file was abandoned")
        return self._begun

    def _insist(self, act: Callable[[], None]) -> None:
        """Do something to the file; where its file system is full, go on with what was written on the next."""
        while True:
            try:
                return act()
            except errors.NoSpace as full:
                self._move(full)

    def _move(self, full: errors.NoSpace) -> None:
        self._refused[self.file_system.id] = str(full)
        self.file_system = self._chooser.full(self._refused)
        self._begin_somewhere()

    def _begin_somewhere(self) -> None:
        try:
            self._begin()
        except errors.NoSpace as full:
            self._move(full)

    def _begin(self) -> None:
        """Begin a file under a new name, with what the one before has, which is gone then."""
        name = self._names.take(self.file_system, *self._series)
        root = Path(name.root)
        self._after_step("listed")
        try:
            part = Part(root, name.path) if self._begun is None else self.part.taken_over(root, name.path)
        except errors.StorageError:
            self._give_back(name)
            raise
        self.abandon()
        self._begun = (part, name)
        self._is_settled = False

    def _give_back(self, name: Name) -> None:
        """Give a name back if nothing is on disk under it; of a disk that is not mounted nobody knows."""
        root = Path(name.root)
        paths = [root / name.path, root / (name.path + files.PART)]
        if (root / health.MARKER).exists() and not any(map(os.path.lexists, paths)):
            self._names.give_back(name)
