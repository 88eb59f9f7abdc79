"""Export to a folder through a real run, with real files: every object has an outcome, and only what lacks is sent."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from archive.storage import disk
from tasks.errors import InvalidError, PermanentError, TaskError
from tasks.outcome import Outcome
from tasks.registry import kind_of
from tasks.state import Event, Status
from tests import factories
from tests.stored_study import OBJECTS, SERIES, STUDY, Archive, next_attempt, outcomes, start


def test_files_arrive_as_they_are_and_each_object_is_said_to_be_sent(archive: Archive) -> None:
    run = start()

    ending = archive.attempt(run)

    assert ending == Outcome(
        Status.COMPLETED, f"Export Study[uid={STUDY}] to file:{archive.out} - completed:3"
    )  # fmt: skip
    for sop_uid in OBJECTS:
        assert archive.target(sop_uid).read_bytes() == archive.source(sop_uid).read_bytes()
    assert outcomes(run) == dict.fromkeys(OBJECTS, "sent")
    assert list(archive.out.rglob(".*")) == []


def test_progress_counts_what_was_done_and_what_is_left(archive: Archive) -> None:
    run = start()

    archive.attempt(run)

    after = factories.view(run.task.id)
    assert after is not None
    assert after.progress == {"numInstances": 3, "completed": 3, "failed": 0, "remaining": 0}


def test_series_and_single_object_are_exported_alone(archive: Archive) -> None:
    archive.attempt(start(series_uid=SERIES[1]))
    assert archive.arrived() == [OBJECTS[2]]

    archive.attempt(start(series_uid=SERIES[0], sop_uid=OBJECTS[0]))
    assert archive.arrived() == [OBJECTS[0], OBJECTS[2]]


def test_trace_tells_when_each_object_began_and_ended(archive: Archive) -> None:
    run = start()

    archive.attempt(run)

    lines = [line.split() for line in archive.trace.read_text().splitlines()]
    assert [(line[0], line[5]) for line in lines] == [(w, uid) for uid in OBJECTS for w in ("begin", "end")]
    assert {(int(line[2]), int(line[3])) for line in lines} == {(run.task.id, run.run_id)}
    clocks = [int(line[1]) for line in lines]
    assert clocks == sorted(clocks)


# --- resume


def test_next_attempt_sends_what_is_missing_only(archive: Archive) -> None:
    run = start()
    archive.attempt(run)
    archive.target(OBJECTS[1]).unlink()
    kept = archive.target(OBJECTS[0]).stat()

    again = next_attempt(run)
    ending = archive.attempt(again)

    assert isinstance(ending, Outcome)
    assert ending.message.endswith("completed:3")
    assert outcomes(again) == {OBJECTS[1]: "sent"}
    assert archive.arrived() == OBJECTS
    assert archive.target(OBJECTS[0]).stat().st_ino == kept.st_ino


def test_file_of_another_size_is_sent_again(archive: Archive) -> None:
    run = start()
    archive.attempt(run)
    archive.target(OBJECTS[2]).write_bytes(b"cut")

    again = next_attempt(run)
    archive.attempt(again)

    assert outcomes(again) == {OBJECTS[2]: "sent"}
    assert archive.target(OBJECTS[2]).read_bytes() == archive.source(OBJECTS[2]).read_bytes()


def test_file_that_we_did_not_send_is_not_taken_for_ours(archive: Archive) -> None:
    run = start()
    target = archive.target(OBJECTS[0])
    target.parent.mkdir(parents=True)
    target.write_bytes(bytes(archive.source(OBJECTS[0]).stat().st_size))

    archive.attempt(run)

    assert target.read_bytes() == archive.source(OBJECTS[0]).read_bytes()


def test_completed_task_that_is_rescheduled_sends_all_again(archive: Archive) -> None:
    run = start()
    archive.attempt(run)

    again = next_attempt(run, Event.SUCCEED)
    archive.attempt(again)

    assert outcomes(again) == dict.fromkeys(OBJECTS, "sent")


def test_objects_whose_turn_never_came_are_not_reached(archive: Archive) -> None:
    archive.out.mkdir(exist_ok=True)
    (archive.out / STUDY).write_text("a file")
    run = start()

    archive.attempt(run)

    assert outcomes(run) == {OBJECTS[0]: "refused", OBJECTS[1]: "not reached", OBJECTS[2]: "not reached"}


# --- sources that cannot be read


def test_source_that_is_gone_fails_the_task_for_good_and_hides_no_other_object(archive: Archive) -> None:
    source = archive.source(OBJECTS[1])
    source.unlink()
    run = start()

    ending = archive.attempt(run)

    assert isinstance(ending, PermanentError)
    assert "completed:2, failed:1: the files of 1 objects are gone" in str(ending)
    assert outcomes(run) == {OBJECTS[0]: "sent", OBJECTS[1]: "unreadable", OBJECTS[2]: "sent"}
    [text] = factories.sql("SELECT text FROM object_outcome WHERE result = 'unreadable'")
    assert text == f"{source} is gone"


def test_source_on_a_disk_that_is_not_mounted_is_tried_again(archive: Archive) -> None:
    archive.source(OBJECTS[1]).unlink()
    marker = archive.marker()
    aside = marker.rename(marker.with_name("aside"))
    run = start()

    ending = archive.attempt(run)
    aside.rename(marker)

    assert isinstance(ending, Outcome)
    assert ending.status is Status.FAILED
    [text] = factories.sql("SELECT text FROM object_outcome WHERE result = 'unreadable'")
    assert text.endswith("is not mounted")


@pytest.mark.parametrize("damage", ["shorter", "other bytes"])
def test_unreadable_source_fails_the_task_and_hides_no_other_object(archive: Archive, damage: str) -> None:
    source = archive.source(OBJECTS[1])
    content = source.read_bytes()
    source.chmod(0o600)
    source.write_bytes(content[:-1] if damage == "shorter" else content[:-1] + b"\xff")
    run = start()

    ending = archive.attempt(run)

    assert isinstance(ending, Outcome)
    assert ending.status is Status.FAILED
    assert f"completed:2, failed:1: {source} is not what was stored" in ending.message
    assert outcomes(run) == {OBJECTS[0]: "sent", OBJECTS[1]: "unreadable", OBJECTS[2]: "sent"}
    assert archive.arrived() == [OBJECTS[0], OBJECTS[2]]
    [text] = factories.sql("SELECT text FROM object_outcome WHERE result = 'unreadable'")
    assert str(source) in text


def test_object_that_can_be_read_again_is_sent_by_the_next_attempt(archive: Archive) -> None:
    source = archive.source(OBJECTS[1])
    aside = source.rename(archive.out.with_name("aside"))
    run = start()
    archive.attempt(run)
    aside.rename(source)

    again = next_attempt(run)
    ending = archive.attempt(again)

    assert isinstance(ending, Outcome)
    assert ending.status is Status.COMPLETED
    assert outcomes(again) == {OBJECTS[1]: "sent"}


def test_object_out_of_reach_of_the_device_is_unreadable(archive: Archive) -> None:
    run = start()
    factories.sql("UPDATE file_system SET owner_device = 'archive-b'")

    ending = archive.attempt(run)

    assert isinstance(ending, Outcome)
    assert ending.status is Status.FAILED
    assert outcomes(run) == dict.fromkeys(OBJECTS, "unreadable")
    assert not archive.out.exists()


def test_study_that_the_archive_does_not_know_is_a_warning(archive: Archive) -> None:
    run = factories.running(exporter_id="ToFolder", study_uid="9.9", series_uid="9.9.1")

    ending = archive.attempt(run)

    assert ending == Outcome(Status.WARNING, "Could not find Series[uid=9.9.1] of Study[uid=9.9]")


# --- targets that cannot be written


@pytest.mark.parametrize("where", ["out", "study"])
def test_folder_that_cannot_be_written_is_named_with_the_reason(archive: Archive, where: str) -> None:
    in_the_way = archive.out if where == "out" else archive.out / STUDY
    in_the_way.parent.mkdir(exist_ok=True)
    in_the_way.write_text("a file")
    run = start()

    ending = archive.attempt(run)

    assert isinstance(ending, TaskError)
    assert not isinstance(ending, PermanentError)
    assert str(ending) == f"Folder {archive.out} cannot be written: Not a directory"
    assert outcomes(run)[OBJECTS[0]] == "refused"
    in_the_way.unlink()
    assert isinstance(archive.attempt(next_attempt(run)), Outcome)
    assert archive.arrived() == OBJECTS


def test_exporter_that_is_not_at_the_device_any_more_fails_for_good(archive: Archive) -> None:
    run = start()
    archive.device = replace(archive.device, exporters={})

    ending = archive.attempt(run)

    assert isinstance(ending, PermanentError)
    assert str(ending) == "No Exporter configured with ID:ToFolder at device archive-a"


# --- leftovers of killed runs


def test_half_written_file_of_an_ended_run_is_removed_and_one_that_is_being_written_stays(archive: Archive) -> None:
    other = start(series_uid=SERIES[0])
    ended = start(series_uid=SERIES[0])
    factories.report(ended, Event.LOSE)
    factories.change(Event.CANCEL, ended.task.id)
    run = start()
    folder = archive.target(OBJECTS[0]).parent
    folder.mkdir(parents=True)
    parts = {claimed.run_id: folder / f".{OBJECTS[0]}.dcm.{claimed.run_id}.part" for claimed in (other, ended)}
    for part in parts.values():
        part.write_bytes(b"half")

    archive.attempt(run)

    assert parts[other.run_id].exists()
    assert not parts[ended.run_id].exists()
    assert archive.arrived() == OBJECTS


# --- settings of an exporter


@pytest.mark.parametrize("rate", ["0", "-1", "fast", "inf", "nan"])
def test_rate_that_is_no_number_above_nought_is_refused(archive: Archive, rate: str) -> None:
    exporter = replace(archive.device.exporters["ToFolder"], properties={"objectsPerSecond": rate})
    archive.device = replace(archive.device, exporters={"ToFolder": exporter})

    with pytest.raises(InvalidError, match=f"dcmProperty objectsPerSecond={rate}, expected a number above 0"):
        kind_of("EXPORT").validate(factories.new_task(exporter_id="ToFolder"), archive.device)


def test_folder_that_somebody_else_has_made_is_entered_in_its_parent_for_good(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    sync_folder = disk.sync_folder

    def note(folder: str | Path) -> None:
        sync_folder(folder)
        synced.append(Path(folder))

    monkeypatch.setattr(disk, "sync_folder", note)
    archive.target(OBJECTS[0]).parent.mkdir(parents=True)

    archive.attempt(start())

    assert {archive.out, archive.out / STUDY} <= set(synced)
    assert archive.out.parent in synced


def test_folder_that_was_removed_since_the_last_export_is_made_again(archive: Archive) -> None:
    first = start()
    archive.attempt(first)
    shutil.rmtree(archive.out)

    archive.attempt(next_attempt(first, Event.SUCCEED))

    assert archive.arrived() == OBJECTS
