"""`file:/folder` writes each object as `<study>/<series>/<object>.dcm`, whole or not at all.

dcmProperty `objectsPerSecond` slows it down, for destinations on a thin line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from archive.errors import SourceError
from archive.query import StoredObject
from archive.storage import copying
from archive.storage.copying import SourceGone
from config import settings
from config.device import Exporter
from config.errors import SettingsError
from tasks.errors import InvalidError, PermanentError, TaskError
from tasks.outcome import ObjectResult, Outcome
from tasks.state import Status
from tasks.work import Work, now_s

#: dcmProperty of the exporter: at most so many objects per second.
OBJECTS_PER_SECOND = "objectsPerSecond"

#: End of the name of a file that is not whole yet; before it stands the id of the run that writes it.
_PART = ".part"


class Folder:
    """Copies objects into a folder. Bytes are those of our file; digest and size are checked while reading."""

    reads_files = True

    def check(self, exporter: Exporter) -> None:
        """Refuse a URI without a folder, and a rate that is not a positive number."""
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
        done = _already_there(objects, root, work)
        missing = [item for item in objects if item.sop_uid not in done]
        _clear_parts({path_of(item, root).parent for item in missing}, work)
        counts = _Counts(len(objects), completed=len(done))
        work.progress(numInstances=counts.total, completed=counts.completed, remaining=len(missing), failed=0)
        try:
            _send_each(exporter, missing, root, work, counts)
        finally:
            work.not_reached([item.sop_uid for item in missing[counts.tried :]])
        return counts.outcome(exporter, objects)


def _send_each(exporter: Exporter, missing: list[StoredObject], root: Path, work: Work, counts: _Counts) -> None:
    next_s, pause_s = now_s(), _pause_s(exporter)
    for item in missing:
        work.wait(max(0.0, next_s - now_s()))
        next_s = max(now_s(), next_s) + pause_s
        work.begin(item.sop_uid)
        counts.tried += 1
        _copy(item, root, work, counts)
        work.progress(completed=counts.completed, failed=counts.failed, remaining=counts.remaining)


@dataclass(slots=True)
class _Counts:
    total: int
    completed: int
    failed: int = 0
    #: Of the failed ones: files that no attempt will find again.
    gone: int = 0
    #: Objects that this run has begun.
    tried: int = 0

    @property
    def remaining(self) -> int:
        return self.total - self.completed - self.failed

    def outcome(self, exporter: Exporter, objects: Sequence[StoredObject]) -> Outcome:
        failed = f", failed:{self.failed}" if self.failed else ""
        study = objects[0].study_uid
        message = f"Export Study[uid={study}] to {exporter.uri} - completed:{self.completed}{failed}"
        if self.failed and self.gone == self.failed:
            raise PermanentError(f"{message}: the files of {self.gone} objects are gone")
        return Outcome(Status.FAILED if self.failed else Status.COMPLETED, message)


def path_of(item: StoredObject, root: Path) -> Path:
    """Return where an object goes below the folder: its UIDs, which are digits and dots."""
    return root / item.study_uid / item.series_uid / f"{item.sop_uid}.dcm"


def _already_there(objects: Sequence[StoredObject], root: Path, work: Work) -> set[str]:
    confirmed = work.confirmed()
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


def _copy(item: StoredObject, root: Path, work: Work, counts: _Counts) -> None:
    target = path_of(item, root)
    try:
        copying.copy(item, target, target.with_name(f".{target.name}.{work.run_id}{_PART}"))
    except SourceError as error:
        counts.failed += 1
        counts.gone += isinstance(error, SourceGone)
        work.record(item.sop_uid, ObjectResult.UNREADABLE, text=str(error))
    except OSError as error:
        why = os.strerror(error.errno or 0)
        work.record(item.sop_uid, ObjectResult.REFUSED, text=f"cannot write {target}: {why}")
        raise TaskError(f"Folder {root} cannot be written: {why}") from error
    else:
        counts.completed += 1
        work.record(item.sop_uid, ObjectResult.SENT)


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
