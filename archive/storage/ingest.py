"""Storing objects so that at no point, whatever dies, a file is without its row or a row without its file.

The paths are put on the unlink list, then the files are written, then one transaction indexes them and takes
them off the list. What is left on the list is removed from disk (`storage.unlinking`).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from sqlalchemy.orm import Session

from archive import db, errors, ledger, model
from archive.storage import files, health, indexing, naming, presence, rows, unlinking
from archive.storage.header import Header
from archive.storage.mounts import Mounts
from archive.storage.turns import in_turn


class Ending(StrEnum):
    """What became of an offered object."""

    #: It is on disk and in the index.
    STORED = "stored"
    #: The same bytes are there already.
    DUPLICATE = "duplicate"
    #: Its SOP Instance UID is there with other bytes, which are kept.
    DIFFERS = "differs"
    #: It could not be read or written; nothing of it is left.
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Incoming:
    """An object to be stored."""

    #: What a report calls it: a path, or who sent it.
    name: str
    header: Header
    #: Gives the bytes of the whole Part 10 file; may be called more than once.
    content: Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one object."""

    incoming: Incoming
    ending: Ending
    #: Of a stored object.
    size_bytes: int = 0
    #: Of a failed one: StorageError (the disk) or SourceError (what was offered).
    error: errors.ArchiveError | None = None


@dataclass(frozen=True, slots=True)
class _Listed:
    """An object with its place on the unlink list."""

    incoming: Incoming
    path: str
    unlink_id: int


def store(
    file_system: model.FileSystem,
    objects: Sequence[Incoming],
    *,
    source: str | None = None,
    after_step: files.Step = files.no_step,
) -> list[Result]:
    """Store objects in two transactions; one that is there already is compared and left out.

    `source` is the AE title that sent them, which is counted; None for imports and copies.
    Steps: `listed`, for each file `part` and `renamed`, `synced`, `indexing` (before the commit), `indexed`,
    and `cleared` if another process was faster with some.

    Raises:
        NotMounted: the file system is not what it was; nothing was written.
    """
    problem = health.marker_problem_of(file_system)
    if problem is not None:
        raise errors.NotMounted(problem)
    distinct = {incoming.header.sop_uid: incoming for incoming in reversed(objects)}
    first = [incoming for incoming in objects if distinct[incoming.header.sop_uid] is incoming]
    later = [incoming for incoming in objects if distinct[incoming.header.sop_uid] is not incoming]
    results = _store_distinct(file_system, first, source, after_step)
    if later:
        results += store(file_system, later, source=source, after_step=after_step)
    return results


def _store_distinct(
    file_system: model.FileSystem, objects: Sequence[Incoming], source: str | None, after_step: files.Step
) -> list[Result]:
    taken, listed = _list(file_system, objects)
    begun = time.monotonic()
    after_step("listed")
    results = [_compare(incoming, copies) for incoming, copies in taken]
    pending, failed = _write(file_system, listed, begun, after_step)
    if failed:
        written_ids = {p.unlink_id for p in pending}
        given_up = [entry.unlink_id for entry in listed if entry.unlink_id not in written_ids]
        unlinking.clear_entries(file_system, given_up)
    if pending:
        pending = [p._replace(source=source) for p in pending]
        results += _index(file_system, pending, [e.incoming for e in listed], source, after_step)
    return results + failed


def _list(
    file_system: model.FileSystem, objects: Sequence[Incoming]
) -> tuple[list[tuple[Incoming, indexing.Copies]], list[_Listed]]:
    """Put the paths of new objects on the unlink list; return what is there already, and what is new."""
    now = datetime.now(UTC)
    with db.transaction() as session:
        known = presence.known(session, [o.header.sop_uid for o in objects], file_system.owner_device)
        new = {
            files.path_for(o.header.study_uid, o.header.series_uid, o.header.sop_uid, now): o
            for o in objects
            if not indexing.is_taken(o.header, known.get(o.header.sop_uid))
        }
        ids = naming.announce(session, file_system.id, new)
    fresh = {id(o) for o in new.values()}
    taken = [(o, known[o.header.sop_uid]) for o in objects if id(o) not in fresh]
    return taken, [_Listed(o, path, ids[path]) for path, o in new.items()]


def _compare(incoming: Incoming, copies: indexing.Copies) -> Result:
    """Tell whether an object that is there is offered with the same bytes."""
    digest = hashlib.sha256()
    try:
        for chunk in incoming.content():
            digest.update(chunk)
    except OSError as exc:
        return Result(incoming, Ending.FAILED, error=_source_error(incoming, exc))
    return _already_there(incoming, digest.hexdigest(), copies)


