"""What doctor says of workers, beat, tasks and destinations."""

from __future__ import annotations

import platform
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from api.doctor.finding import Severity
from archive import db
from config.ldif_source import LdifSource
from tasks import destinations, pausing
from tasks.destinations import Hold
from tasks.operations import our_device
from tasks.pausing import Wish
from tests import factories
from tests.lab import ldif
from tests.lab.examined import examine
from workers.version import VERSION


def worker(channel: str = "archive-a", **values: object) -> None:
    """Insert a worker of this version that was seen just now."""
    given = {"name": f"{channel}.1@host", "version": VERSION, "host": "host", "seen_ago_s": 0, "ahead_s": 0.0, **values}
    factories.sql(
        "INSERT INTO worker_node (name, device, channel, host, pid, version, concurrency, seen_at, clock_ahead_s)"
        " VALUES (:name, :device, :channel, :host, 1, :version, 2,"
        " clock_timestamp() - make_interval(secs => :seen_ago_s), :ahead_s)",
        device=channel.partition(".")[0], channel=channel, **given,
    )  # fmt: skip


def test_intake_that_is_not_there_is_a_note_and_one_that_ended_a_warning(home: Path) -> None:
    never = examine().of("workers", "channel arcfleet.intake")
    worker("arcfleet.intake", seen_ago_s=600)
    factories.sql("UPDATE worker_node SET device = ''")
    gone = examine()
    factories.sql("UPDATE worker_node SET seen_at = clock_timestamp()")
    there = examine()

    assert (never.severity, never.do) == (Severity.NOTE, "arcfleet intake")
    assert gone.of("workers", "channel arcfleet.intake").severity is Severity.WARNING
    assert there.of("workers", "channel arcfleet.intake").severity is Severity.OK
    assert not there.says("workers", "strangers")


@pytest.mark.parametrize("channel", ["archive-a", "archive-a.housekeeping", "archive-b", "archive-b.housekeeping"])
def test_channel_without_worker_is_an_error_that_names_the_command(home: Path, channel: str) -> None:
    device = channel.partition(".")[0]

    found = examine().of("workers", f"channel {channel}")

    assert (found.severity, found.found, found.device) == (Severity.ERROR, "no worker", device)
    assert found.do == f"arcfleet worker --device {device}"


def test_worker_that_ended_without_a_word_is_named(home: Path) -> None:
    worker(seen_ago_s=600)

    assert examine().of("workers", "channel archive-a").found == "no worker; archive-a.1@host was seen 10 min ago"


def test_worker_of_another_version_and_one_with_a_wrong_clock_are_warnings(home: Path) -> None:
    worker(version="0.0.9", ahead_s=7.5)

    said = examine()

    version, clock = said.of("workers", "version"), said.of("workers", "clock of host")
    assert (version.severity, version.expected) == (Severity.WARNING, VERSION)
    assert version.found == "archive-a.1@host is arcfleet 0.0.9"
    assert (clock.severity, clock.expected) == (Severity.WARNING, "at most 2 s")
    assert clock.found == "7.5 s ahead of the database's: archive-a.1@host"


def test_pauses_are_told_with_who_and_why(home: Path) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    with db.transaction() as session:
        pausing.pause(session, our_device("archive-a"), Wish("op@host", "disk is replaced"))
        pausing.pause(session, our_device("archive-b"), Wish("op@host", queue="Export", until=until, draining=True))

    said = examine()

    paused, drained = said.of("workers", "all queues of archive-a"), said.of("workers", "queue Export of archive-b")
    assert (paused.severity, paused.do) == (Severity.WARNING, "arcfleet device resume archive-a")
    assert paused.found.startswith("paused by op@host since ")
    assert paused.found.endswith(": disk is replaced")
    assert (drained.severity, drained.do) == (Severity.NOTE, "arcfleet device resume archive-b --queue Export")
    assert drained.found.startswith("drained by op@host since ")


def test_queues_that_nothing_uses_are_a_note(home: Path, source: LdifSource) -> None:
    ldif.apply(source.path, [ldif.queue("Spare", "archive-a")])

    said = examine()

    found = said.of("workers", "queues of archive-a")
    assert (found.severity, found.found) == (Severity.NOTE, "no kind of task and no exporter uses Spare")
    assert not said.says("workers", "queues of archive-b")


def test_missing_leader_is_an_error_and_one_that_leads_is_named(home: Path) -> None:
    without = examine().of("beat", "leader")
    factories.sql("INSERT INTO leader VALUES ('beat', 'beat.7@host', clock_timestamp() - interval '1 hour')")
    lapsed = examine().of("beat", "leader")
    factories.sql("UPDATE leader SET until = clock_timestamp() + interval '1 hour'")
    led = examine().of("beat", "leader")

    assert (without.severity, without.expected, without.do) == (Severity.ERROR, "one beat", "arcfleet beat")
    assert lapsed.severity is Severity.ERROR
    assert "beat.7@host did until 60 min ago" in lapsed.found
    assert led.severity is Severity.OK


def test_late_and_failed_jobs_are_warnings(home: Path) -> None:
    factories.sql(
        "INSERT INTO housekeeping_job (device, file_system_group, job, interval_s, next_run_at, result) VALUES"
        " ('archive-a', '', 'clean_records', 3600, clock_timestamp() - interval '1 hour', null),"
        " ('archive-b', '', 'purge_tasks', 3600, clock_timestamp(), 'ended by an error: see the log of the worker')"
    )

    said = examine()

    assert said.of("beat", "job archive-a/clean_records").found == "due since 60 min"
    assert said.of("beat", "job archive-b/purge_tasks").severity is Severity.WARNING


