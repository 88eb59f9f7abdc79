"""Importing a folder: every DICOM object in it is stored once, everything else is counted and named."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from archive import db, errors, ledger
from archive.storage import file_systems, files, header, ingest, unlinking
from archive.storage.choosing import Chooser
from config.device import Device

#: Objects, and bytes, that share two transactions.
_BATCH = 50
_BATCH_BYTES = 128 << 20

#: Called with the files done and the files found.
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class ImportResult:
    """What became of the files of a folder; names are paths as they were found."""

    stored: int = 0
    duplicates: int = 0
    #: Files whose SOP Instance UID is there with other content; what was there first is kept.
    differing: list[str] = field(default_factory=list)
    #: Files that are no storable objects, each with the reason.
    refused: list[tuple[str, str]] = field(default_factory=list)
    #: Files that could not be read or written, each with the reason.
    failed: list[tuple[str, str]] = field(default_factory=list)
    #: Bytes stored.
    bytes: int = 0
    #: Study Instance UIDs of what was stored.
    studies: set[str] = field(default_factory=set)
    #: Why the import ended before the last file; None: it did not.
    stopped: str | None = None

    @property
    def is_complete(self) -> bool:
        """Tell whether every object found is now in the archive."""
        return not self.failed and self.stopped is None


def import_folder(device: Device, folder: Path, *, home: Path, progress: Progress | None = None) -> ImportResult:
    """Store every DICOM object below a folder in the device's online file systems.

    Raises:
        SourceError: the folder is not there or not a folder.
        NotConfigured: the device has no group for received objects.
        NoPlace: none of its file systems can be written to.
    """
    found = _count(folder)
    with db.transaction() as session:
        file_systems.ensure(session, device, home)
    chooser = Chooser(device.name, file_systems.storage_group(device))
    chooser.current()
    unlinking.clear_unfinished(device.name)
    result = ImportResult()
    series: set[tuple[str, str]] = set()
    done = 0
    for batch, looked_at in _batches(folder, result):
        _store(chooser, batch, result, series)
        done += looked_at
        if progress is not None:
            progress(done, max(found, done))
        if result.stopped is not None:
            break
    with db.transaction() as session:
        ledger.close_series(session, series)
    return result


def display(path: Path) -> str:
    """Return a path as text that can be printed and encoded whatever its bytes are."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _count(folder: Path) -> int:
    """Count the files below a folder, which must be one."""
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise errors.SourceError(f"Folder {display(folder)}: found {found}, expected a folder with DICOM files")
    return sum(len(names) for _, _, names in os.walk(folder))


def _walk(folder: Path, result: ImportResult) -> Iterator[Path]:
    """Yield the files below a folder by name; folders that cannot be listed are failures."""

    def unreadable(exc: OSError) -> None:
        result.failed.append((display(Path(exc.filename)), f"the folder cannot be listed: {exc.strerror}"))

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        folders.sort()
        yield from (Path(parent, name) for name in sorted(names))


def _batches(folder: Path, result: ImportResult) -> Iterator[tuple[list[ingest.Incoming], int]]:
    """Yield objects to be stored together, and how many files were looked at for them."""
    batch: list[ingest.Incoming] = []
    looked_at = size_bytes = 0
    for path in _walk(folder, result):
        looked_at += 1
        incoming = _incoming(path, result)
        if incoming is not None:
            batch.append(incoming)
            with suppress(OSError):
                size_bytes += path.stat().st_size
        if len(batch) == _BATCH or size_bytes >= _BATCH_BYTES or looked_at == 10 * _BATCH:
            yield batch, looked_at
            batch, looked_at, size_bytes = [], 0, 0
    yield batch, looked_at


def _incoming(path: Path, result: ImportResult) -> ingest.Incoming | None:
    """Read the header of a file; one that is no storable object is noted and left out."""
    name = display(path)
    try:
        if not path.is_file():
            # A pipe would block for ever, a device may never end.
            result.refused.append((name, "not a regular file"))
            return None
        with path.open("rb") as file:
            found = header.read(file)
    except errors.NotStorable as exc:
        result.refused.append((name, str(exc)))
        return None
    except OSError as exc:
        result.failed.append((name, f"could not be read: {exc.strerror or exc}"))
        return None
    return ingest.Incoming(name, found, partial(files.chunks_of, path))


def _store(
    chooser: Chooser,
    batch: list[ingest.Incoming],
    result: ImportResult,
    series: set[tuple[str, str]],
) -> None:
    """Store a batch and book the results; what finds a disk full or gone goes to the next, until none is left."""
    unfit: dict[int, str] = {}
    while batch:
        try:
            target = chooser.full(unfit) if unfit else chooser.current()
            results = ingest.store(target, batch)
        except errors.Unfit as exc:
            unfit[target.id] = str(exc)
            continue
        except errors.StorageError as exc:
            result.failed += [(incoming.name, str(exc)) for incoming in batch]
            result.stopped = str(exc)
            return
        batch = []
        for one in results:
            if isinstance(one.error, errors.Unfit):
                batch.append(one.incoming)
                unfit[target.id] = str(one.error)
            else:
                _book(one, result, series)


def _book(one: ingest.Result, result: ImportResult, series: set[tuple[str, str]]) -> None:
    """Note what became of an object; a disk that refuses ends the import."""
    match one.ending:
        case ingest.Ending.STORED:
            result.stored += 1
            result.bytes += one.size_bytes
            result.studies.add(one.incoming.header.study_uid)
            series.add((one.incoming.header.study_uid, one.incoming.header.series_uid))
        case ingest.Ending.DUPLICATE:
            result.duplicates += 1
        case ingest.Ending.DIFFERS:
            result.differing.append(one.incoming.name)
        case ingest.Ending.FAILED:
            result.failed.append((one.incoming.name, str(one.error)))
            if isinstance(one.error, errors.StorageError):
                result.stopped = str(one.error)
