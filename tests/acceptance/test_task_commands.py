"""`arcfleet task` against a server of its own process: each command, its tables, its questions, its exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import structlog
from click.testing import CliRunner, Result

from api.cli.task import task
from tasks.state import Status
from tests import factories, indexed
from tests.lab import ldif
from tests.lab.cluster import Lab, cluster, free_port
from tests.lab.waiting import wait_until


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Lab, str]]:
    with cluster(ldif.exporter("Noop", uri="noop:")) as lab:
        member, url = lab.api("--offset", str(free_port() % 20_000 + 1000))
        wait_until(lambda: member.said("Application startup complete"), "the API is ready", say=member.tail)
        yield lab, url


@pytest.fixture(autouse=True)
def _empty(server: tuple[Lab, str]) -> Iterator[None]:
    factories.empty()
    indexed.empty()
    yield
    structlog.reset_defaults()  # it logs to the output of a runner that is gone


@pytest.fixture
def url(server: tuple[Lab, str]) -> str:
    return server[1]


def run(url: str, *arguments: str, answer: str = "") -> Result:
    made: click.Command = task
    return CliRunner().invoke(made, [*arguments, "--url", url], input=answer)


def ok(url: str, *arguments: str, answer: str = "") -> Result:
    result = run(url, *arguments, answer=answer)
    assert result.exit_code == 0, result.output
    return result


def test_export_is_made_listed_shown_and_told(url: str) -> None:
    made = ok(url, "export", "1.2.3", "Noop", "--aet", "ARCHIVE_A", "--batch", "b", "--priority", "7")

    task_id = made.stdout.split()[1]
    assert made.stdout == f"Task {task_id} is SCHEDULED on archive-a\n"
    assert ok(url, "list", "--batch", "b").stdout.split("\n")[1].split()[:6] == [
        task_id, "SCHEDULED", "archive-a", "Export", "Noop", "1.2.3",
    ]  # fmt: skip
    assert json.loads(ok(url, "list", "--json").stdout)[0]["taskID"] == task_id
    assert ok(url, "list", "--csv").stdout.startswith('"taskID",')
    assert json.loads(ok(url, "show", task_id, "--json").stdout)["taskPriority"] == 7
    assert "create" in ok(url, "history", task_id).stdout
    assert ok(url, "count", "--exporter", "Noop").stdout == "1\n"
    assert "SCHEDULED            1" in ok(url, "count", "--by-status").stdout


def test_all_that_match_are_exported_after_a_question(url: str) -> None:
    for number in (1, 2, 3):
        indexed.study(f"1.{number}", accession_number=f"A{number}")
    command = ("export", "Noop", "--aet", "ARCHIVE_A", "--match", "AccessionNumber=A*")

    planned = ok(url, *command, "--dry-run")
    declined = run(url, *command, answer="n\n")
    silent = run(url, *command)
    accepted = ok(url, *command, answer="y\n")
    again = ok(url, *command, "--yes", "--json")

    assert planned.stdout == "3 tasks would be made: 3 on archive-a\n"
    assert declined.exit_code != 0
    assert (silent.exit_code, "say --yes" in silent.stderr) == (2, True)
    assert accepted.stdout.endswith("3 tasks made\n")
    assert json.loads(again.stdout) == {"count": 0}
    assert "3 equal tasks" in again.stderr
    assert ok(url, "count").stdout == "3\n"


def test_lines_of_a_csv_are_exported(url: str, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text("name;study\nA;1.1\nB;1.2\n")
    bad.write_text("1.1\n1.2\nnonsense\n")
    command = ("export", "Noop", "--aet", "ARCHIVE_A", "--yes", "--from-csv")

    refused = run(url, *command, str(bad))
    made = ok(url, *command, str(good), "--column", "2", "--semicolon", "--batch", "csv")

    assert refused.exit_code == 1
    assert "line 3: StudyInstanceUID 'nonsense'" in refused.stderr
    assert made.stdout == "2 tasks made\n"
    assert ok(url, "count", "--batch", "csv").stdout == "2\n"


def test_many_are_canceled_moved_and_deleted(url: str) -> None:
    factories.insert(30)

    moved = ok(url, "reschedule", "--all", "--new-device", "archive-b", "--yes")
    canceled = ok(url, "cancel", "--status", "waiting", "--device", "archive-b", answer="y\n")
    deleted = ok(url, "delete", "--status", "CANCELED", "--yes", "--json")

    assert moved.stdout == "30 tasks rescheduled: 30 on archive-b\n"
    assert canceled.stdout.endswith("30 tasks canceled: 30 on archive-b\n")
    assert json.loads(deleted.stdout)["count"] == 30
    assert ok(url, "count").stdout == "0\n"


def test_refusals_are_no_success(url: str) -> None:
    factories.insert(1, exporter_id="Gone")

    result = run(url, "reschedule", "--all", "--new-device", "archive-b", "--yes")

    assert result.exit_code == 1
    assert "Gone" in result.stdout
    assert "1 tasks refused" in result.stderr


def test_tasks_of_a_queue_are_those_of_every_kind(url: str) -> None:
    factories.insert(2)
    factories.insert(1, queue="Other")

    assert ok(url, "count", "--queue", "Export").stdout == "2\n"
    assert ok(url, "cancel", "--queue", "Export", "--status", "waiting", "--yes").stdout.startswith("2 tasks canceled")
    assert ok(url, "count", "--status", "waiting").stdout == "1\n"


def test_batches_are_counted_by_status(url: str) -> None:
    factories.insert(2, batch_id="night")
    factories.placed(Status.CANCELED, batch_id="night")

    shown = ok(url, "batches").stdout.splitlines()
    as_json = json.loads(ok(url, "batches", "--batch", "night", "--json").stdout)

    assert shown[0].split()[:3] == ["batch", "devices", "scheduled"]
    assert shown[1].split()[:4] == ["night", "archive-a", "2", "1"]
    assert as_json[0]["tasks"] == {"scheduled": "2", "canceled": "1"}


def test_retrieve_diff_and_verify(url: str, tmp_path: Path) -> None:
    lines = tmp_path / "studies.csv"
    lines.write_text("1.8\n1.9\n")
    aet = ("--aet", "ARCHIVE_A")

    retrieved = ok(url, "retrieve", "1.2", "PACS", "ARCHIVE_A", *aet, "--batch", "r")
    of_csv = ok(url, "retrieve", "PACS", "ARCHIVE_A", *aet, "--from-csv", str(lines), "--yes")
    compared = ok(url, "diff", "PACS", "PACS", *aet, "--match", "PatientID=1", "--missing")
    verified = ok(url, "verify", "1.2", *aet, "--series", "1.3", "--policy", "OBJECT_SIZE", "--no-update")

    assert "is SCHEDULED on archive-a" in retrieved.stdout
    assert of_csv.stdout == "2 tasks made\n"
    assert compared.stdout.startswith("the task is made")
    assert "is SCHEDULED on archive-a" in verified.stdout
    assert ok(url, "count", "--kind", "retrieve", "--remote-aet", "PACS").stdout == "3\n"
    assert ok(url, "count", "--kind", "diff", "--remote-aet", "PACS", "--missing").stdout == "1\n"
    assert "PACS > ARCHIVE_A" in ok(url, "list", "--kind", "retrieve", "--batch", "r").stdout
    assert ok(url, "count", "--kind", "stgver", "--local-aet", "ARCHIVE_A").stdout == "1\n"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["export", "Noop", "--aet", "A"], "expected one of STUDY, --match (or --all), --from-csv"),
        (["export", "--aet", "A"], "expected [STUDY] EXPORTER"),
        (["export", "1.2", "Noop", "--aet", "A", "--match", "PatientID=1"], "expected one of STUDY"),
        (["export", "Noop", "--aet", "A", "--match", "PatientID"], "expected KEY=VALUE"),
        (["export", "1.2", "Noop", "--aet", "A", "--instance", "1"], "expected --series with it"),
        (["export", "1.2", "Noop", "--aet", "A", "--dry-run"], "one study is one task"),
        (["diff", "1.2", "A", "B", "--aet", "A"], "--match StudyInstanceUID=1.2"),
        (["list", "--remote-aet", "PACS"], "--remote-aet: not a filter of --kind export"),
        (["list", "--queue", "Export", "--exporter", "Noop"], "--exporter: not a filter of queue Export"),
        (["delete", "--yes"], "expected ids of tasks"),
    ],
)
def test_wrong_usage_says_what_was_expected(url: str, arguments: list[str], part: str) -> None:
    result = run(url, *arguments)

    assert result.exit_code == 2, result.output
    assert part in result.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["export", "1.2", "Nothing", "--aet", "ARCHIVE_A"], "No Exporter configured with ID:Nothing"),
        (["export", "1.2", "Noop", "--aet", "NOBODY"], "No such Application Entity: NOBODY"),
        (["export", "Noop", "--aet", "ARCHIVE_A", "--match", "StudyDat=1", "--yes"], "nearest known one is StudyDate"),
        (["retrieve", "1.2", "NOBODY", "X", "--aet", "ARCHIVE_A"], "No such Application Entity: NOBODY"),
        (["show", "99"], "No such Task : 99"),
    ],
)
def test_error_of_the_server_is_one_line(url: str, arguments: list[str], part: str) -> None:
    result = run(url, *arguments)

    assert (result.exit_code, len(result.stderr.strip().splitlines())) == (1, 1), result.output
    assert part in result.stderr
