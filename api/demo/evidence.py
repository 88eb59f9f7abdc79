"""What the demonstration believes: rows of the database and files on disk, never what was printed or answered."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from archive import db, model, query
from archive.dicom import part10
from archive.query import StoredObject
from tasks import history
from tasks import query as task_query
from tasks.control import DEAD_AFTER, Destination, HousekeepingJob, Leader, WorkerNode
from tasks.history import Transition
from tasks.outcome import CONFIRMED
from tasks.query import TaskQuery
from tasks.record import Task, TaskView
from tasks.run import ObjectOutcomeRow, Run
from tasks.state import Status


@dataclass(frozen=True, slots=True)
class Arrived:
    """What lies in the folder of an exporter of the objects that were to be sent."""

    same: int
    bytes: int
    #: Objects that are not there.
    missing: tuple[str, ...]
    #: Files that differ from what was sent, or belong to no object.
    wrong: tuple[str, ...]


def task(task_id: int) -> TaskView:
    """Return a task as its row is now."""
    return tasks([task_id])[0]


def tasks(ids: Sequence[int]) -> list[TaskView]:
    """Return tasks by their ids, in the order of ids."""
    with db.transaction() as session:
        found = list(task_query.find(session, TaskQuery(ids=tuple(ids))))
    return sorted(found, key=lambda one: one.id)


def runs(task_ids: Sequence[int]) -> list[Run]:
    """Return the runs that a worker has claimed, in their order."""
    with db.transaction() as session:
        claimed = select(Run).where(Run.task_id.in_(task_ids), Run.claimed_at.is_not(None)).order_by(Run.id)
        return list(session.scalars(claimed))


def open_runs(task_ids: Sequence[int]) -> int:
    """Return the number of runs that have not ended, claimed or not."""
    with db.transaction() as session:
        still = select(func.count()).where(Run.task_id.in_(task_ids), Run.ended_at.is_(None))
        return session.scalars(still).one()


def confirmed(run_id: int) -> set[str]:
    """Return the SOP Instance UIDs whose arrival was recorded in this run."""
    good = [result.value for result in CONFIRMED]
    with db.transaction() as session:
        rows = select(ObjectOutcomeRow.sop_uid).where(
            ObjectOutcomeRow.run_id == run_id, ObjectOutcomeRow.result.in_(good)
        )
        return set(session.scalars(rows))


def transitions(task_id: int) -> list[Transition]:
    """Return the history of a task."""
    with db.transaction() as session:
        return history.of_task(session, task_id)


def node_names(found: Iterable[Run]) -> dict[int, str]:
    """Return the name of the worker of each run, by run id."""
    of_run = {run.id: run.node_id for run in found}
    with db.transaction() as session:
        nodes = select(WorkerNode.id, WorkerNode.name).where(WorkerNode.id.in_(set(of_run.values())))
        names: dict[int | None, str] = {row.id: row.name for row in session.execute(nodes)}
    return {run_id: names.get(node_id, "") for run_id, node_id in of_run.items()}


def workers(channel: str) -> list[WorkerNode]:
    """Return the living workers of a channel, the newest last."""
    with db.transaction() as session:
        alive = (
            select(WorkerNode)
            .where(WorkerNode.channel == channel, WorkerNode.stopped_at.is_(None))
            .where(WorkerNode.seen_at > func.clock_timestamp() - DEAD_AFTER)
            .order_by(WorkerNode.id)
        )
        return list(session.scalars(alive))


def leader() -> str | None:
    """Return the beat that leads; None: none does."""
    with db.transaction() as session:
        return session.scalars(select(Leader.holder).where(Leader.until > func.clock_timestamp())).first()


def objects(study_uids: Iterable[str], device: str) -> list[StoredObject]:
    """Return all objects of the studies, each with the copy that the device reads."""
    with db.transaction() as session:
        return [found for uid in study_uids for found in query.objects_of(session, uid, device_name=device)]


def counts() -> dict[str, int]:
    """Return the numbers of studies, instances and files in the index."""
    numbers = {
        "studies": select(func.count(model.Study.id)),
        "instances": select(func.count(model.Instance.id)),
        "files": select(func.count(model.File.id)),
    }
    with db.transaction() as session:
        return {name: session.scalars(number).one() for name, number in numbers.items()}


def arrived(sent: Sequence[StoredObject], folder: Path) -> Arrived:
    """Compare what lies in the folder with what the index says was sent, and with the archive's own file."""
    expected = {folder / o.study_uid / o.series_uid / f"{o.sop_uid}.dcm": o for o in sent}
    studies = {o.study_uid for o in sent}
    # What ends in .part was being written when its process was killed: it never counts as an object.
    there = {path for uid in studies for path in (folder / uid).rglob("*") if path.is_file() and path.suffix != ".part"}
    wrong = [path for path in there if path not in expected or not _is_same(path, expected[path])]
    return Arrived(
        same=len(there) - len(wrong),
        bytes=sum(path.stat().st_size for path in there),
        missing=tuple(sorted(o.sop_uid for path, o in expected.items() if path not in there)),
        wrong=tuple(sorted(map(str, wrong))),
    )


