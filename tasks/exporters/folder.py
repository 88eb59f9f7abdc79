"""`file:/folder` writes each object as `<study>/<series>/<object>.dcm`, whole or not at all.

dcmProperty `objectsPerSecond` slows it down, for destinations on a thin line.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from archive.query import StoredObject
from config import settings
from config.device import Exporter
from config.errors import SettingsError
from tasks.errors import InvalidError, TaskError
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
        """
        root = settings.current().folder(exporter.uri)
        done = _already_there(objects, root, work)
        missing = [item for item in objects if item.sop_uid not in done]
        _clear_parts({path_of(item, root).parent for item in missing}, work)
        counts = _Counts(total=len(objects), completed=len(done))
        work.progress(numInstances=counts.total, completed=counts.completed, remaining=len(missing), failed=0)
        next_s = now_s()
        for item in missing:
            work.wait(max(0.0, next_s - now_s()))
            next_s = max(now_s(), next_s) + _pause_s(exporter)
            work.begin(item.sop_uid)
            counts.add(_copy(item, root, work))
            work.progress(completed=counts.completed, failed=counts.failed, remaining=counts.remaining)
        return counts.outcome(exporter, objects)


class _Counts:
    def __init__(self, total: int, completed: int) -> None:
        self.total = total
        self.completed = completed
        self.failed = 0

    @property
    def remaining(self) -> int:
        return self.total - self.completed - self.failed

    def add(self, result: ObjectResult) -> None:
        if result is ObjectResult.SENT:
            self.completed += 1
        else:
            self.failed += 1

    def outcome(self, exporter: Exporter, objects: Sequence[StoredObject]) -> Outcome:
        failed = f", failed:{self.failed}" if self.failed else ""
        study = objects[0].study_uid
        message = f"Export Study[uid={study}] to {exporter.uri} - completed:{self.completed}{failed}"
        return Outcome(Status.FAILED if self.failed else Status.COMPLETED, message)


def path_of(item: StoredObject, root: Path) -> Path:
    """Return where an object goes below the folder: its UIDs, which are digits and dots."""
    return root / item.study_uid / item.series_uid / f"{item.sop_uid}.dcm"


def _already_there(objects: Sequence[StoredObject], root: Path, work: Work) -> set[str]:
    confirmed = work.confirmed()
    return {
        item.sop_uid
        for item in objects
        if item.sop_uid in confirmed and _size_of(path_of(item, root)) == item.size_bytes
    }


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _copy(item: StoredObject, root: Path, work: Work) -> ObjectResult:
    try:
        content = _read(item)
    except OSError as error:
        work.record(item.sop_uid, ObjectResult.UNREADABLE, text=str(error))
        return ObjectResult.UNREADABLE
    target = path_of(item, root)
    try:
        _write(target, content, work.run_id)
    except OSError as error:
        text = f"cannot write {target}: {os.strerror(error.errno or 0)}"
        work.record(item.sop_uid, ObjectResult.REFUSED, text=text)
        raise TaskError(f"Folder {root} cannot be written: {os.strerror(error.errno or 0)}") from error
    work.record(item.sop_uid, ObjectResult.SENT)
    return ObjectResult.SENT


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


def _read(item: StoredObject) -> bytes:
    if item.path is None or not item.is_readable:
        raise OSError(f"no good copy of {item.sop_uid} is within reach of this device")
    content = item.path.read_bytes()
    if len(content) != item.size_bytes or hashlib.sha256(content).hexdigest() != item.sha256:
        raise OSError(f"{item.path} is not what was stored: size or digest differs from the index")
    return content


def _write(target: Path, content: bytes, run_id: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{run_id}{_PART}")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


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
