"""A mark lives and dies with its task: cancel, delete, reschedule, a touch, and each of them against a deletion."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from archive import db, ledger
from archive.deletion import deleting, marking
from archive.storage import ingest
from tasks import deletions, jobs, operations, store
from tasks.errors import ConflictError
from tasks.moving import Change
from tasks.query import TaskQuery
from tasks.record import NewTask
from tasks.run import Ending
from tasks.state import Event, Status
from tests import factories, race
from tests.factories import BY
from tests.integration.archive.archive_agreement import incoming, write_object
from tests.lab import deletable
from tests.lab.agreement import after_sweep, disagreements
from tests.lab.deletable import House

STUDY = "1.2.3"
ANY = TaskQuery()

Operation = Callable[[int], Any]


def cancel(task_id: int) -> None:
    operations.cancel_one(task_id, ANY, BY)


def reschedule(task_id: int) -> None:
    operations.reschedule_one(task_id, ANY, Change(), BY)


def delete(task_id: int) -> None:
    operations.delete_one(task_id, ANY, BY)


@contextmanager
def paused_at(step: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Let deletions stop after a step: gives what is set then, and what lets them go on."""
    reached, go_on = threading.Event(), threading.Event()

    def wait(done: str) -> None:
        if done == step:
            reached.set()
            assert go_on.wait(30)

    original = deleting.delete_study
    with monkeypatch.context() as patched:
        patched.setattr(deleting, "delete_study", partial(original, after_step=wait))
        yield reached, go_on


def during(
    house: House, step: str, monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any], *, waits: bool
) -> BaseException | None:
    """Do the work while a deletion stands after a step; returns what the work raised.

    With `waits` the work must wait for the deletion; else it must be done before that goes on.
    """
    with paused_at(step, monkeypatch) as (reached, go_on), ThreadPoolExecutor(2) as pool:
        running = pool.submit(house.run)
        assert reached.wait(30)
        done = pool.submit(work)
        if waits:
            race._until_blocked_or_done(done)
            assert not done.done()
        else:
            done.exception(timeout=30)
        go_on.set()
        running.result(timeout=30)
        return done.exception(timeout=30)


# --- before the deletion


def test_cancelled_task_gives_its_mark_back(house: House) -> None:
    task = house.marked(STUDY)

    cancel(task.id)

    assert (house.marks(), deletable.task(task.id).status, house.run()) == ([], Status.CANCELED, 0)
    assert len(house.files(STUDY)) == 3


def test_bulk_cancel_gives_the_marks_of_all_back(house: House) -> None:
    for number in range(3):
        house.marked(f"1.2.{number}")

    assert operations.cancel(TaskQuery(kinds=("DELETE_STUDY",)), BY).count == 3
    assert house.marks() == []


def test_dry_run_of_a_cancel_leaves_the_marks(house: House) -> None:
    house.marked(STUDY)

    assert operations.cancel(TaskQuery(kinds=("DELETE_STUDY",)), BY, dry_run=True).count == 1
    assert len(house.marks()) == 1


def test_deleted_task_gives_its_mark_back(house: House) -> None:
    task = house.marked(STUDY)

    delete(task.id)

    assert (house.marks(), factories.views()) == ([], [])


def test_failed_deletion_gives_its_mark_back_and_the_study_can_be_scheduled_anew(house: House) -> None:
    task = house.marked(STUDY)
    [reservation] = factories.reserve(queue="DeleteStudy")
    claimed = factories.claim(reservation)
    assert claimed is not None
    factories.report(claimed, Event.FAIL, error="disk")

    assert house.marks() == []
    with pytest.raises(ConflictError, match="its mark does not stand any more"):
        reschedule(task.id)
    [anew] = house.ask(STUDY).tasks
    house.run()
    assert deletable.task(anew.id).status is Status.COMPLETED
    assert house.files(STUDY) == []


@pytest.mark.parametrize("end", [cancel, delete])
def test_study_can_be_scheduled_anew_when_its_task_is_gone(house: House, end: Operation) -> None:
    end(house.marked(STUDY).id)

    [task] = house.ask(STUDY).tasks
    house.run()

    assert deletable.task(task.id).status is Status.COMPLETED


def test_mark_of_a_task_that_is_done_does_not_count(house: House) -> None:
    task = house.marked(STUDY)
    factories.sql("UPDATE task SET status = 'COMPLETED' WHERE id = :id", id=task.id)

    [anew] = house.ask(STUDY).tasks

    assert house.marks() == [anew.id]


# --- reschedule


def test_waiting_deletion_can_be_rescheduled_while_its_mark_stands(house: House) -> None:
    task = house.marked(STUDY)
    reschedule(task.id)
    house.touch(STUDY)

    with pytest.raises(ConflictError, match=f"Cannot reschedule Task{{id={task.id}}}: its mark does not stand any"):
        reschedule(task.id)


