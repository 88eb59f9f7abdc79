"""`file:/folder` writes each object as `<study>/<series>/<object>.dcm`, whole or not at all.

dcmProperty `objectsPerSecond` slows it down, for destinations on a thin line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from archive.errors import SourceError
from archive.query import StoredObject
from archive.storage import copying
from config import settings
from config.device import Device, Exporter
from config.errors import SettingsError
from tasks.errors import InvalidError, TaskError
from tasks.exporters import counting
from tasks.exporters.counting import Tally
from tasks.outcome import Outcome
from tasks.work import Work, now_s

#: dcmProperty of the exporter: at most so many objects per second.
OBJECTS_PER_SECOND = "objectsPerSecond"

#: End of the name of a file that is not whole yet; before it stands the id of the run that writes it.
_PART = ".part"


class Folder:
    """Copies objects into a folder. Bytes are those of our file; digest and size are checked while reading."""

    reads_files = True

    def check(self, exporter: Exporter, device: Device) -> None:
        """Refuse a URI without a folder, and a rate that is not a positive number."""
        del device
        try:
            settings.current().folder(exporter.uri)
        except SettingsError as error:
            raise InvalidError(f"Exporter {exporter.id} has dcmURI {error}") from error
        _pause_s(exporter)

    def destination(self, exporter: Exporter) -> str | None:
        """Return the URI: a folder can be held like any other destination."""
        return exporter.uri

    def send(self, exporter: Exporter, objects: list[StoredObject], work: Work) -> Outcome:
        """Write what is missing in the folder.

        Raises:
            TaskError: the folder cannot be written; the text names it and says why.
            PermanentError: files of the study are gone; all that is left was sent.
        """
        root = settings.current().folder(exporter.uri)
        tally = Tally(exporter, objects, work, done=_already_there(objects, root, work))
        _clear_parts({path_of(item, root).parent for item in tally.missing}, work)
        try:
            _send_each(exporter, root, work, tally)
        finally:
            tally.close()
        return tally.outcome()


def _send_each(exporter: Exporter, root: Path, work: Work, tally: Tally) -> None:
    next_s, pause_s = now_s(), _pause_s(exporter)
    for item in tally.missing:
        work.wait(max(0.0, next_s - now_s()))
        next_s = max(now_s(), next_s) + pause_s
        work.begin(item.sop_uid)
        _copy(item, root, work, tally)


def path_of(item: StoredObject, root: Path) -> Path:
    """Return where an object goes below the folder: its UIDs, which are digits and dots."""
    return root / item.study_uid / item.series_uid / f"{item.sop_uid}.dcm"


def _already_there(objects: Sequence[StoredObject], root: Path, work: Work) -> set[str]:
    confirmed = counting.confirmed(objects, work)
    return {
        item.sop_uid
        for item in objects
        if item.sop_uid in confirmed and _is_whole(path_of(item, root), item.size_bytes)
    }


def _is_whole(path: Path, size_bytes: int | None) -> bool:
    try:
        found = path.stat().st_size
    except OSError:
        return False
    # Where our own copy is gone its size is not known: what we wrote under this name was whole.
    return size_bytes is None or found == size_bytes


def _copy(item: StoredObject, root: Path, work: Work, tally: Tally) -> None:
    target = path_of(item, root)
    try:
        copying.copy(item, target, target.with_name(f".{target.name}.{work.run_id}{_PART}"))
    except SourceError as error:
        tally.unreadable(item, error)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        tally.refused(item, f"cannot write {target}: {why}")
        raise TaskError(f"Folder {root} cannot be written: {why}") from error
    else:
        tally.sent(item)


def _clear_parts(folders: set[Path], work: Work) -> None:
    """Remove what runs left that were killed; a late one then cannot rename it any more."""
    parts = [(part, _run_of(part)) for folder in folders for part in folder.glob(f".*{_PART}")]
    # Another task may send other objects of the same series just now.
    writing = work.not_ended({run_id for _, run_id in parts}) if parts else frozenset()
    for part in (part for part, run_id in parts if run_id not in writing):
        with suppress(OSError):  # the folder cannot be written: the first object says so
            part.unlink()


def _run_of(part: Path) -> int:
    run_id = part.name.removesuffix(_PART).rpartition(".")[2]
    return int(run_id) if run_id.isdecimal() else 0


def _pause_s(exporter: Exporter) -> float:
    given = exporter.properties.get(OBJECTS_PER_SECOND)
    if given is None:
        return 0.0
    try:
        rate = float(given)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise InvalidError(
            f"Exporter {exporter.id} has dcmProperty {OBJECTS_PER_SECOND}={given}, expected a number above 0"
        )
    return 1 / rate
