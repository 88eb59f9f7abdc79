"""`arcfleet task | token | device` within this process: the same answers as REST, tables, exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import structlog
from click.testing import CliRunner, Result

from api.cli.device import device
from api.cli.task import task
from api.cli.token import token
from config import settings
from tasks.state import Status
from tests import factories
from workers import app


@pytest.fixture
def _machine(cluster: None, api_database: str, broker: str, tmp_path: Path) -> Iterator[None]:
    settings.override(database_url=api_database, broker_url=broker)
    app.app.conf.broker_url = broker
    yield
    structlog.reset_defaults()  # it logs to the output of a runner that is gone


pytestmark = pytest.mark.usefixtures("_machine")


def run(command: click.Command, *arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(command, list(arguments), input=answer)


def failed(result: Result) -> str:
    assert result.exit_code == 1, result.output
    return result.stderr


def test_export_then_list() -> None:
    made = run(task, "export", "1.2.3", "Noop", "--aet", "ARCHIVE_A", "--batch", "b")
    listed = run(task, "list", "--batch", "b")

    assert made.exit_code == 0, made.output
    task_id = made.stdout.split()[1]
    assert made.stdout == f"Task {task_id} is SCHEDULED on archive-a\n"
    assert [word for word in listed.stdout.splitlines()[1].split() if word][:5] == [
        task_id, "SCHEDULED", "archive-a", "Export", "Noop",
    ]  # fmt: skip


def test_equal_task_is_said_to_wait() -> None:
    run(task, "export", "1.2.3", "Noop", "--aet", "ARCHIVE_A")

    again = run(task, "export", "1.2.3", "Noop", "--aet", "ARCHIVE_A")

    assert (again.exit_code, "waits already" in again.stderr) == (0, True)
    assert factories.sql("SELECT count(*) FROM task") == [1]


def test_what_it_schedules_is_sent_at_once() -> None:
    factories.seen_worker("archive-a")

    made = run(task, "export", "1.2.3", "Noop", "--aet", "ARCHIVE_A")

    assert made.exit_code == 0
    assert factories.sql("SELECT ending FROM run") == [None]
    with app.app.connection_for_read() as connection:
        assert connection.default_channel.queue_declare("archive-a", passive=True).message_count == 1


def test_lists_for_programs() -> None:
    factories.insert(2)

    as_json = json.loads(run(task, "list", "--json").stdout)
    as_csv = run(task, "list", "--csv", "--order", "createdTime").stdout

    assert len(as_json) == 2
    assert as_csv.startswith('"taskID",')
    assert run(task, "count", "--status", "waiting").stdout == "2\n"
    assert "SCHEDULED            2" in run(task, "count", "--by-status").stdout


def test_one_task() -> None:
    [made] = factories.insert()

    assert "1.2.3" in run(task, "show", str(made.id)).stdout
    assert "create" in run(task, "history", str(made.id)).stdout
    assert "no worker" in run(task, "explain", str(made.id)).stdout
    assert run(task, "cancel", str(made.id)).stdout == f"Task {made.id} is canceled\n"
    assert run(task, "reschedule", str(made.id), "--new-device", "archive-b").exit_code == 0
    assert run(task, "delete", str(made.id)).exit_code == 0
    assert "No such Task" in failed(run(task, "show", str(made.id)))


def test_bulk_change_asks_first() -> None:
    factories.insert(3)

    declined = run(task, "cancel", "--status", "waiting", answer="n\n")
    accepted = run(task, "cancel", "--status", "waiting", answer="y\n")

    assert declined.exit_code != 0
    assert "3 tasks would be canceled: 3 on archive-a" in declined.stderr
    assert accepted.exit_code == 0
    assert accepted.stdout.endswith("3 tasks canceled: 3 on archive-a\n")


def test_dry_run_changes_nothing() -> None:
    factories.insert(3)

    result = run(task, "delete", "--all", "--dry-run")

    assert (result.exit_code, result.stdout) == (0, "3 tasks would be deleted: 3 on archive-a\n")
    assert factories.sql("SELECT count(*) FROM task") == [3]


def test_refusals_are_listed_and_are_no_success() -> None:
    factories.insert(1)
    factories.insert(1, device="archive-b", exporter_id="OnlyB")

    result = run(task, "reschedule", "--all", "--new-device", "archive-a", "--yes")

    assert result.exit_code == 1
    assert "1 tasks rescheduled" in result.stdout
    assert "OnlyB" in result.stdout
    assert "1 tasks refused" in result.stderr


def test_several_ids() -> None:
    ids = [str(made.id) for made in factories.insert(3)]

    assert run(task, "cancel", *ids[:2], "--yes").exit_code == 0
    assert [factories.status_of(int(one)) for one in ids] == [Status.CANCELED, Status.CANCELED, Status.SCHEDULED]


def test_id_that_is_no_task_is_named_and_the_others_are_changed() -> None:
    [made] = factories.insert(1)

    result = run(task, "cancel", str(made.id), "99", "--yes")

    assert result.exit_code == 1
    assert "No such Task : 99" in result.stderr
    assert factories.status_of(made.id) is Status.CANCELED


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["delete", "--yes"], "expected ids of tasks, a filter such as --device or --status, or --all"),
        (["reschedule", "1", "--exporter", "Foo"], "--new-exporter"),
        (["delete", "--status", "SCHEDULED"], "say --yes"),
    ],
)
def test_wrong_usage_says_what_was_expected(arguments: list[str], part: str) -> None:
    factories.insert(1)

    result = run(task, *arguments)

    assert result.exit_code == 2
    assert part in result.stderr
    assert len(factories.sql("SELECT id FROM task")) == 1


def test_message_in_the_list_is_that_of_the_last_attempt() -> None:
    factories.insert(1)
    factories.sql(
        "UPDATE task SET status = 'COMPLETED', error_message = 'once broken', outcome_message = 'all sent' RETURNING id"
    )

    shown = run(task, "list").stdout

    assert "all sent" in shown
    assert "once broken" not in shown


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["list", "--status", "FALIED"], "status=FALIED"),
        (["cancel", "--device", "archive-a", "--yes"], "Missing query parameter: status"),
        (["reschedule", "--all", "--yes", "--new-device", "nowhere"], "Unknown Device: nowhere"),
        (["export", "1.2.3", "Nothing", "--aet", "ARCHIVE_A"], "No Exporter configured with ID:Nothing"),
        (["show", "abc"], "No such Task : abc"),
        (["list", "--url", "http://127.0.0.1:9"], "http://127.0.0.1:9"),
        (["list", "--url", "nonsense"], "nonsense"),
    ],
)
def test_error_is_one_line(arguments: list[str], part: str) -> None:
    result = run(task, *arguments)

    assert part in failed(result)
    assert len(result.stderr.strip().splitlines()) == 1


def test_tokens() -> None:
    added = run(token, "add", "night", "--role", "operator", "--days", "3")
    listed = json.loads(run(token, "list", "--json").stdout)
    revoked = run(token, "revoke", "night")

    assert added.exit_code == 0
    secret = added.stdout.strip()
    assert len(secret) > 40
    assert (listed[0]["name"], listed[0]["role"], listed[0]["revoked"]) == ("night", "operator", None)
    assert secret not in json.dumps(listed)
    assert revoked.stdout == "Token night is revoked\n"
    assert factories.sql("SELECT concat_ws('|', action, what) FROM audit ORDER BY id") == [
        "AddToken|night, operator", "RevokeToken|night",
    ]  # fmt: skip
    assert run(token, "add", "x", "--role", "boss").exit_code == 2


def test_devices() -> None:
    paused = run(device, "pause", "archive-a", "--why", "new disk")
    listed = run(device, "list").stdout

    assert paused.stdout == "Device archive-a is paused\n"
    assert "new disk" in listed
    assert run(device, "resume", "archive-a").exit_code == 0
    assert "Unknown Device: nowhere" in failed(run(device, "drain", "nowhere"))


def test_token_from_a_file_is_added_once_and_never_printed(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s" * 32 + "\n")

    first = run(token, "add", "ops", "--role", "operator", "--from-file", str(file))
    second = run(token, "add", "ops", "--role", "operator", "--from-file", str(file))

    assert (first.exit_code, first.stdout) == (0, "Token ops is added\n")
    assert (second.exit_code, second.stdout) == (0, "the token is there already\n")
