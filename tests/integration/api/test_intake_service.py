"""What became of a message, by REST and on the command line; and whether anybody takes messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result

from api.cli.intake import intake as command
from config import settings
from tasks import intake
from tasks.intake import Message
from tests import factories
from tests.integration.api.wire import BASE, Wire, error_of
from workers.queues import INTAKE

SAID = {"version": 1, "requester": "ris", "aet": "ARCHIVE_A", "exporterID": "Noop", "studyInstanceUID": "1.2.3"}


def send(message_id: str, **changes: Any) -> None:
    intake.accept(Message(message_id, "schedule.export", "EXPORT", {**SAID, **changes}, "ris-1"))


def test_accepted_message_names_its_tasks(wire: Wire) -> None:
    send("a/b c")

    answer = wire.get(f"{BASE}/intake/a%2Fb%20c")

    [task] = factories.views()
    told = answer.json()
    assert (answer.status_code, told["status"], told["taskIDs"], told["messageID"]) == (
        200, "accepted", [task.id], "a/b c",
    )  # fmt: skip
    assert wire.get(f"{BASE}/monitor/export/{task.id}").json()["RequesterUserID"] == "ris"


def test_refused_message_says_why(wire: Wire) -> None:
    send("m-1", priority=11)

    told = wire.get(f"{BASE}/intake/m-1").json()

    assert told["status"] == "refused"
    assert told["reason"] == "priority=11: Input should be less than or equal to 9"
    assert "taskIDs" not in told


@pytest.mark.parametrize("message_id", ["m-1", "a%00b", "%ff"])
def test_unknown_message_is_not_found(wire: Wire, message_id: str) -> None:
    answer = wire.get(f"{BASE}/intake/{message_id}")

    assert answer.status_code == 404
    assert error_of(answer).startswith("No such message: ")


def test_last_refusals_are_listed(wire: Wire) -> None:
    for number in range(3):
        send(f"m-{number}", priority=11)

    assert [one["messageID"] for one in wire.get(f"{BASE}/intake?limit=2").json()] == ["m-2", "m-1"]
    assert wire.get(f"{BASE}/intake?limit=0").status_code == 400


def test_health_says_whether_messages_are_taken(wire: Wire) -> None:
    ready = wire.get("/health/ready")

    assert (ready.status_code, ready.json()["status"]) == (200, "UP")
    assert ready.json()["intake"].startswith("no `arcfleet intake` was seen")


def test_health_sees_an_intake_that_lives(wire: Wire) -> None:
    factories.seen_worker("", INTAKE)

    assert wire.get("/health/ready").json()["intake"] == "UP"


# ---- command line


@pytest.fixture
def machine(cluster: None, api_database: str, tmp_path: Path) -> Iterator[None]:
    settings.override(database_url=api_database)
    yield
    structlog.reset_defaults()  # it logs to the output of a runner that is gone


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


@pytest.mark.usefixtures("machine")
def test_show_says_what_became_of_a_message() -> None:
    send("m 1/2")
    send("m-2", priority=11)
    [task] = factories.views()

    accepted, refused, unknown = run("show", "m 1/2"), run("show", "m-2"), run("show", "m-3")

    assert accepted.stdout.endswith(f": task {task.id}\n")
    assert refused.stdout.endswith(": priority=11: Input should be less than or equal to 9\n")
    assert (unknown.exit_code, "No such message: m-3" in unknown.stderr) == (1, True)
    assert json.loads(run("show", "m-2", "--json").stdout)["status"] == "refused"


@pytest.mark.usefixtures("machine")
def test_refused_lists_the_last_refusals() -> None:
    send("m-1", priority=11)

    assert "m-1" in run("refused").stdout
    assert [one["messageID"] for one in json.loads(run("refused", "--json").stdout)] == ["m-1"]


def test_schema_is_printed_without_any_server() -> None:
    assert "schedule.export" in json.loads(run("schema").stdout)["$defs"]
