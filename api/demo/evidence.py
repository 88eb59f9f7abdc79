"""What the demonstration believes: rows of the database and files on disk, never what was printed or answered."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from archive import db, model, query
from archive.query import StoredObject
from tasks import history
from tasks import query as task_query
from tasks.control import DEAD_AFTER, Leader, WorkerNode
from tasks.history import Transition
from tasks.outcome import CONFIRMED
from tasks.query import TaskQuery
from tasks.record import TaskView
from tasks.run import ObjectOutcomeRow, Run


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


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits; empty: it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _is_same(path: Path, sent: StoredObject) -> bool:
    found = digest(path)
    return found == sent.sha256 and sent.path is not None and found == digest(sent.path)
