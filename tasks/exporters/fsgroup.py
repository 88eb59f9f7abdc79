"""`fsgroup:ID` copies objects into another file-system group of the device, where the rules of deletion see them."""

from __future__ import annotations

from dataclasses import replace

import structlog

from archive import db
from archive.errors import SourceError, StorageError
from archive.query import StoredObject
from archive.storage import file_systems
from archive.storage.choosing import Chooser
from archive.storage.copies import Copier
from config.device import Device, Exporter, FileSystemGroup
from tasks.errors import InvalidError, TaskError
from tasks.exporters.counting import Tally
from tasks.outcome import Outcome
from tasks.work import Work

_log = structlog.get_logger()

#: Seconds between two attempts at an object while the database is away.
_AGAIN_AFTER_S = 1.0


class GroupOfFileSystems:
    """Copies objects, digest-checked, each with a file row, and its study with a ledger row."""

    reads_files = True

    def check(self, exporter: Exporter, device: Device) -> None:
        """Refuse a group that the device does not have."""
        if exporter.target not in device.file_system_groups:
            known = " or ".join(sorted(device.file_system_groups)) or "one that it has, there is none"
            raise InvalidError(
                f"Exporter {exporter.id} has dcmURI {exporter.uri}, expected a file-system group of device "
                f"{device.name}: {known}"
            )

    def destination(self, exporter: Exporter) -> str | None:
        """Return None: the group is the device's own."""
        del exporter
        return None

    def send(self, exporter: Exporter, objects: list[StoredObject], work: Work) -> Outcome:
        """Copy what the group has no good copy of.

        Raises:
            TaskError: no file system of the group takes objects, or one cannot be written; the text says why.
            PermanentError: files of the study are gone; all that is left was copied.
        """
        group = work.device.file_system_groups[exporter.target]
        _make(group, work)
        # Also what was confirmed is looked at: it may have been deleted since.
        tally = Tally(exporter, objects, work, done=())
        try:
            with Copier(Chooser(work.device.name, group)) as copier:
                for item in tally.missing:
                    work.begin(item.sop_uid)
                    _copy(copier, item, work, tally)
        finally:
            tally.close()
        return tally.outcome()


def _make(group: FileSystemGroup, work: Work) -> None:
    """Make the file systems of the group that are not there yet; whether one takes objects is seen by the chooser."""
    alone = replace(work.device, file_system_groups={group.id: group})
    try:
        db.insist(lambda session: file_systems.ensure(session, alone, work.home))
    except StorageError as error:
        _log.warning("file systems not made", group=group.id, error=str(error))


def _copy(copier: Copier, item: StoredObject, work: Work, tally: Tally) -> None:
    try:
        _insist(copier, item, work)
    except SourceError as error:
        tally.unreadable(item, error)
    except StorageError as error:
        tally.refused(item, str(error))
        raise TaskError(f"{tally.text()}: {error}") from error
    else:
        tally.sent(item)


def _insist(copier: Copier, item: StoredObject, work: Work) -> None:
    """Copy an object, again while the database is away: it is copied once, however often that is asked for."""
    while True:
        try:
            copier.copy(item)
        except db.OUTAGES:
            work.wait(_AGAIN_AFTER_S)
        else:
            return