def late_task(**values: object) -> int:
    [task] = factories.insert(scheduled_time=datetime.now(UTC) - timedelta(hours=1), **values)
    return task.id


def test_task_that_waits_for_a_worker_is_a_warning_and_one_that_nothing_keeps_an_error(home: Path) -> None:
    task_id = late_task()
    without = examine().of("tasks", "waiting on archive-a/Export")
    worker("archive-a")
    with_worker = examine().of("tasks", "waiting on archive-a/Export")

    assert without.severity is Severity.WARNING
    assert without.found.startswith(f"1 wait, the first since 60 min, for example {task_id}: no worker of channel")
    assert with_worker.severity is Severity.ERROR
    assert with_worker.found.endswith("nothing keeps them")
    assert with_worker.do.startswith(f"arcfleet task explain {task_id}")


def test_task_that_somebody_holds_back_is_a_note_with_the_reason(home: Path) -> None:
    late_task(destination="dicom:PACS")
    worker("archive-a")
    with db.transaction() as session:
        destinations.hold(session, "dicom:PACS", Hold("op@host", "is upgraded"))

    said = examine()

    waiting, held = (
        said.of("tasks", "waiting on archive-a/Export for dicom:PACS"),
        said.of("destinations", "dicom:PACS"),
    )
    assert waiting.severity is Severity.NOTE
    assert waiting.found.endswith("Destination dicom:PACS is held by op@host: is upgraded")
    assert (held.severity, held.do) == (Severity.WARNING, "arcfleet destination release dicom:PACS")
    assert held.found.endswith(": is upgraded; 1 tasks wait")


def test_task_of_a_kind_or_device_that_is_gone_is_told(home: Path) -> None:
    late_task(device="archive-z")
    late_task(kind="MPPS")

    said = examine()

    assert "Device archive-z is not in the configuration" in said.of("tasks", "waiting on archive-z/Export").found
    assert "kind MPPS is not run by this version" in said.of("tasks", "waiting on archive-a/Export").found


def test_destination_that_fails_is_a_warning_with_its_last_error(home: Path) -> None:
    factories.sql(
        "INSERT INTO destination (name, failures, open_until, last_failure)"
        " VALUES ('dicom:PACS', 4, clock_timestamp() + interval '1 hour', 'PACS at 127.0.0.1:1: Connection refused')"
    )

    found = examine().of("destinations", "dicom:PACS")

    assert found.severity is Severity.WARNING
    assert found.found.endswith("after 4 failures in a row: PACS at 127.0.0.1:1: Connection refused")


def test_runs_without_lease_are_an_error_and_unclaimed_messages_a_warning(home: Path) -> None:
    lost = factories.running()
    factories.sql("UPDATE run SET lease_until = clock_timestamp() - interval '5 minutes'")
    factories.insert(device="archive-b")
    factories.reserve("archive-b")
    factories.sql("UPDATE run SET sent_at = clock_timestamp() - interval '5 minutes' WHERE device = 'archive-b'")

    said = examine()

    runs, messages = said.of("tasks", "runs"), said.of("tasks", "messages")
    assert (runs.severity, messages.severity) == (Severity.ERROR, Severity.WARNING)
    assert runs.found == f"1 with a lease that is over, by up to 5 min: tasks {lost.task.id}"
    assert messages.found == "1 messages that nobody claims for up to 5 min, of archive-b"


def test_alarms_that_stand_are_told_in_their_words(home: Path) -> None:
    factories.sql(
        "INSERT INTO alarm (name, subject, device, text, raised_at) VALUES"
        " ('pin expired', 'task 7', 'archive-a', 'Task 7 waits', clock_timestamp() - interval '1 hour'),"
        " ('pin expired', 'task 8', 'archive-a', 'Task 8 waits', clock_timestamp())"
    )

    found = examine().of("tasks", "alarm pin expired")

    assert found.severity is Severity.WARNING
    assert found.found.startswith("2, the first of ")
    assert found.found.endswith(": Task 7 waits")


def test_one_device_is_looked_at_alone(home: Path) -> None:
    factories.sql("INSERT INTO pause (device, who) VALUES ('archive-a', 'op'), ('archive-b', 'op')")

    said = examine("archive-b")

    assert {one.device for one in said.findings} == {None, "archive-b"}
    assert said.says("workers", "all queues of archive-b")


def test_worker_of_this_machine_brings_its_disks_into_the_examination(home: Path) -> None:
    factories.sql(
        "INSERT INTO file_system (path, owner_device, group_id, status, availability, retrieve_ae_title, marker)"
        " VALUES ('/nowhere', 'archive-a', 'ONLINE_STORAGE', 'RW+', 'ONLINE', 'A', gen_random_uuid())"
    )
    elsewhere = examine()
    worker("archive-a", host=platform.node())
    here = examine()

    assert elsewhere.of("file systems", "disks").severity is Severity.NOTE
    found = here.of("file systems", "/nowhere from here")
    assert found.severity is Severity.ERROR
    assert found.found.startswith("File system /nowhere: found nothing, expected a folder (used here by archive-a)")
