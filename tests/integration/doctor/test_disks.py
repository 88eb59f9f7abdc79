"""What doctor says of file systems, of the disks of this machine, and of deletion."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from api.doctor.finding import Finding, Severity
from archive import db, model
from archive.deletion import reports
from archive.storage import file_systems
from archive.storage.health import MARKER, MOUNT_FAILED
from config.ldif_source import LdifSource
from tasks.operations import our_device
from tests import factories
from tests.integration.archive.small_disk import small_disk
from tests.lab import ldif
from tests.lab.examined import Examined, by_command, examine
from tests.lab.hanging_disk import hanging_disk

_GROUP = "archive-a/ONLINE_STORAGE"


@pytest.fixture
def online(home: Path) -> Path:
    """The folder of archive-a's ONLINE_STORAGE; all file systems are there, and their workers were seen here."""
    for name in ("archive-a", "archive-b"):
        with db.transaction() as session:
            file_systems.ensure(session, our_device(name), home)
        reports.look(name)
        factories.sql(
            "INSERT INTO worker_node (name, device, channel, host, pid, version, concurrency)"
            " VALUES (:name, :name, :name, :host, 1, '0', 1)",
            name=name, host=platform.node(),
        )  # fmt: skip
    return home / "storage" / "archive-a" / "online"


def bad(said: Examined) -> Sequence[Finding]:
    """Return what is wrong with file systems and deletion."""
    return [
        one for one in said.findings
        if one.subject in ("file systems", "deletion") and one.severity in (Severity.WARNING, Severity.ERROR)
    ]  # fmt: skip


def test_file_systems_that_are_as_they_should_be_are_told_so(online: Path) -> None:
    said = examine()

    assert bad(said) == []
    assert said.of("file systems", f"group {_GROUP}").found == f"current (RW+) is {online}, 1 in all"
    assert said.of("file systems", f"{online} from here").found.startswith("RW+, ")
    assert said.of("file systems", f"report on {online}").found.startswith("healthy at ")
    assert said.of("deletion", "unlink list").found == "empty"


def test_marker_that_is_gone_is_an_error(online: Path) -> None:
    (online / MARKER).unlink()

    found = examine().of("file systems", f"{online} from here")

    assert (found.severity, found.expected, found.device) == (
        Severity.ERROR, "the file system of its row", "archive-a",
    )  # fmt: skip
    assert f"no {MARKER} in it" in found.found
    assert found.found.endswith("(used here by archive-a, archive-b)")


def test_marker_of_another_disk_and_a_failed_mount_are_errors(online: Path, home: Path) -> None:
    nearline = home / "storage" / "archive-a" / "nearline"
    (online / MARKER).write_bytes((nearline / MARKER).read_bytes())
    (nearline / MOUNT_FAILED).touch()

    said = examine()

    assert "another disk is mounted there" in said.of("file systems", f"{online} from here").found
    assert MOUNT_FAILED in said.of("file systems", f"{nearline} from here").found


def test_group_without_room_is_an_error(online: Path, source: LdifSource) -> None:
    full = ldif.Change("arcFileSystemGroupID=ONLINE_STORAGE", {"arcMinimumFreeDiskSpace": "100%"}, ("archive-a",))
    ldif.apply(source.path, [full])

    found = examine().of("file systems", f"room in {_GROUP}")

    assert (found.severity, found.expected) == (Severity.ERROR, "room for new objects")
    assert "expected 100%" in found.found


def test_file_system_in_memory_and_short_of_inodes_is_a_warning(online: Path) -> None:
    with small_disk(online, "1m,nr_inodes=10"):
        said = examine()

    kind, inodes = said.of("file systems", f"kind of {online}"), said.of("file systems", f"inodes of {online}")
    assert (kind.severity, kind.expected) == (Severity.WARNING, "a disk")
    assert kind.found.startswith("tmpfs")
    assert (inodes.severity, inodes.expected) == (Severity.WARNING, "at least 1000")


def test_disk_that_is_read_only_is_found_with_and_without_a_write_probe(online: Path) -> None:
    with small_disk(online, "1m"):
        subprocess.run(["mount", "-o", "remount,ro", str(online)], check=True)
        looked, written = examine(), examine(write_probe=True)

    assert looked.of("file systems", f"mount of {online}").found == "read-only"
    assert "Read-only file system" in written.of("file systems", f"{online} from here").found


def test_disk_that_hangs_is_an_error_and_keeps_nobody(online: Path, home: Path) -> None:
    nearline = home / "storage" / "archive-a" / "nearline"
    with hanging_disk(online):
        said = by_command("--write-probe", "--no-remote")

    found = said.of("file systems", f"{online} from here")
    assert (said.code, found.severity) == (1, Severity.ERROR)
    assert "does not answer since" in found.found
    assert said.of("file systems", f"{nearline} from here").severity is Severity.OK
    assert said.of("deletion", "unlink list").found == "empty"


