"""Copies of stored objects in another file-system group, compared with their digests, each known to the index."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Self

from sqlalchemy import Row, delete, select
from sqlalchemy.orm import Session

from archive import errors, ledger, model
from archive.query import StoredObject
from archive.storage import copying, files, indexing, presence, rows, turns
from archive.storage.choosing import Chooser
from archive.storage.naming import Names
from archive.storage.placing import Placing


class Copier:
    """Copies objects into a group of the device; a context manager, not to be shared by threads."""

    def __init__(self, chooser: Chooser, *, after_step: files.Step = files.no_step) -> None:
        """Begin with nothing.

        Args:
            chooser: of the group that gets the copies.
            after_step: called after `listed`, `part`, `renamed`, `synced`, `indexing` (before the commit).
        """
        self._chooser = chooser
        self._after_step = after_step
        self._names = Names()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        """Give names in reserve back."""
        self._names.close()

    def copy(self, item: StoredObject) -> bool:
        """Copy an object, unless the group has a good copy of the same bytes; returns whether it was copied.

        The copy has a file row and its study a ledger row there when this returns.

        Raises:
            SourceGone: there is no good copy to copy from any more.
            SourceError: that cannot be read now, is not what was stored, or was deleted or replaced meanwhile.
            NoPlace: no file system of the group takes objects.
            StorageError: the disk there refused.
        """
        if turns.in_turn(lambda session: self._has(session, item), item.sop_uid):
            return False
        source = copying.open_source(item)
        try:
            placing = self._written(source, item)
        finally:
            os.close(source)
        is_added = placing.enter(lambda: turns.in_turn(lambda session: self._add(session, placing, item), item.sop_uid))
        if not is_added:
            placing.abandon()
        return is_added

    def _written(self, source: int, item: StoredObject) -> Placing:
        placing = Placing(self._chooser, self._names, (item.study_uid, item.series_uid), self._after_step)
        try:
            while chunk := copying.read_chunk(source, item):
                placing.append(chunk)
            written = placing.part.written()
            copying.compare(item, written.size_bytes, written.sha256)
            placing.finish()
        except BaseException:
            placing.abandon()
            raise
        return placing

    def _add(self, session: Session, placing: Placing, item: StoredObject) -> bool:
        """Index a copy that is on disk, unless another process was faster."""
        indexing.require_listed(session, [placing.name.unlink_id])
        rows.lock_studies(session, [item.study_uid])
        if self._has(session, item):
            return False
        original = session.get(model.File, item.file_id)
        if original is None or original.sha256 != item.sha256:
            raise errors.SourceError(f"{item.path} was deleted or replaced while it was copied")
        written = placing.part.written()
        session.add(
            model.File(
                instance_id=original.instance_id,
                file_system_id=placing.file_system.id,
                path=written.path,
                size_bytes=written.size_bytes,
                sha256=written.sha256,
                transfer_syntax_uid=original.transfer_syntax_uid,
                source=original.source,
            )
        )
        session.execute(delete(model.Unlink).where(model.Unlink.id == placing.name.unlink_id))
        study_id = session.scalars(select(model.Study.id).where(model.Study.study_uid == item.study_uid)).one()
        session.flush()
        ledger.touch(session, [study_id], placing.file_system.id)
        self._after_step("indexing")
        return True

    def _has(self, session: Session, item: StoredObject) -> bool:
        """Tell whether a good copy with the same bytes lies in the group; one that is lost is marked."""
        copies = self._copies_of(session, item)
        lost = [row.id for row in copies if not presence.is_there(row.root, f"{row.root}/{row.path}", row.size_bytes)]
        if presence.mark_lost(session, lost, self._chooser.device_name):
            copies = self._copies_of(session, item)
        return bool(copies)

    def _copies_of(self, session: Session, item: StoredObject) -> Sequence[Row[int, str, str, int]]:
        at, copy = model.FileSystem, model.File
        of_group = (
            select(copy.id, at.path.label("root"), copy.path, copy.size_bytes)
            .join(at, at.id == copy.file_system_id)
            .join(model.Instance, model.Instance.id == copy.instance_id)
            .where(
                model.Instance.sop_uid == item.sop_uid,
                at.owner_device == self._chooser.device_name,
                at.group_id == self._chooser.group.id,
                at.availability.in_([model.Availability.ONLINE, model.Availability.NEARLINE]),
                copy.status.in_(model.GOOD_FILES),
                copy.sha256 == item.sha256,
            )
        )
        return session.execute(of_group).all()
