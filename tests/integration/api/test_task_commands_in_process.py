"""Commands about tasks, operations and devices within this process: ids, queues, JSON, findings, foreign devices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import structlog
from click.testing import CliRunner, Result

from api.cli.device import device
from api.cli.operation import operation
from api.cli.task import task
from config import settings
from config.device import Device, NetworkConnection, WebApplication
from tasks.state import Status
from tests import factories
from tests.integration.api.wire import BASE, EXPORTS
from tests.lab import recording
from tests.lab.recording import Node
from workers import app


@pytest.fixture(autouse=True)
def _machine(cluster: None, api_database: str, broker: str, tmp_path: Path) -> Iterator[None]:
    settings.override(database_url=api_database, broker_url=broker)
    app.app.conf.broker_url = broker
    yield
    structlog.reset_defaults()  # it logs to the output of a runner that is gone


@pytest.fixture
def node() -> Iterator[Node]:
    """A device of another product beside ours."""
    with recording.node() as made:
        service = WebApplication("other", BASE, ("DCM4CHEE_ARC",), ("http",))
        connection = NetworkConnection("http", "127.0.0.1", made.port, "HTTP")
        other = Device(
            "other-house", is_archive=True, connections={"http": connection}, web_apps={"other": service}
        )  # fmt: skip
        factories.use_cluster(factories.device(), other)
        yield made


def run(command: click.Command, *arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(command, list(arguments), input=answer)


def ok(command: click.Command, *arguments: str, answer: str = "") -> Result:
    result = run(command, *arguments, answer=answer)
    assert result.exit_code == 0, result.output
    return result


def test_ids_are_filters_of_lists_and_counts() -> None:
    first, _, third = factories.insert(3)

    listed = json.loads(ok(task, "list", "--id", str(first.id), "--id", str(third.id), "--json").stdout)

    assert sorted(one["taskID"] for one in listed) == [str(first.id), str(third.id)]
    assert ok(task, "count", "--id", str(first.id)).stdout == "1\n"


def test_counts_are_for_programs_too() -> None:
    factories.insert(2)

    by_status = json.loads(ok(task, "count", "--by-status", "--json").stdout)

    assert json.loads(ok(task, "count", "--json").stdout) == {"count": 2}
    assert by_status == {str(status): 2 if status is Status.SCHEDULED else 0 for status in Status}


def test_changes_by_id_are_told_to_programs() -> None:
    [made] = factories.insert()

    some = run(task, "cancel", str(made.id), "999999", "--json")
    one = ok(task, "delete", str(made.id), "--json")

    assert some.exit_code == 1
    assert json.loads(some.stdout) == {
        "count": 1, "failed": 1, "refusals": [{"reason": "Task 999999: No such Task : 999999", "count": 1}],
    }  # fmt: skip
    assert json.loads(one.stdout) == {"count": 1, "failed": 0, "refusals": []}


def test_task_of_any_kind_is_changed_by_id_through_its_queue() -> None:
    [made] = factories.insert()
    factories.sql(f"UPDATE task SET kind = 'HL7', queue = 'HL7Send' WHERE id = {made.id}")

    as_export = run(task, "cancel", str(made.id))
    elsewhere = run(task, "cancel", str(made.id), "--queue", "Export")
    ok(task, "cancel", str(made.id), "--queue", "HL7Send")
    shown = json.loads(ok(task, "show", str(made.id), "--queue", "HL7Send", "--json").stdout)

    assert (shown["type"], shown["status"]) == ("HL7", "CANCELED")
    assert "cancel" in ok(task, "history", str(made.id), "--queue", "HL7Send").stdout
    assert "CANCELED" in ok(task, "explain", str(made.id), "--queue", "HL7Send").stdout
    assert "No such Task" in as_export.stderr
    assert "No such Task" in elsewhere.stderr
    assert factories.status_of(made.id) is Status.CANCELED


def test_failures_are_counted_by_cause() -> None:
    factories.insert(3)
    factories.sql("UPDATE task SET status = 'FAILED', error_message = 'no route', destination = 'dicom:PACS'")

    shown = ok(task, "failures").stdout.splitlines()
    as_json = json.loads(ok(task, "failures", "--status", "FAILED", "--json").stdout)

    assert shown[1].split()[:3] == ["3", "FAILED", "dicom:PACS"]
    assert shown[1].endswith("no route")
    assert [(one["count"], one["message"]) for one in as_json] == [(3, "no route")]


def test_differences_of_a_comparison() -> None:
    [made] = factories.insert()
    dataset = {
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "00080020": {"vr": "DA", "Value": ["20260820"]},
        "04000561": {"vr": "SQ", "Value": [{"04000550": {"vr": "SQ", "Value": [{"00080050": {}, "00080030": {}}]}}]},
    }
    factories.sql(
        "UPDATE task SET kind = 'DIFF', queue = 'DiffTasks', batch_id = 'b', progress = '{\"matches\": 4}',"
        f" local_aet = 'ARCHIVE_A' WHERE id = {made.id}"
    )
    factories.sql(
        f"INSERT INTO diff_result (task_id, run_id, study_uid, what, dataset) VALUES ({made.id}, 1, '1.2.3',"
        " 'different', CAST(:dataset AS jsonb))",
        dataset=json.dumps(dataset),
    )

    for which in ([str(made.id)], ["--batch", "b"]):
        shown = ok(task, "differences", *which).stdout.splitlines()
        assert shown[1].split() == ["1.2.3", "20260820", "(0008,0030),", "(0008,0050)"]
    assert json.loads(ok(task, "differences", str(made.id), "--json").stdout) == [dataset]
    assert "expected the id" in run(task, "differences").stderr
    factories.sql("UPDATE task SET progress = '{}'")
    assert "nothing was found" in ok(task, "differences", str(made.id)).stderr


def test_operations_are_listed_shown_and_ended() -> None:
    factories.insert(2)
    ok(task, "cancel", "--status", "waiting", "--yes")

    [listed] = json.loads(ok(operation, "list", "--json").stdout)
    number = listed["operationID"]

    assert ok(operation, "list").stdout.splitlines()[1].split()[:4] == [number, "done", "CancelTasks", "2"]
    assert json.loads(ok(operation, "show", number).stdout) == listed
    late = run(operation, "cancel", number)
    assert number in late.output
    assert "No such Operation : x" in run(operation, "cancel", "x").stderr


def test_drained_device_gives_its_waiting_tasks_away_with_their_times() -> None:
    factories.insert(3)
    before = factories.sql("SELECT scheduled_time FROM task ORDER BY id")
    factories.sql("UPDATE task SET failures = 2, status = 'SCHEDULED FOR RETRY' WHERE id = (SELECT min(id) FROM task)")

    preview = ok(device, "drain", "archive-a", "--move-to", "archive-b", "--dry-run").stdout
    declined = run(device, "drain", "archive-a", "--move-to", "archive-b", answer="n\n")
    untouched = factories.sql("SELECT count(*) FROM pause") + factories.sql("SELECT DISTINCT device FROM task")
    moved = ok(device, "drain", "archive-a", "--move-to", "archive-b", "--why", "old", answer="y\n")

    assert preview == "3 tasks would be moved: 3 on archive-b\n"
    assert declined.exit_code != 0
    assert untouched == [0, "archive-a"]
    assert moved.stdout.endswith("3 tasks moved: 3 on archive-b\nDevice archive-a is drained\n")
    assert factories.sql("SELECT DISTINCT device FROM task") == ["archive-b"]
    assert factories.sql("SELECT scheduled_time FROM task ORDER BY id") == before
    assert factories.sql("SELECT sum(failures) FROM task") == [2]
    assert factories.sql("SELECT concat_ws(' ', device, draining, why) FROM pause") == ["archive-a t old"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--move-to", "nowhere", "--yes"], "Unknown Device: nowhere, expected one of archive-a, archive-b"),
        (["--move-to", "archive-a", "--yes"], "it is the device that is drained"),
        (["--move-to", "other-house", "--yes"], "is not run by arcfleet"),
        (["--dry-run"], "expected --move-to"),
    ],
)
def test_drain_that_cannot_be_meant_drains_nothing(arguments: list[str], part: str) -> None:
    factories.insert()

    result = run(device, "drain", "archive-a", *arguments)

    assert result.exit_code != 0
    assert part in result.stderr
    assert factories.sql("SELECT count(*) FROM pause") == [0]


def test_change_elsewhere_is_not_made_by_the_look_before_the_question(node: Node) -> None:
    node.told[f"{BASE}/version"] = b"{}"

    declined = run(task, "delete", "--device", "other-house", answer="n\n")
    preview = run(task, "delete", "--device", "other-house", "--dry-run")
    untouched = list(node.asked)
    accepted = ok(task, "delete", "--device", "other-house", answer="y\n")

    assert declined.exit_code != 0
    assert "what would be done cannot be told: dryrun=true: only arcfleet knows this" in declined.stderr
    assert (preview.exit_code, "dryrun=true" in preview.stderr) == (1, True)
    assert untouched == []
    assert accepted.stdout.endswith("7 tasks deleted\n")
    assert [(asked.method, asked.path) for asked in node.asked] == [
        ("DELETE", f"{EXPORTS}?dicomDeviceName=other-house")
    ]