def test_write_probe_leaves_nothing(online: Path) -> None:
    said = examine(write_probe=True)

    assert said.of("file systems", f"{online} from here").severity is Severity.OK
    assert [one.name for one in online.iterdir()] == [MARKER]


def test_group_without_a_current_file_system_is_told(online: Path) -> None:
    factories.sql("UPDATE file_system SET status = 'RW' WHERE path = :path", path=str(online))
    one_left = examine().of("file systems", f"group {_GROUP}")
    factories.sql("UPDATE file_system SET status = 'RO' WHERE path = :path", path=str(online))
    none_left = examine().of("file systems", f"group {_GROUP}")

    assert (one_left.severity, one_left.expected) == (Severity.WARNING, "one that is RW+")
    assert (none_left.severity, none_left.found) == (
        Severity.ERROR, "no current (RW+) file system; 0 others are writable",
    )  # fmt: skip


def test_problem_that_an_owner_reports_is_an_error_and_an_old_report_a_warning(online: Path) -> None:
    factories.sql("UPDATE file_system_report SET problem = 'it smokes' WHERE free_bytes IS NOT NULL AND file_system_id"
                  " = (SELECT id FROM file_system WHERE path = :path)", path=str(online))  # fmt: skip
    reported = examine().of("file systems", f"report on {online}")
    factories.sql("UPDATE file_system_report SET problem = NULL, checked_at = clock_timestamp() - interval '1 hour'")
    old = examine().of("file systems", f"report on {online}")

    assert (reported.severity, reported.found) == (Severity.ERROR, "it smokes")
    assert old.severity is Severity.WARNING
    assert "has reported its health since" in old.found


def test_file_system_that_was_not_added_yet_is_a_warning_that_names_it(online: Path, source: LdifSource) -> None:
    paths = ["storage/archive-a/online|sharedWith=archive-b", "storage/archive-a/second"]
    more = ldif.Change("arcFileSystemGroupID=ONLINE_STORAGE", {"arcFileSystem": paths}, ("archive-a",))
    ldif.apply(source.path, [more])

    found = [one for one in bad(examine()) if one.what == f"group {_GROUP}"]

    assert [one.found for one in found] == [f"configured, not added yet: {online.with_name('second')}"]


def test_files_that_cannot_leave_their_disk_are_a_warning(online: Path) -> None:
    entry = (
        "INSERT INTO unlink (file_system_id, path, reason, size_bytes, attempts, error, created_at, next_attempt_at)"
        " SELECT id, :name, 'deleted', 1000, :attempts, :error, clock_timestamp() - interval '2 hours',"
        " clock_timestamp() - interval '2 hours' FROM file_system WHERE path = :path"
    )
    factories.sql(entry, name="a", attempts=0, error=None, path=str(online))
    late = examine().of("deletion", f"unlink list of {online}")
    factories.sql(entry, name="b", attempts=3, error="Input/output error", path=str(online))
    failed = examine().of("deletion", f"unlink list of {online}")

    assert (late.severity, failed.severity) == (Severity.WARNING, Severity.WARNING)
    assert late.found.startswith("1 files (1.0 kB)")
    assert late.found.endswith("1 of them due for more than 30 min")
    assert failed.found.endswith("1 could not be removed: Input/output error")


def test_marks_without_task_and_deletions_without_end_are_warnings(online: Path) -> None:
    factories.sql(
        "INSERT INTO study_deletion (study_uid, file_system_id, file_system_path, device, group_id, num_files,"
        " size_bytes, access_time, trigger, rules, task_id, who, remaining_copies, deleted_at)"
        " VALUES ('1.2', 1, '/x', 'archive-a', 'ONLINE_STORAGE', 1, 2000, clock_timestamp(), 'x', '{}', 7, 'op', '{}',"
        " clock_timestamp() - interval '3 hours')"
    )
    with db.transaction() as session:
        patient = model.Patient(patient_id="P")
        session.add(patient)
        session.flush()
        study = model.Study(study_uid="1.2", patient_id=patient.id)
        session.add(study)
        session.flush()
        number = study.id
    factories.sql(
        "INSERT INTO study_on_file_system (study_id, file_system_id, access_time, marked_at, mark_task_id, mark_bytes)"
        " SELECT :study, id, clock_timestamp(), clock_timestamp() - interval '2 hours', 99, 5000 FROM file_system"
        " WHERE path = :path",
        study=number, path=str(online),
    )  # fmt: skip

    said = examine()

    assert said.of("deletion", "marks").found == f"1 without a task that deletes, on {online}"
    assert said.of("deletion", "to be deleted").found == "1 studies, 5.0 kB"
    unfinished = said.of("deletion", "unfinished on archive-a")
    assert (unfinished.severity, unfinished.found) == (Severity.WARNING, "1 studies (2.0 kB), the first since 3 h")