def _already_there(incoming: Incoming, sha256: str, copies: indexing.Copies) -> Result:
    return Result(incoming, Ending.DUPLICATE if sha256 in copies.sha256 else Ending.DIFFERS)


def _write(
    file_system: model.FileSystem, listed: Sequence[_Listed], begun: float, after_step: files.Step
) -> tuple[list[rows.Pending], list[Result]]:
    """Write the files; an unreadable object fails alone, a disk that refuses fails all that follow."""
    pending: list[rows.Pending] = []
    failed: list[Result] = []
    refusal: errors.StorageError | None = None
    root, unsynced, mounts = Path(file_system.path), set[Path](), Mounts()
    for entry in listed:
        if refusal is None and time.monotonic() - begun > naming.LATEST_BEGIN_S:
            refusal = errors.Interrupted(f"{entry.incoming.name}: the objects before it took too long to store")
        if refusal is not None:
            failed.append(Result(entry.incoming, Ending.FAILED, error=refusal))
            continue
        try:
            content = entry.incoming.content()
            written = files.write(root, entry.path, content, unsynced=unsynced, after_step=after_step)
            _require_there(file_system, written, mounts)
            pending.append(rows.Pending(entry.incoming.header, written, entry.unlink_id))
        except errors.StorageError as exc:
            refusal = health.told_apart(file_system, exc)
            failed.append(Result(entry.incoming, Ending.FAILED, error=refusal))
        except OSError as exc:
            failed.append(Result(entry.incoming, Ending.FAILED, error=_source_error(entry.incoming, exc)))
    try:
        files.sync_folders(root, unsynced)
    except errors.StorageError as exc:
        if not isinstance(refusal, errors.NotMounted):
            refusal = health.told_apart(file_system, exc)
        return [], [Result(entry.incoming, Ending.FAILED, error=refusal) for entry in listed]
    if pending:
        after_step("synced")
    return pending, failed


def _require_there(file_system: model.FileSystem, written: files.Written, mounts: Mounts) -> None:
    """See that a file is on the disk that was meant; below a mount point without its disk nothing stays.

    Raises:
        NotMounted: it is not, or another disk hides it.
    """
    root = Path(file_system.path)
    try:
        disk = (root / written.path).stat().st_dev
    except OSError as exc:
        raise errors.NotMounted(f"File system {root}: {written.path} was written and is hidden or gone now") from exc
    try:
        mounts.require(file_system, disk)
    except errors.NotMounted:
        with suppress(errors.StorageError):
            files.remove(root, written.path)
        raise


def _index(
    file_system: model.FileSystem,
    pending: Sequence[rows.Pending],
    objects: Sequence[Incoming],
    source: str | None,
    after_step: files.Step,
) -> list[Result]:
    """Index what was written; what another process stored meanwhile is compared and removed."""
    offered = {incoming.header.sop_uid: incoming for incoming in objects}
    try:
        refused = _index_in_turn(file_system, pending, source, after_step)
    except errors.Interrupted as exc:
        for p in pending:  # also those whose entries are gone
            files.remove(Path(file_system.path), p.written.path)
        unlinking.clear_entries(file_system, [p.unlink_id for p in pending])
        return [Result(offered[p.header.sop_uid], Ending.FAILED, error=exc) for p in pending]
    after_step("indexed")
    if refused:
        unlinking.clear_entries(file_system, [p.unlink_id for p in pending if p.header.sop_uid in refused])
        after_step("cleared")
    return [
        _already_there(offered[p.header.sop_uid], p.written.sha256, refused[p.header.sop_uid])
        if p.header.sop_uid in refused
        else Result(offered[p.header.sop_uid], Ending.STORED, p.written.size_bytes)
        for p in pending
    ]


def _index_in_turn(
    file_system: model.FileSystem, pending: Sequence[rows.Pending], source: str | None, after_step: files.Step
) -> Mapping[str, indexing.Copies]:
    """Run the indexing transaction, anew when another process was at the same objects."""

    def work(session: Session) -> Mapping[str, indexing.Copies]:
        refused = indexing.add(session, file_system.id, pending).refused
        stored = [p for p in pending if p.header.sop_uid not in refused]
        if source is not None and stored:
            size_bytes = sum(p.written.size_bytes for p in stored)
            ledger.add_received(session, file_system.owner_device, source, size_bytes=size_bytes, objects=len(stored))
        after_step("indexing")
        return refused

    return in_turn(work, f"{len(pending)} objects")


def _source_error(incoming: Incoming, exc: OSError) -> errors.SourceError:
    return errors.SourceError(f"{incoming.name} could not be read: {exc.strerror or exc}")
