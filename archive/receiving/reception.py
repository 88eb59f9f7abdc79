"""Storing what one association brings, object by object: durable when it is told, whatever dies meanwhile.

A name is on the unlink list before its file is begun; the file is whole on disk before the one transaction that
indexes it and takes its name off the list. Success is told after the commit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import structlog
from sqlalchemy.orm import Session

from archive import db, errors, ledger, model
from archive.receiving import duplicates, first, metadata, quick
from archive.storage import elements, files, header, indexing, naming, presence, rows, turns
from archive.storage.choosing import Chooser
from archive.storage.header import Header
from archive.storage.ingest import Ending
from archive.storage.naming import Names
from archive.storage.placing import Placing
from config.device import Device

#: The header should lie in so many bytes, of which at most twice as many are in memory at once; else it is read from
#: the file.
_LARGEST_HEADER = 4 << 20

#: Series that are known at once; a sender that goes back and forth between more takes the slower way.
_MOST_TARGETS = 64

#: Objects of a series behind which one more is worth a file that may not be used: abandoning it costs a transaction.
_WORTH_PREPARING = 8

#: Seconds from which on a file is made safe before the database is asked, and not meanwhile: the statement locks the
#: study, which others may be storing to, and the disk would be waited for by all of them in turn.
_SLOW_S = 0.003

_log = structlog.get_logger()


class Offered(NamedTuple):
    """An object on its way in."""

    #: As the C-STORE command says.
    sop_class_uid: str
    sop_uid: str
    #: Of the presentation context.
    transfer_syntax_uid: str
    #: The data set as it comes from the wire; can be read once.
    chunks: Iterator[bytes]


class StoreResult(NamedTuple):
    """What became of an object: STORED, DUPLICATE or DIFFERS."""

    ending: Ending
    #: Of the file that was written for it.
    size_bytes: int


class Reception:
    """Stores what one association brings; not to be shared by threads. `close` must come at its end."""

    def __init__(
        self, device: Device, source: str, *, chooser: Chooser, after_step: files.Step = files.no_step
    ) -> None:
        """Begin with nothing.

        Args:
            device: that receives.
            source: AE title that sends.
            chooser: of the group for received objects.
            after_step: called after `listed`, `part`, `renamed`, `synced`, `indexing` (before the commit), `indexed`.
        """
        self._device = device
        self._source = source
        self._chooser = chooser
        self._after_step = after_step
        self._names = Names()
        #: Entries of names that are to be withdrawn at the end, which may have to be repeated.
        self._unused: list[int] = []
        self._targets: dict[tuple[int, str, str], quick.Target] = {}
        self._series: set[tuple[str, str]] = set()
        #: Study and series UID of the object before, and how many of it came one behind the other.
        self._latest = ("", "")
        self._in_a_row = 0
        #: Where it lies.
        self._file_system: model.FileSystem | None = None
        #: Seconds that a file takes to be safe on disk, about.
        self._settling_s = 0.0
        #: For the next object of that series.
        self._prepared: Placing | None = None

    def store(self, offered: Offered) -> StoreResult:
        """Store an object; it is safe on disk and in the index when this returns.

        What `chunks` raises goes through, with nothing left behind.

        Raises:
            NotStorable: it is no data set that can be indexed; NotAsAnnounced: or that of another object.
            NoPlace: no file system of the group takes it.
            StorageError: the disk refused, or others were at the same study all the time.
        """
        beginning, found = _beginning(offered)
        if found is not None:
            _require_announced(offered, found)
        series = (found.study_uid, found.series_uid) if found is not None else ("", "")
        placing = self._placing(series)
        try:
            before = metadata.of(offered.sop_class_uid, offered.sop_uid, offered.transfer_syntax_uid, self._source)
            placing.append(before + beginning)
            for chunk in offered.chunks:
                placing.append(chunk)
            if found is None:
                placing.finish()
                found = _of_file(placing)
                _require_announced(offered, found)
        except BaseException:
            placing.abandon()
            raise
        return self._index(placing, found)

    def prepare(self) -> None:
        """Begin the file of one more object while its sender is busy with it, where many of a series have come.

        What is refused is refused again, and told, when the object comes.
        """
        if self._in_a_row >= _WORTH_PREPARING and self._prepared is None:
            with suppress(errors.StorageError, *db.OUTAGES):
                self._prepared = Placing(
                    self._chooser, self._names, self._latest, self._after_step, ahead_on=self._file_system
                )

    def close(self) -> None:
        """Tell that no more objects come: its series are stored, names in reserve are given back."""
        self._drop_prepared()
        self._unused += self._names.left()
        with db.transaction() as session:
            if self._unused:
                naming.withdraw(session, self._unused)
            ledger.close_series(session, self._series)
        self._unused.clear()
        self._series.clear()
        self._targets.clear()

    def _placing(self, series: tuple[str, str]) -> Placing:
        self._in_a_row = self._in_a_row + 1 if series == self._latest else 1
        self._latest = series
        prepared = self._prepared
        if prepared is not None and prepared.is_for(series):
            self._prepared = None
            return prepared
        self._drop_prepared()
        return Placing(self._chooser, self._names, series, self._after_step)

    def _drop_prepared(self) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared.abandon()

    def _index(self, placing: Placing, found: Header) -> StoreResult:
        """Index a file that is on disk; one that is not taken leaves the disk again."""
        ending = placing.enter(lambda: self._indexed(placing, found))
        self._after_step("indexed")
        self._file_system = placing.file_system
        size_bytes = placing.part.size_bytes
        if ending is not Ending.STORED:
            placing.abandon()
        return StoreResult(ending, size_bytes)

    def _indexed(self, placing: Placing, found: Header) -> Ending:
        if self._settling_s > _SLOW_S:
            self._settle(placing.finish, placing)
        key = (placing.file_system.id, found.study_uid, found.series_uid)
        pending = self._pending(placing, found)
        settle = partial(self._settle, placing.settle, placing)
        target = self._targets.get(key)
        if target is not None and target.fits(found):
            if quick.add(target, pending, settle):
                return Ending.STORED
            del self._targets[key]
        place = first.add(placing.file_system.owner_device, placing.file_system.id, pending, settle)
        if place is not None:
            self._learn(key, place, found)
            return Ending.STORED
        placing.finish()
        pending = self._pending(placing, found)
        key = (placing.file_system.id, found.study_uid, found.series_uid)
        ending, place = turns.in_turn(lambda session: self._index_thoroughly(session, placing, pending), found.sop_uid)
        if place is not None:
            self._learn(key, place, found)
        return ending

    def _settle(self, act: Callable[[], None], placing: Placing) -> None:
        """Make a file safe on disk and note how long that takes, unless it is."""
        if not placing.is_settled:
            began = time.monotonic()
            act()
            self._settling_s += (time.monotonic() - began - self._settling_s) / 4
        self._after_step("indexing")

    def _pending(self, placing: Placing, found: Header) -> rows.Pending:
        return rows.Pending(found, placing.part.written(), placing.name.unlink_id, self._source)

    def _index_thoroughly(
        self, session: Session, placing: Placing, pending: rows.Pending
    ) -> tuple[Ending, rows.Place | None]:
        sop_uid, file_system = pending.header.sop_uid, placing.file_system
        before = presence.known(session, [sop_uid], self._device.name).get(sop_uid)
        if before is None or not indexing.is_taken(pending.header, before):
            replaced = {}
        elif (judged := duplicates.judge(placing.part.path, pending, before, self._device.overwrite_policy)) is None:
            replaced = {sop_uid: before}
        else:
            ledger.touch_again(session, before.study_uid)
            # Now that the study is locked: no deleter has taken away meanwhile what it was compared with.
            if indexing.known(session, [sop_uid]).get(sop_uid) != before:
                raise turns.Raced
            return judged, None
        added = indexing.add(session, file_system.id, [pending], replaced)
        if added.refused:
            raise turns.Raced
        size_bytes = pending.written.size_bytes
        ledger.add_received(session, file_system.owner_device, self._source, size_bytes=size_bytes, objects=1)
        self._after_step("indexing")
        return Ending.STORED, added.places[sop_uid]

    def _learn(self, key: tuple[int, str, str], place: rows.Place, found: Header) -> None:
        self._series.add(key[1:])
        if len(self._targets) >= _MOST_TARGETS:
            self._targets.clear()
        target = quick.Target(self._device.name, key[0], place.study_id, place.series_id)
        self._targets.setdefault(key, target).learn(found)


def _beginning(offered: Offered) -> tuple[bytes, Header | None]:
    """Read as much of an object as its header needs; the header is None if that is too much.

    Raises:
        NotStorable: it has no header that can be indexed.
    """
    read = bytearray()
    next_look = 0
    for chunk in offered.chunks:
        read += chunk
        if len(read) < next_look:
            continue
        whole = bytes(read)
        found = header.of_prefix(whole, offered.transfer_syntax_uid)
        if found is None and len(read) > _LARGEST_HEADER and elements.is_deflated(offered.transfer_syntax_uid):
            # Whoever reads it from the file inflates all of it, and that may be more than any memory takes.
            raise errors.NotStorable(f"its header does not end within {len(read)} deflated bytes")
        if found is not None or len(read) > _LARGEST_HEADER:
            return whole, found
        next_look = 2 * len(read)
    whole = bytes(read)
    return whole, header.of_prefix(whole, offered.transfer_syntax_uid, is_whole=True)


def _of_file(placing: Placing) -> Header:
    with placing.part.path.open("rb") as file:
        return header.read(file)


def _require_announced(offered: Offered, found: Header) -> None:
    said, is_so = (offered.sop_class_uid, offered.sop_uid), (found.sop_class_uid, found.sop_uid)
    if said != is_so:
        raise errors.NotAsAnnounced(
            f"the data set is object {is_so[1]} of class {is_so[0]}, announced was {said[1]} of class {said[0]}"
        )