def test_finished_deletion_cannot_be_rescheduled(house: House) -> None:
    task = house.marked(STUDY)
    house.run()

    with pytest.raises(ConflictError, match="its study was deleted at 2"):
        reschedule(task.id)
    result = operations.reschedule(TaskQuery(kinds=("DELETE_STUDY",)), Change(), BY)
    assert (result.count, result.failed) == (0, 1)
    assert "its study was deleted at" in next(iter(result.refusals))
    assert deletable.task(task.id).status is Status.COMPLETED


def test_deletion_is_never_moved_to_another_device(house: House) -> None:
    task = house.marked(STUDY)

    with pytest.raises(ConflictError, match="it deletes from a file system of archive-a, and only its owner unlinks"):
        operations.reschedule_one(task.id, ANY, Change(devices=("archive-b",)), BY)


def test_answer_for_one_device_is_not_taken_for_another(house: House) -> None:
    house.marked(STUDY)
    [other] = factories.insert(kind="DELETE_STUDY", device="archive-b", queue="DeleteStudy", study_uid=STUDY)

    result = operations.reschedule(TaskQuery(kinds=("DELETE_STUDY",)), Change(devices=("archive-a",)), BY)

    assert (result.count, result.failed) == (1, 1)
    assert f"Task{{id={other.id}}}" in next(iter(result.refusals))


# --- touched


def test_touch_ends_the_task_as_accessed(house: House) -> None:
    task = house.marked(STUDY)
    house.touch(STUDY)
    assert house.marks() == []

    house.run()

    ended = deletable.task(task.id)
    assert (ended.status, ended.failures) == (Status.CANCELED, 0)
    assert (ended.outcome_message or "").startswith(f"accessed: study {STUDY} was used on")
    assert factories.arrows_of(task.id)[-1] == (Status.IN_PROCESS, Event.DROP, Status.CANCELED)
    assert factories.sql("SELECT ending FROM run") == [Ending.DROPPED]
    assert len(house.files(STUDY)) == 3


def test_waiting_task_whose_mark_is_gone_is_ended_without_a_run(house: House) -> None:
    house.configure(deletion_grace_time=timedelta(hours=1))
    task, other = house.marked(STUDY), house.marked("1.2.4")
    house.touch(STUDY)

    assert deletions.end_obsolete(house.device) == 1

    ended = deletable.task(task.id)
    assert (ended.status, (ended.outcome_message or "")[:9]) == (Status.CANCELED, "accessed:")
    assert deletable.task(other.id).status is Status.SCHEDULED
    assert house.look().endswith("1 not marked")


def test_stored_object_takes_the_mark_back(house: House) -> None:
    task = house.marked(STUDY)
    house.store(STUDY, 1)

    house.run()

    assert deletable.task(task.id).status is Status.CANCELED
    assert len(house.files(STUDY)) == 4


@pytest.mark.parametrize("how", ["schedule", "schedule_all", "reschedule"])
def test_task_that_will_read_the_study_takes_the_mark_back(house: House, how: str) -> None:
    reader = NewTask("EXPORT", "archive-a", "Export", exporter_id="Noop", study_uid=STUDY)
    before = factories.placed(Status.FAILED, study_uid=STUDY).task_id
    task = house.marked(STUDY)
    other = house.marked("1.2.4")
    match how:
        case "schedule":
            operations.schedule(reader, BY)
        case "schedule_all":
            operations.schedule_all([reader], BY)
        case _:
            reschedule(before)

    assert house.marks() == [other.id]
    house.run()
    assert deletable.task(task.id).status is Status.CANCELED
    assert deletable.task(other.id).status is Status.COMPLETED


# --- while the deletion goes on