def sent_to_ae(sent: Sequence[StoredObject], folder: Path) -> Arrived:
    """Compare the data sets that a remote AE wrote into a folder with those of the archive's own files."""
    expected = {folder / f"{o.sop_uid}.dcm": o for o in sent}
    there = [path for path in expected if path.is_file()]
    wrong = [path for path in there if not _is_same_data_set(path, expected[path])]
    return Arrived(
        same=len(there) - len(wrong),
        bytes=sum(path.stat().st_size for path in there),
        missing=tuple(sorted(o.sop_uid for path, o in expected.items() if path not in there)),
        wrong=tuple(sorted(map(str, wrong))),
    )


def receiving() -> int:
    """Return the number of series of which more objects are expected."""
    with db.transaction() as session:
        open_ones = select(func.count()).where(model.Series.state == model.SeriesState.RECEIVING)
        return session.scalars(open_ones).one()


def bytes_received(device: str, source: str) -> int:
    """Return the bytes that a device has counted as received from an AE."""
    book = model.BytesReceived
    with db.transaction() as session:
        total = select(func.sum(book.size_bytes)).where(book.device_name == device, book.source == source)
        return int(session.scalars(total).one() or 0)


def bytes_stored(study_uids: Iterable[str]) -> int:
    """Return the bytes of all files of the studies."""
    total = (
        select(func.sum(model.File.size_bytes))
        .join(model.Instance, model.Instance.id == model.File.instance_id)
        .join(model.Series, model.Series.id == model.Instance.series_id)
        .join(model.Study, model.Study.id == model.Series.study_id)
        .where(model.Study.study_uid.in_(list(study_uids)))
    )
    with db.transaction() as session:
        return int(session.scalars(total).one() or 0)


def files(study_uid: str, group: str) -> list[Path]:
    """Return the paths of a study's files in a file-system group, by the index."""
    place = model.FileSystem
    rows = (
        select(place.path, model.File.path)
        .join(place, place.id == model.File.file_system_id)
        .join(model.Instance, model.Instance.id == model.File.instance_id)
        .join(model.Series, model.Series.id == model.Instance.series_id)
        .join(model.Study, model.Study.id == model.Series.study_id)
        .where(model.Study.study_uid == study_uid, place.group_id == group)
    )
    with db.transaction() as session:
        return sorted(Path(root) / relative for root, relative in session.execute(rows))


def on_disk(root: Path) -> int:
    """Return the number of files of objects below a folder; names that begin with a dot are no objects."""
    return sum(path.is_file() and not path.name.startswith(".") for path in root.rglob("*"))


def is_open(destination: str) -> bool:
    """Tell whether the circuit breaker of a destination keeps tasks from it."""
    with db.transaction() as session:
        until = session.scalars(select(Destination.open_until).where(Destination.name == destination)).first()
        return until is not None and until > session.scalars(select(func.clock_timestamp())).one()


def deletions(study_uid: str, status: Status) -> int:
    """Return the number of deletion tasks of a study with this status."""
    with db.transaction() as session:
        rows = select(func.count()).where(
            Task.kind == "DELETE_STUDY", Task.study_uid == study_uid, Task.status == status
        )
        return session.scalars(rows).one()


def last_result(device: str, group: str, job: str) -> str:
    """Return what a housekeeping job said at the end of its last run."""
    with db.transaction() as session:
        found = session.get(HousekeepingJob, (device, group, job))
        return (found.result if found else None) or "nothing yet"


def data_set(path: Path) -> bytes:
    """Return the bytes of a file's data set."""
    with path.open("rb") as file:
        part10.data_set_offset(file)
        return file.read()


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits; empty: it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _is_same(path: Path, sent: StoredObject) -> bool:
    found = digest(path)
    return found == sent.sha256 and sent.path is not None and found == digest(sent.path)


def _is_same_data_set(path: Path, sent: StoredObject) -> bool:
    return sent.path is not None and digest(sent.path) == sent.sha256 and data_set(path) == data_set(sent.path)
