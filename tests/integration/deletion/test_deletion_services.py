"""`/fs`, `/monitor/deletion` and `arcfleet fs` against one archive: what they show, do and refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click
import pytest
import structlog
from click.testing import CliRunner, Result

from api.app import create_app
from api.cli.fs import fs
from api.cli.task import task as task_command
from archive.deletion import reports
from config import settings
from tasks import jobs
from tasks.state import Status
from tests import factories
from tests.integration.api.wire import BASE, Wire, error_of
from tests.lab import deletable
from tests.lab.deletable import ONLINE, House
from workers import app

STUDY = "1.2.3"
GROUP = f"{BASE}/fs/archive-a/{ONLINE}"
MONITOR = f"{BASE}/monitor/deletion"


@pytest.fixture
def wire(house: House) -> Iterator[Wire]:
    reports.look("archive-a")
    factories.sql("DELETE FROM audit")
    with Wire(create_app()) as client:
        yield client


def audited() -> list[str]:
    return factories.sql(
        "SELECT concat_ws(' ', action, count, failed, outcome) FROM audit WHERE action NOT LIKE 'Schedule%Task'"
        " ORDER BY id"
    )


def test_named_study_is_scheduled_with_its_bytes_and_tasks(wire: Wire, house: House) -> None:
    house.deletable(STUDY)
    size_bytes = sum(path.stat().st_size for path in house.files(STUDY))

    answer = wire.post(f"{GROUP}/scheduleStudyForDeletion?studyUID={STUDY}")

    [task] = factories.views()
    told = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"{MONITOR}?StudyInstanceUID={STUDY}"
    assert (told["studyInstanceUID"], told["bytes"], told["taskIDs"], told["refused"]) == (
        STUDY, size_bytes, [str(task.id)], [],
    )  # fmt: skip
    assert (task.requester_user, task.request_uri) == (
        "local", f"{GROUP}/scheduleStudyForDeletion?studyUID={STUDY}",
    )  # fmt: skip
    assert audited() == ["ScheduleStudyForDeletion 1 0"]
    house.run()
    assert deletable.deletions_written()[0].who == "local@127.0.0.1"


def test_every_reason_against_a_named_study_is_told(wire: Wire, house: House) -> None:
    house.store(STUDY, close=False)
    factories.insert(study_uid=STUDY)

    answer = wire.post(f"{GROUP}/scheduleStudyForDeletion?studyUID={STUDY}")

    assert answer.status_code == 409
    said = error_of(answer)
    for word in (STUDY, "not being received", "not pinned", "not the last copy", "AllowDeletingLastCopy=true"):
        assert word in said
    assert "not accessed" not in said
    assert (house.marks(), audited()) == ([], [])


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (f"/fs/archive-a/{ONLINE}/scheduleStudyForDeletion?studyUID=9.9", "No such Study: 9.9"),
        ("/fs/archive-a/GONE/scheduleStudyForDeletion?studyUID=9.9", "No such FileSystemGroup: GONE at Device{name=ar"),
        (f"/fs/archive-x/{ONLINE}/scheduleStudyForDeletion?studyUID=9.9", "Unknown Device: archive-x"),
        ("/studies/9.9/protect", "No such Study: 9.9"),
        ("/studies/9.9/unprotect", "No such Study: 9.9"),
    ],
)
def test_what_is_not_there_is_named(wire: Wire, path: str, said: str) -> None:
    answer = wire.post(BASE + path)

    assert (answer.status_code, said in error_of(answer)) == (404, True)


def test_study_uid_is_needed(wire: Wire) -> None:
    answer = wire.post(f"{GROUP}/scheduleStudyForDeletion")

    assert (answer.status_code, error_of(answer)) == (400, "Missing query parameter: studyUID")


def test_look_runs_now_and_says_what_it_did(wire: Wire, house: House) -> None:
    house.deletable(STUDY)

    answer = wire.post(f"{GROUP}/scheduleStudiesForDeletion")

    assert answer.status_code == 200
    assert answer.json()["result"].startswith("1 studies scheduled")
    assert house.marks() == [factories.views()[0].id]


def test_ledger_names_who_asked_for_the_look(wire: Wire, house: House) -> None:
    house.deletable(STUDY)

    wire.post(f"{GROUP}/scheduleStudiesForDeletion")
    house.run()

    [row] = deletable.deletions_written()
    assert (row.who, row.trigger) == ("local@127.0.0.1", "DeleteStudyIfNotAccessedFor")
    assert factories.views()[0].request_uri == f"{GROUP}/scheduleStudiesForDeletion"


def test_look_is_shown_and_told_since_when_also_where_none_is_configured(wire: Wire, house: House) -> None:
    assert wire.get(GROUP).json()["scheduleStudiesForDeletion"] is None
    house.look()

    told = wire.get(GROUP).json()["scheduleStudiesForDeletion"]
    with jobs.alone(jobs.Job("archive-a", ONLINE, "schedule_deletions"), "studies are being scheduled"):
        answer = wire.post(f"{GROUP}/scheduleStudiesForDeletion")

    assert (told["nextRunAt"], told["result"]) == (None, "0 studies scheduled (0 bytes), 0 kept")
    assert told["endedAt"] is not None
    assert (answer.status_code, "scheduled for deletion since 20" in error_of(answer)) == (409, True)


def test_look_that_goes_on_is_a_conflict_that_says_since_when(wire: Wire, house: House) -> None:
    job = jobs.Job("archive-a", ONLINE, "schedule_deletions")
    factories.sql(
        "INSERT INTO housekeeping_job (device, file_system_group, job, interval_s, started_at)"
        " VALUES ('archive-a', :group, 'schedule_deletions', 60, '2026-01-02 03:04:05Z')", group=ONLINE,
    )  # fmt: skip
    with jobs.alone(job, "studies are being scheduled for deletion"):
        answer = wire.post(f"{GROUP}/scheduleStudiesForDeletion")

    assert answer.status_code == 409
    assert error_of(answer).endswith("studies are being scheduled for deletion since 2026-01-02 03:04:05 UTC")


def test_group_shows_its_disks_rules_and_last_look(wire: Wire, house: House) -> None:
    house.configure(schedule_interval=None, pin_waiting_for=house.group.pin_waiting_for)
    factories.sql(
        "INSERT INTO housekeeping_job (device, file_system_group, job, interval_s) VALUES"
        " ('archive-a', :group, 'schedule_deletions', 60)", group=ONLINE,
    )  # fmt: skip
    house.marked(STUDY)
    (house.home / "online-2" / "NO_MOUNT").write_bytes(b"")
    house.look()

    told = wire.get(GROUP).json()

    first, second = told["fileSystems"]
    assert (first["path"], first["status"], first["availability"], first["healthy"]) == (
        str(house.root()), "RW+", "ONLINE", True,
    )  # fmt: skip
    assert (first["studies"], first["markedStudies"]) == (1, 1)
    assert 0 < first["freeBytes"] <= first["totalBytes"]
    assert (second["status"], second["healthy"], "NO_MOUNT" in second["problem"]) == ("RW", False, True)
    assert told["attributes"]["AllowDeletingLastCopy"] in ("FALSE", "false")
    assert told["attributes"]["DeleteStudyOnlyIfCopyOnFileSystemOfFileSystemGroup"] == "NEARLINE_STORAGE"
    assert told["scheduleStudiesForDeletion"]["result"].startswith("0 studies scheduled")
    assert told["scheduleStudiesForDeletion"]["endedAt"] is not None


def test_study_is_explained_for_both_triggers(wire: Wire, house: House) -> None:
    house.store(STUDY)
    house.copy(STUDY)

    [told] = wire.get(f"{GROUP}/explain?studyUID={STUDY}").json()

    assert (told["studyInstanceUID"], told["files"], told["path"]) == (STUDY, 3, str(house.root()))
    by_age, by_name = told["triggers"]
    assert (by_age["trigger"], by_age["deletable"]) == ("DeleteStudyIfNotAccessedFor", False)
    assert [reason["rule"] for reason in by_age["reasons"]] == ["not accessed"]
    assert by_name == {"trigger": "scheduleStudyForDeletion", "deletable": True, "reasons": []}


def test_protected_study_is_kept_until_that_is_lifted(wire: Wire, house: House) -> None:
    house.deletable(STUDY)
    assert wire.post(f"{BASE}/studies/{STUDY}/protect?why=teaching").status_code == 204

    refused = wire.post(f"{GROUP}/scheduleStudyForDeletion?studyUID={STUDY}")
    assert "protected by local@127.0.0.1 since" in error_of(refused)
    assert wire.post(f"{BASE}/studies/{STUDY}/unprotect").status_code == 204
    assert error_of(wire.post(f"{BASE}/studies/{STUDY}/unprotect")) == f"Study {STUDY} is not protected"
    assert wire.post(f"{GROUP}/scheduleStudyForDeletion?studyUID={STUDY}").status_code == 202
    assert audited() == ["ProtectStudy 1", "UnprotectStudy 1", "ScheduleStudyForDeletion 1 0"]


# --- /monitor/deletion


def test_deletions_are_listed_in_json_and_csv(wire: Wire, house: House) -> None:
    task = house.marked(STUDY)
    house.run()

    [told] = wire.get(f"{MONITOR}?StudyInstanceUID={STUDY}").json()
    assert told["type"] == "DELETE_STUDY"
    assert (told["taskID"], told["status"], told["queue"]) == (str(task.id), "COMPLETED", "DeleteStudy")
    assert (told["FileSystemPath"], told["FileSystemGroupID"], told["Trigger"]) == (
        str(house.root()), ONLINE, "scheduleStudyForDeletion",
    )  # fmt: skip
    assert told["Bytes"] == str(task.params["bytes"])
    csv = wire.get(f"{MONITOR}?accept=text/csv").text.splitlines()
    assert csv[0].startswith('"taskID","createdTime","updatedTime","StudyInstanceUID","FileSystemID"')
    assert f'"{STUDY}"' in csv[1]
    assert wire.get(f"{MONITOR}/count?StudyInstanceUID=9.9").json() == {"count": 0}
    assert wire.get(f"{MONITOR}/{task.id}").json()["parameters"]["group"] == ONLINE


def test_deletion_is_cancelled_rescheduled_and_deleted_as_any_task(wire: Wire, house: House) -> None:
    task, other, third = house.marked(STUDY), house.marked("1.2.4"), house.marked("1.2.5")

    assert wire.post(f"{MONITOR}/{task.id}/reschedule").status_code == 204
    moved = wire.post(f"{MONITOR}/{task.id}/reschedule?newDeviceName=archive-b")
    assert (moved.status_code, "only its owner unlinks there" in error_of(moved)) == (409, True)
    assert wire.post(f"{MONITOR}/{task.id}/cancel").status_code == 204
    again = wire.post(f"{MONITOR}/{task.id}/reschedule")
    assert (again.status_code, "its mark does not stand any more" in error_of(again)) == (409, True)
    assert wire.delete(f"{MONITOR}/{other.id}").status_code == 204
    bulk = wire.post(f"{MONITOR}/reschedule?all=true")
    assert (bulk.status_code, bulk.json()["count"], bulk.json()["failed"]) == (202, 1, 1)

    assert house.marks() == [third.id]
    assert wire.get(f"{MONITOR}/{third.id}/explain").json()["status"] == "SCHEDULED"


# --- arcfleet fs


@pytest.fixture
def _machine(house: House, deletions_database: str, broker: str) -> Iterator[None]:
    settings.override(database_url=deletions_database, broker_url=broker)
    app.app.conf.broker_url = broker
    reports.look("archive-a")
    yield
    structlog.reset_defaults()  # it logs to the output of a runner that is gone


def run(command: click.Command, *arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


@pytest.mark.usefixtures("_machine")
def test_command_line_shows_explains_and_schedules(house: House) -> None:
    house.deletable(STUDY)
    place = f"archive-a/{ONLINE}"

    shown = run(fs, "show", place)
    assert (shown.exit_code, str(house.root()) in shown.stdout, "DeletionGraceTime" in shown.stdout) == (0, True, True)
    assert len(json.loads(run(fs, "show", place, "--json").stdout)["fileSystems"]) == 2
    explained = run(fs, "explain", place, STUDY)
    assert "DeleteStudyIfNotAccessedFor: nothing keeps it" in explained.stdout

    made = run(fs, "schedule-study", place, STUDY)

    [task] = factories.views()
    assert made.stdout.startswith(f"Study {STUDY} is scheduled for 20")
    assert f": task {task.id}, {task.params['bytes']} bytes" in made.stdout
    again = run(fs, "schedule-study", place, STUDY)
    assert (again.exit_code, f"task {task.id} deletes it already" in again.stderr) == (1, True)
    assert "1 kept: 1 not marked" in run(fs, "schedule-studies", place).stdout
    assert f"{task.id}" in run(task_command, "list", "--kind", "deletion").stdout
    assert run(task_command, "cancel", str(task.id), "--kind", "deletion").exit_code == 0
    assert deletable.task(task.id).status is Status.CANCELED


@pytest.mark.usefixtures("_machine")
def test_command_line_protects_a_study(house: House) -> None:
    house.deletable(STUDY)

    assert run(fs, "protect", STUDY, "--why", "teaching").stdout == f"Study {STUDY} is protected\n"
    assert "(teaching)" in run(fs, "explain", f"archive-a/{ONLINE}", STUDY).stdout
    assert run(fs, "unprotect", STUDY).stdout == f"Study {STUDY} is unprotected\n"


@pytest.mark.usefixtures("_machine")
@pytest.mark.parametrize("place", ["archive-a", "/x", "archive-a/"])
def test_command_line_says_how_a_group_is_named(place: str) -> None:
    result = run(fs, "show", place)

    assert (result.exit_code, "expected DEVICE/GROUP" in result.stderr) == (2, True)
