"""A study that no rule keeps is marked, deleted by its task, and leaves index, ledger, list and disk in agreement."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from archive import db, model
from archive.deletion import deleting, marking, reports
from archive.deletion.rules import Trigger
from tasks import deletions
from tasks.errors import ConflictError, NotFoundError
from tasks.state import Event, Status
from tests import factories
from tests.lab import deletable
from tests.lab.agreement import disagreements
from tests.lab.deletable import NEARLINE, ONLINE, House

STUDY = "1.2.3"


def test_study_that_no_rule_keeps_is_marked_and_deleted(house: House) -> None:
    house.deletable(STUDY)
    online, nearline = house.files(STUDY), house.files(STUDY, NEARLINE)
    size_bytes = sum(path.stat().st_size for path in online)

    assert house.look() == f"1 studies scheduled ({size_bytes} bytes), 0 kept"
    [task] = factories.views()
    assert (task.kind, task.device, task.queue, task.study_uid) == ("DELETE_STUDY", "archive-a", "DeleteStudy", STUDY)
    assert house.marks() == [task.id]
    assert house.run() == 1

    done = deletable.task(task.id)
    assert (done.status, done.error_message) == (Status.COMPLETED, None)
    assert f"Study[uid={STUDY}] deleted from {house.root()}: 3 files" in (done.outcome_message or "")
    assert not any(path.exists() for path in online)
    assert all(path.is_file() for path in nearline)
    assert [path.name for path in house.root().iterdir()] == [".arcfleet-fs"]
    assert factories.sql("SELECT path FROM unlink") == []
    assert factories.sql("SELECT count(*) FROM study_on_file_system") == [1]
    assert disagreements() == []


def test_deletion_is_written_to_the_ledger_that_is_never_purged(house: House) -> None:
    house.deletable(STUDY)
    [task] = house.ask(STUDY).tasks
    house.run()

    [row] = deletable.deletions_written()

    assert (row.study_uid, row.file_system_path, row.device, row.group_id) == (
        STUDY, str(house.root()), "archive-a", ONLINE,
    )  # fmt: skip
    assert (row.num_files, row.trigger, row.task_id, row.who) == (3, "scheduleStudyForDeletion", task.id, "ann@host")
    assert row.remaining_copies == [f"archive-a/{NEARLINE}: 3"]
    assert "not the last copy" in row.rules
    assert row.size_bytes == task.params["bytes"]
    assert row.unlinked_at is not None


def test_rows_of_study_series_and_objects_are_kept_and_the_study_can_come_back(house: House) -> None:
    made = house.deletable(STUDY)
    house.look()
    house.run()

    assert factories.sql("SELECT num_instances FROM study") == [3]
    assert sorted(factories.sql("SELECT sop_uid FROM instance")) == sorted(made)
    house.store(STUDY, 1)
    assert factories.sql("SELECT num_instances FROM study") == [4]
    assert disagreements() == []


def test_every_reason_of_a_kept_study_is_counted_and_nothing_is_marked(house: House) -> None:
    house.store("1.2.1")
    house.age("1.2.1")
    house.store("1.2.2", close=False)
    house.age("1.2.2")
    house.store("1.2.4")  # too young to be looked at

    assert house.look() == (
        "0 studies scheduled (0 bytes), 2 kept: 2 copy in group, 2 not the last copy, 1 not being received"
    )
    assert (house.marks(), factories.views()) == ([], [])


@pytest.mark.parametrize("size", [1, 2, 100])
def test_oldest_go_first_in_batches_over_the_kept_ones(house: House, size: int) -> None:
    for number in range(5):
        house.deletable(f"1.2.{number}", 1)
        house.age(f"1.2.{number}", 40 - number)
    factories.sql("DELETE FROM file USING instance WHERE sop_uid LIKE '1.2.1.%' AND instance.id = instance_id"
                  " AND file_system_id = :id", id=house.file_system(NEARLINE).id)  # fmt: skip
    house.configure(schedule_batch_size=size)

    assert house.look().startswith("4 studies scheduled")

    assert [task.study_uid for task in factories.views()] == ["1.2.0", "1.2.2", "1.2.3", "1.2.4"]
    house.run_all()
    assert {task.status for task in factories.views()} == {Status.COMPLETED}
    assert len(house.files("1.2.1")) == 1


def test_equal_access_times_are_all_looked_at(house: House) -> None:
    for number in range(7):
        house.deletable(f"1.2.{number}", 1)
    factories.sql("UPDATE study_on_file_system SET access_time = now() - interval '40 days'")
    house.configure(schedule_batch_size=3)

    assert house.look().startswith("7 studies scheduled")


def test_second_look_marks_nothing_twice(house: House) -> None:
    house.deletable(STUDY)
    house.look()

    assert house.look() == "0 studies scheduled (0 bytes), 1 kept: 1 not marked"
    assert len(factories.views()) == 1


def test_grace_time_lies_between_mark_and_deletion(house: House) -> None:
    house.configure(deletion_grace_time=timedelta(hours=1))
    house.deletable(STUDY)
    house.look()

    assert house.run() == 0
    [task] = factories.views()
    assert timedelta(minutes=59) < task.scheduled_time - datetime.now(UTC) <= timedelta(hours=1)
    factories.sql("UPDATE task SET scheduled_time = now()")
    assert house.run() == 1
    assert deletable.task(task.id).status is Status.COMPLETED


def test_nothing_is_looked_for_where_no_age_is_set(house: House) -> None:
    house.configure(delete_if_not_accessed_for=None)
    house.deletable(STUDY)

    assert house.look() == "nothing to do: DeleteStudyIfNotAccessedFor is not set"


def test_named_study_goes_whatever_its_age_and_its_groups(house: House) -> None:
    house.configure(copy_groups=("archive-b/ELSEWHERE",))
    house.store(STUDY)
    house.copy(STUDY)

    look = house.ask(STUDY)
    house.run()

    assert deletable.task(look.tasks[0].id).status is Status.COMPLETED
    assert house.files(STUDY) == []


def test_last_copy_of_a_named_study_is_refused_with_the_flag_that_allows_it(house: House) -> None:
    house.store(STUDY)

    with pytest.raises(ConflictError, match=f"Study {STUDY} on .*the only good copy of 3 of 3.*AllowDeletingLastCopy"):
        house.ask(STUDY)

    assert (house.marks(), factories.views()) == ([], [])
    house.configure(allow_deleting_last_copy=True)
    house.ask(STUDY)
    house.run()
    assert house.files(STUDY) == []
    assert disagreements() == []


def test_unknown_study_and_one_that_lies_elsewhere_are_not_found(house: House) -> None:
    house.store(STUDY)
    with pytest.raises(NotFoundError, match=r"No such Study: 9\.9$"):
        house.ask("9.9")

    nearline = house.device.file_system_groups[NEARLINE]
    with pytest.raises(NotFoundError, match=f"No such Study: {STUDY} in group {NEARLINE} of device archive-a"):
        deletions.explain(house.device, nearline, STUDY)


# --- each rule, when it is asked again by the run


def refused(house: House, task_id: int) -> str:
    """Run the task, which must end CANCELED with everything as it was; returns what it says."""
    before = house.files(STUDY)
    house.run()
    ended = deletable.task(task_id)
    assert ended.status is Status.CANCELED
    assert house.marks() == []
    assert house.files(STUDY) == before
    assert deletable.deletions_written() == []
    return ended.outcome_message or ""


def test_series_that_is_being_received_again_keeps_the_study(house: House) -> None:
    task = house.marked(STUDY)
    factories.sql("UPDATE series SET state = 'RECEIVING'")

    assert "being received" in refused(house, task.id)


def test_protected_study_is_kept_and_its_mark_given_back_at_once(house: House) -> None:
    task = house.marked(STUDY)
    with db.transaction() as session:
        assert marking.protect(session, STUDY, "ann@host", "teaching file")
    assert house.marks() == []

    assert "taken back" in refused(house, task.id)
    with pytest.raises(ConflictError, match=r"protected by ann@host since .* \(teaching file\)"):
        house.ask(STUDY)
    with db.transaction() as session:
        assert marking.unprotect(session, STUDY)
    house.ask(STUDY)


def test_task_that_reads_the_study_pins_it(house: House) -> None:
    task = house.marked(STUDY)
    # Behind the back of what gives the mark back, as two transactions that do not see each other.
    factories.insert(study_uid=STUDY, scheduled_time=datetime.now(UTC) + timedelta(hours=1))

    assert "read by task" in refused(house, task.id)


@pytest.mark.parametrize(
    ("status", "is_kept"),
    [(Status.SCHEDULED, True), (Status.SCHEDULED_FOR_RETRY, True), (Status.IN_PROCESS, True),
     (Status.COMPLETED, False), (Status.FAILED, False), (Status.CANCELED, False)],
)  # fmt: skip
def test_only_tasks_that_are_not_done_pin(house: House, status: Status, is_kept: bool) -> None:
    house.deletable(STUDY)
    factories.placed(status, study_uid=STUDY)

    assert ("not pinned" in house.verdicts(STUDY)[Trigger.AGE]) == is_kept


def test_waiting_task_pins_for_a_limited_time_after_it_was_due(house: House) -> None:
    house.deletable(STUDY)
    [task] = factories.insert(study_uid=STUDY)
    assert house.verdicts(STUDY)[Trigger.AGE] == ["not pinned"]

    factories.sql("UPDATE task SET scheduled_time = now() - interval '7 days 1 s'")
    assert house.verdicts(STUDY)[Trigger.AGE] == []
    factories.sql("UPDATE task SET status = 'SCHEDULED FOR RETRY' WHERE id = :id", id=task.id)
    assert house.verdicts(STUDY)[Trigger.AGE] == ["not pinned"]


def test_run_that_is_still_ending_pins_although_its_task_was_cancelled(house: House) -> None:
    house.deletable(STUDY)
    claimed = factories.running(study_uid=STUDY)
    factories.change(Event.CANCEL, claimed.task.id)
    assert house.verdicts(STUDY)[Trigger.AGE] == ["not pinned"]

    factories.report(claimed, Event.GIVE_BACK)
    assert house.verdicts(STUDY)[Trigger.AGE] == []


@pytest.mark.parametrize("status", ["RO", "PENDING"])
def test_file_system_that_is_not_written_to_is_not_deleted_from(house: House, status: str) -> None:
    task = house.marked(STUDY)
    factories.sql("UPDATE file_system SET status = :s WHERE id = :id", s=status, id=house.file_system().id)

    assert f"the file system is {status}" in refused(house, task.id)


def test_file_system_without_its_marker_is_neither_marked_nor_deleted_from(house: House, tmp_path: Path) -> None:
    task = house.marked(STUDY)
    marker = house.root() / ".arcfleet-fs"
    marker.rename(tmp_path / "marker")

    assert "no .arcfleet-fs in it" in refused(house, task.id)
    assert house.look().endswith("1 kept: 1 file system healthy")
    assert all(path.is_file() for path in house.files(STUDY))
    (tmp_path / "marker").rename(marker)
    house.look()
    house.run()
    assert house.files(STUDY) == []


def test_file_system_that_nobody_reports_is_not_deleted_from(house: House) -> None:
    house.deletable(STUDY)
    factories.sql("DELETE FROM file_system_report")

    said = deletions.schedule_studies(house.device, house.group, deletions.Asked(factories.BY))
    assert said == "0 studies scheduled (0 bytes), 1 kept: 1 file system healthy"
    reports.look("archive-a")
    factories.sql("UPDATE file_system_report SET checked_at = now() - interval '3 min'")
    with pytest.raises(ConflictError, match="no worker of archive-a with --housekeeping has reported its health since"):
        deletions.schedule_study(house.device, house.group, STUDY, deletions.Asked(factories.BY))


# --- copies


def test_copy_that_is_not_on_disk_does_not_count(house: House) -> None:
    task = house.marked(STUDY)
    gone = house.files(STUDY, NEARLINE)[1]
    gone.unlink()

    said = refused(house, task.id)

    assert "the only good copy of 1 of 3 objects (1 copies do not count" in said
    assert str(gone) in said


@pytest.mark.parametrize("content", [b"", b"shorter"])
def test_copy_of_another_size_does_not_count(house: House, content: bytes) -> None:
    task = house.marked(STUDY)
    house.files(STUDY, NEARLINE)[0].write_bytes(content)

    assert f"{len(content)} bytes, expected" in refused(house, task.id)


_BAD_COPIES = {
    "MISSING": "UPDATE file SET status = 'MISSING' WHERE file_system_id = :id",
    "DIFFERS": "UPDATE file SET status = 'DIFFERS' WHERE file_system_id = :id",
    "other bytes": "UPDATE file SET sha256 = sha256('x') WHERE file_system_id = :id",
    "UNAVAILABLE": "UPDATE file_system SET availability = 'UNAVAILABLE' WHERE id = :id",
    "OFFLINE": "UPDATE file_system SET availability = 'OFFLINE' WHERE id = :id",
    "PENDING": "UPDATE file_system SET status = 'PENDING' WHERE id = :id",
    "no row": "DELETE FROM file WHERE file_system_id = :id",
}


@pytest.mark.parametrize("statement", _BAD_COPIES.values(), ids=_BAD_COPIES)
def test_bad_copy_does_not_count(house: House, statement: str) -> None:
    task = house.marked(STUDY)
    factories.sql(statement, id=house.file_system(NEARLINE).id)

    assert house.verdicts(STUDY)[Trigger.REQUEST] == ["not marked", "not the last copy"]
    assert "the only good copy of 3 of 3" in refused(house, task.id)


def test_copy_on_a_disk_that_is_not_mounted_does_not_count(house: House) -> None:
    task = house.marked(STUDY)
    (house.root(NEARLINE) / ".arcfleet-fs").unlink()

    assert "the only good copy of 3 of 3" in refused(house, task.id)
    assert set(house.verdicts(STUDY)[Trigger.AGE]) == {"copy in group", "not the last copy"}


def test_object_without_a_copy_among_others_keeps_the_whole_study(house: House) -> None:
    house.deletable(STUDY)
    house.store(STUDY, 1)
    house.age(STUDY)

    assert house.verdicts(STUDY)[Trigger.AGE] == ["copy in group", "not the last copy"]


def as_if_of_archive_b(house: House) -> int:
    """Let the nearline file system be one that only archive-b mounts; returns its number."""
    number = house.file_system(NEARLINE).id
    factories.sql("UPDATE file_system SET owner_device = 'archive-b' WHERE id = :id", id=number)
    return number


def test_copy_out_of_reach_counts_as_long_as_its_owner_reports_its_disk_as_healthy(house: House) -> None:
    house.configure(copy_groups=(f"archive-b/{NEARLINE}",))
    house.deletable(STUDY)
    number = as_if_of_archive_b(house)
    house.files(STUDY, NEARLINE)[0].unlink()  # nobody here can see that
    factories.sql("UPDATE file SET checked_at = now()")  # but its owner verified it lately
    assert "not the last copy" in house.verdicts(STUDY)[Trigger.AGE]

    reports.look("archive-b")
    assert house.verdicts(STUDY)[Trigger.AGE] == []
    house.look()
    factories.sql("UPDATE file_system_report SET problem = 'gone' WHERE file_system_id = :id", id=number)
    [task] = factories.views()
    assert "the only good copy of 3 of 3" in refused(house, task.id)

    reports.look("archive-b")
    house.look()
    house.run()
    [row] = deletable.deletions_written()
    assert row.remaining_copies == [f"archive-b/{NEARLINE}: 3"]


def test_file_that_is_broken_here_needs_any_good_copy_elsewhere(house: House) -> None:
    house.deletable(STUDY)
    factories.sql(
        "UPDATE file SET status = 'DIFFERS', sha256 = sha256('x') WHERE file_system_id = :id", id=house.file_system().id
    )

    assert house.verdicts(STUDY)[Trigger.AGE] == []


def test_two_disks_never_count_on_each_other(house: House) -> None:
    """Each of two deletions counts the copy that the other one deletes: one of them goes."""
    house.configure(copy_groups=())
    house.deletable(STUDY)
    [online] = house.ask(STUDY).tasks
    nearline = house.device.file_system_groups[NEARLINE]
    free = replace(nearline, copy_groups=(), deletion_grace_time=timedelta(0))
    [other] = deletions.schedule_study(house.device, free, STUDY, deletions.Asked(factories.BY)).tasks

    assert house.run() == 2

    assert {deletable.task(online.id).status, deletable.task(other.id).status} == {Status.COMPLETED, Status.CANCELED}
    assert len(house.files(STUDY)) + len(house.files(STUDY, NEARLINE)) == 3
    assert disagreements() == []


# --- unlinking


def test_disk_that_goes_away_behind_the_transaction_is_unlinked_on_when_it_is_back(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = house.marked(STUDY)
    files = house.files(STUDY)
    marker = house.root() / ".arcfleet-fs"
    original = deleting._unlink
    with monkeypatch.context() as patched:
        patched.setattr(deleting, "_unlink", lambda *args: (marker.rename(tmp_path / "m"), original(*args)))
        house.run()

    waiting = deletable.task(task.id)
    assert waiting.status is Status.SCHEDULED_FOR_RETRY
    assert "no .arcfleet-fs in it" in (waiting.error_message or "")
    assert all(path.is_file() for path in files)
    [row] = deletable.deletions_written()
    assert row.unlinked_at is None

    (tmp_path / "m").rename(marker)
    factories.sql("UPDATE task SET scheduled_time = now()")
    house.run()

    assert deletable.task(task.id).status is Status.COMPLETED
    assert not any(path.exists() for path in files)
    assert deletable.deletions_written()[0].unlinked_at is not None
    assert disagreements() == []


def test_file_that_resists_is_tried_again_and_the_others_go(house: House) -> None:
    task = house.marked(STUDY)
    files = house.files(STUDY)
    files[1].unlink()
    (files[1] / "full").mkdir(parents=True)

    house.run()

    waiting = deletable.task(task.id)
    assert waiting.status is Status.SCHEDULED_FOR_RETRY
    assert "1 files of the study are not unlinked yet" in (waiting.error_message or "")
    assert [path.exists() for path in files] == [False, True, False]
    (files[1] / "full").rmdir()
    files[1].rmdir()
    factories.sql("UPDATE task SET scheduled_time = now()")
    house.run()
    assert deletable.task(task.id).status is Status.COMPLETED


def test_study_on_two_file_systems_of_the_group_is_deleted_from_each_by_a_task_of_its_own(house: House) -> None:
    house.deletable(STUDY)
    house.copy(STUDY, NEARLINE)
    with db.transaction() as session:
        second = session.scalars(select(model.FileSystem.id).where(model.FileSystem.path.endswith("online-2"))).one()
        copies = session.scalars(select(model.File).where(model.File.file_system_id == house.file_system().id)).all()
        for row in copies:
            (house.home / "online-2" / row.path).parent.mkdir(parents=True, exist_ok=True)
            (house.home / "online-2" / row.path).write_bytes((house.root() / row.path).read_bytes())
            session.add(model.File(
                instance_id=row.instance_id, file_system_id=second, path=row.path, size_bytes=row.size_bytes,
                sha256=row.sha256, transfer_syntax_uid=row.transfer_syntax_uid,
            ))  # fmt: skip
        session.add(model.StudyOnFileSystem(
            study_id=session.scalars(select(model.Study.id)).one(), file_system_id=second,
            access_time=func.now() - timedelta(days=50),
        ))  # fmt: skip

    assert house.look().startswith("2 studies scheduled")
    assert [task.params["fileSystem"][-8:] for task in factories.views()] == ["online-2", "online-1"]
    house.run_all()

    assert {task.status for task in factories.views()} == {Status.COMPLETED}
    assert len(house.files(STUDY, NEARLINE)) == 3
    assert disagreements() == []
