"""One object on its way to disk, which goes on to the next file system where one is full or unmounted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from archive import errors, model
from archive.storage import files, health
from archive.storage.choosing import Chooser
from archive.storage.files import Part, Step
from archive.storage.naming import LATEST_BEGIN_S, Name, Names

T = TypeVar("T")

#: Bytes of one object between two looks at the free space: however long it is, it does not use up the minimum.
LOOK_EVERY = 256 << 20


class Placing:
    """Writes one file under a reserved name.

    Every method raises NoPlace when no file system of the group has space or is mounted, StorageError when a disk
    refused otherwise. At the end comes `enter`, or `abandon`.
    """

    def __init__(
        self,
        chooser: Chooser,
        names: Names,
        series: tuple[str, str],
        after_step: Step,
        *,
        ahead_on: model.FileSystem | None = None,
    ) -> None:
        """Begin a file for an object of a series, given as (study UID, series UID). Step: `listed`.

        With `ahead_on`, on that file system, for an object that may come: `is_for` tells whether it can be used then.
        """
        self._chooser = chooser
        self._names = names
        self._series = series
        self._after_step = after_step
        #: The file, its place on the unlink list, and where; None before the first and after `abandon`.
        self._begun: tuple[Part, Name, model.FileSystem] | None = None
        #: Why the file cannot be made safe. The disk tells of a failed sync once only: a second one that succeeds
        #: proves nothing.
        self._failed: errors.StorageError | None = None
        #: Why file systems did not take this object, by number.
        self._refused: dict[int, str] = {}
        self._is_settled = False
        #: Size at which the free space is looked at again.
        self._next_look = LOOK_EVERY
        #: By the monotonic clock, in seconds.
        self._begun_at = time.monotonic()
        self.file_system = ahead_on or chooser.current()
        self._begin_somewhere()

    def is_for(self, series: tuple[str, str]) -> bool:
        """Tell whether an object of a series that comes only now would still go where this file is.

        Raises:
            NoPlace: no file system of the group takes it.
        """
        is_young = time.monotonic() - self._begun_at < LATEST_BEGIN_S
        return self._series == series and is_young and self._chooser.current().id == self.file_system.id

    @property
    def part(self) -> Part:
        """The file."""
        return self._all()[0]

    @property
    def name(self) -> Name:
        """Its place on the unlink list."""
        return self._all()[1]

    @property
    def is_settled(self) -> bool:
        """Whether the file is safe on disk."""
        return self._is_settled

    def append(self, chunk: bytes) -> None:
        """Write more of the object; where the minimum of the group is reached, it goes on on the next file system."""
        self._insist(lambda: self.part.append(chunk))
        if self.part.size_bytes >= self._next_look:
            self._next_look = self.part.size_bytes + LOOK_EVERY
            self._insist(lambda: self._chooser.require_space(self.file_system))

    def settle(self) -> None:
        """Make the file safe on disk under its name, here or not at all. Steps: `part`, `renamed`, `synced`.

        Once it has failed it fails for the same reason until the file is on another file system.

        Raises:
            Unfit: `finish` can still do it, on another file system.
        """
        if self._is_settled:
            return
        if self._failed is not None:
            raise self._failed
        part = self.part
        try:
            with self._told_apart(part):
                part.sync()
                self._after_step("part")
                part.rename()
                self._after_step("renamed")
                part.sync_folder()
                self._after_step("synced")
            self._chooser.require_on(self.file_system, part.disk)
        except errors.StorageError as exc:
            self._failed = exc
            raise
        self._is_settled = True

    def finish(self) -> None:
        """Make the file safe on disk under its name, on another file system if this one is full or unmounted."""
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
            (part, name, file_system), self._begun = self._begun, None
            part.abandon()
            self._give_back(name, file_system)

    def _all(self) -> tuple[Part, Name, model.FileSystem]:
        if self._begun is None:
            raise RuntimeError("the file was abandoned")
        return self._begun

    def _insist(self, act: Callable[[], None]) -> None:
        """Do something to the file; where its file system is unfit, go on with what was written on the next."""
        while True:
            try:
                return act()
            except errors.Unfit as unfit:
                self._move(unfit)

    def _move(self, unfit: errors.Unfit) -> None:
        self._refused[self.file_system.id] = str(unfit)
        self.file_system = self._chooser.full(self._refused)
        self._begin_somewhere()

    def _begin_somewhere(self) -> None:
        try:
            self._begin()
        except errors.Unfit as unfit:
            self._move(unfit)

    @contextmanager
    def _told_apart(self, part: Part | None = None) -> Iterator[None]:
        """Tell a disk that refuses from one that is not there any more, of which NotMounted is raised."""
        try:
            yield
        except errors.StorageError as exc:
            if part is not None and not isinstance(exc, errors.Unfit):
                self._chooser.require_on(self.file_system, part.disk)
            told = health.told_apart(self.file_system, exc)
            if told is exc:
                raise
            raise told from exc

    def _begin(self) -> None:
        """Begin a file under a new name, with what the one before has, which is gone then."""
        name = self._names.take(self.file_system, *self._series)
        root = Path(name.root)
        self._after_step("listed")
        try:
            with self._told_apart():
                part = Part(root, name.path) if self._begun is None else self.part.taken_over(root, name.path)
        except errors.StorageError:
            self._give_back(name, self.file_system)
            raise
        self.abandon()
        self._begun = (part, name, self.file_system)
        self._is_settled, self._failed = False, None

    def _give_back(self, name: Name, file_system: model.FileSystem) -> None:
        """Give a name back if nothing is on disk under it; of a disk that is not mounted nobody knows."""
        root = Path(name.root)
        paths = [root / name.path, root / (name.path + files.PART)]
        if health.marker_problem_of(file_system) is None and not any(map(os.path.lexists, paths)):
            self._names.give_back(name)
