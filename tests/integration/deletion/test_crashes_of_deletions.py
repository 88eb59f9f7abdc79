"""A deleter that is killed between any two steps leaves index, ledger, unlink list and disk in agreement."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from archive import db
from archive.deletion import deleting
from archive.storage import ingest, unlinking
from tasks import operations, store
from tasks.query import TaskQuery
from tasks.state import Status
from tests import factories
from tests.factories import BY
from tests.integration.archive.archive_agreement import incoming, write_object
from tests.lab import deletable
from tests.lab.agreement import after_sweep, disagreements
from tests.lab.deletable import NEARLINE, House

HERE = Path(__file__).parent
STUDY = "1.2.3"

#: Step, how often, and whether the deletion has begun then: the study's three rows are gone.
STEPS = [
    ("looked", 1, False),
    ("moved", 1, False),
    ("committed", 1, True),
    ("removed", 1, True),
    ("removed", 3, True),
    ("unlinked", 1, True),
    ("finished", 1, True),
]


def die(database: str, house: House, step: str, count: int = 1) -> None:
    """Let a process of its own do what is due, and die after a step."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[2]), str(HERE.parent / "archive")])}
    command = [sys.executable, str(HERE / "deletion_process.py"), database, str(house.home), step, str(count)]
    ended = subprocess.run(command, env=environment, check=False, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


def rescue() -> None:
    """Take the run of the dead process for lost, as beat does."""
    [(task_id, run_id)] = [tuple(pair) for pair in factories.sql("SELECT ARRAY[task_id, id] FROM run")]
    with db.transaction() as session:
        store.lose(session, task_id, run_id, {}, BY)


@pytest.mark.parametrize(("step", "count", "has_begun"), STEPS)
def test_killed_deletion_is_finished_by_the_next_run(
    deletions_database: str, house: House, step: str, count: int, has_begun: bool
) -> None:
    task = house.marked(STUDY)
    paths = house.files(STUDY)

    die(deletions_database, house, step, count)

    assert disagreements() == []
    assert len(house.files(STUDY)) == (0 if has_begun else 3)
    assert len(deletable.deletions_written()) == has_begun
    rescue()
    house.run_all()
    assert deletable.task(task.id).status is Status.COMPLETED
    assert not any(path.exists() for path in paths)
    assert len(house.files(STUDY, NEARLINE)) == 3
    [row] = deletable.deletions_written()
    assert (row.num_files, row.unlinked_at is not None) == (3, True)
    assert (after_sweep("archive-a"), house.marks()) == ([], [])


@pytest.mark.parametrize(("step", "count", "has_begun"), STEPS)
def test_killed_deletion_whose_task_is_gone_is_finished_by_the_sweep(
    deletions_database: str, house: House, step: str, count: int, has_begun: bool
) -> None:
    task = house.marked(STUDY)
    paths = house.files(STUDY)
    die(deletions_database, house, step, count)
    operations.delete_one(task.id, TaskQuery(), BY)

    unlinking.clear_unfinished("archive-a")
    with db.transaction() as session:
        deleting.finish(session, "archive-a")

    assert [path.exists() for path in paths] == [not has_begun] * 3
    assert all(row.unlinked_at is not None for row in deletable.deletions_written())
    assert (after_sweep("archive-a"), house.marks(), factories.views()) == ([], [], [])


@pytest.mark.parametrize("step", ["committed", "removed"])
def test_object_stored_behind_a_killed_deletion_is_kept_by_the_next_run(
    deletions_database: str, house: House, tmp_path: Path, step: str
) -> None:
    task = house.marked(STUDY)
    die(deletions_database, house, step)
    new = incoming(write_object(tmp_path / "new", STUDY, f"{STUDY}.1", "1.9.9"))
    ingest.store(house.file_system(), [new])

    rescue()
    house.run_all()

    assert deletable.task(task.id).status is Status.COMPLETED
    [path] = house.files(STUDY)
    assert path.is_file()
    assert after_sweep("archive-a") == []


def test_look_that_is_killed_leaves_neither_mark_nor_task(deletions_database: str, house: House) -> None:
    house.deletable(STUDY)

    die(deletions_database, house, "marking")

    assert (house.marks(), factories.views()) == ([], [])
    assert house.look().startswith("1 studies scheduled")