def test_cancel_before_the_transaction_lets_nothing_go(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    task = house.marked(STUDY)

    assert during(house, "looked", monkeypatch, lambda: cancel(task.id), waits=False) is None

    assert (deletable.task(task.id).status, house.marks()) == (Status.CANCELED, [])
    assert all(path.is_file() for path in house.files(STUDY))
    assert len(house.files(STUDY)) == 3


def test_cancel_within_the_transaction_waits_and_is_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    task = house.marked(STUDY)

    error = during(house, "moved", monkeypatch, lambda: cancel(task.id), waits=True)

    assert str(error) == f"Cannot cancel Task{{id={task.id}}}: deletion has begun"
    assert deletable.task(task.id).status is Status.COMPLETED


def test_cancel_behind_the_transaction_is_refused_one_by_one_and_in_bulk(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = house.marked(STUDY)
    results = []

    def both() -> None:
        results.append(operations.cancel(TaskQuery(ids=(task.id,)), BY))
        cancel(task.id)

    error = during(house, "committed", monkeypatch, both, waits=False)

    assert isinstance(error, ConflictError)
    assert [(one.count, one.failed) for one in results] == [(0, 1)]
    assert deletable.task(task.id).status is Status.COMPLETED


@pytest.mark.parametrize("step", ["looked", "moved", "committed", "unlinked"])
def test_task_row_that_is_deleted_leaves_all_or_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    task = house.marked(STUDY)

    assert during(house, step, monkeypatch, lambda: delete(task.id), waits=step == "moved") is None

    assert (factories.views(), house.marks()) == ([], [])
    assert len(house.files(STUDY)) == (3 if step == "looked" else 0)
    assert after_sweep("archive-a") == []


@pytest.mark.parametrize("step", ["looked", "moved", "committed"])
def test_reschedule_of_a_running_deletion_never_deletes_twice(
    house: House, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    task = house.marked(STUDY)

    error = during(house, step, monkeypatch, lambda: reschedule(task.id), waits=step == "moved")

    # Before its transaction it is stopped; behind it, it may be run again to finish the files.
    assert (error is None) or "its study was deleted" in str(error)
    if step == "looked":
        assert (deletable.task(task.id).status, len(house.files(STUDY))) == (Status.SCHEDULED, 3)
        assert house.marks() == [task.id]
    house.run_all()
    assert deletable.task(task.id).status is Status.COMPLETED
    assert len(deletable.deletions_written()) == 1
    assert disagreements() == []


def test_touch_within_the_transaction_comes_too_late_and_begins_a_new_row(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.marked(STUDY)

    assert during(house, "moved", monkeypatch, lambda: house.touch(STUDY), waits=True) is None

    assert house.files(STUDY) == []


@pytest.mark.parametrize(("step", "waits", "left"), [("looked", False, 4), ("moved", True, 1), ("committed", False, 1)])
def test_object_that_arrives_during_the_deletion_is_never_lost(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, waits: bool, left: int
) -> None:
    house.marked(STUDY)
    new = incoming(write_object(tmp_path / "new", STUDY, f"{STUDY}.1", "1.9.9"))

    assert during(house, step, monkeypatch, lambda: ingest.store(house.file_system(), [new]), waits=waits) is None

    found = house.files(STUDY)
    assert len(found) == left
    assert all(path.is_file() for path in found)
    assert disagreements() == []


@pytest.mark.parametrize(("step", "waits"), [("looked", False), ("moved", True)])
def test_task_made_during_the_deletion_finds_the_study_or_its_copy(
    house: House, monkeypatch: pytest.MonkeyPatch, step: str, waits: bool
) -> None:
    house.marked(STUDY)
    reader = NewTask("EXPORT", "archive-a", "Export", exporter_id="Noop", study_uid=STUDY)

    assert during(house, step, monkeypatch, lambda: operations.schedule(reader, BY), waits=waits) is None

    assert len(house.files(STUDY)) == (0 if waits else 3)
    assert len(house.files(STUDY, deletable.NEARLINE)) == 3


def test_run_that_lost_its_lease_deletes_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.marked(STUDY)

    def lose() -> None:
        [(task_id, run_id)] = [tuple(pair) for pair in factories.sql("SELECT ARRAY[task_id, id] FROM run")]
        with db.transaction() as session:
            store.lose(session, task_id, run_id, {}, BY)

    during(house, "looked", monkeypatch, lose, waits=False)

    assert (len(house.files(STUDY)), len(house.marks())) == (3, 1)


# --- marking against others


def test_two_looks_at_once_schedule_each_study_once(house: House) -> None:
    for number in range(4):
        house.deletable(f"1.2.{number}", 1)

    with ThreadPoolExecutor(3) as pool:
        said = [pool.submit(house.look) for _ in range(3)]
    errors = [one.exception() for one in said]

    assert all(error is None or "are being scheduled for deletion" in str(error) for error in errors)
    assert sorted(task.study_uid or "" for task in factories.views()) == [f"1.2.{number}" for number in range(4)]
    assert len(house.marks()) == 4


def test_second_look_is_told_that_the_first_one_goes_on(house: House) -> None:
    with (
        jobs.alone(jobs.Job("archive-a", deletable.ONLINE, "schedule_deletions"), "studies are being scheduled"),
        pytest.raises(ConflictError, match="Group ONLINE_STORAGE of device archive-a: studies are being scheduled"),
    ):
        house.look()

    assert house.look().startswith("0 studies")


def test_study_that_is_used_while_it_is_judged_is_not_marked(house: House) -> None:
    house.deletable(STUDY)

    def touch(session: Session) -> None:
        ledger.touch(session, factories.sql("SELECT id FROM study"), house.file_system().id)

    def judge(session: Session) -> int:
        chosen = marking.of_study(session, STUDY, [house.file_system().id])
        return len(marking.lock(session, chosen))

    assert race.overlap(touch, judge) == (None, 0)
