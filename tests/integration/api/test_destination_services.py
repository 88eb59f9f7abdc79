"""`/destinations` and `arcfleet destination`: what runs and waits there, holds, caps, and whether it answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result

from api.cli.destination import destination
from config import settings
from config.device import Exporter
from tasks import destinations
from tests import factories
from tests.integration.api.wire import BASE, EXPORTS, Wire, error_of
from workers import app

PACS = "dicom:PACS"


@pytest.fixture(autouse=True)
def _exporters(cluster: None) -> None:
    exporters = {
        "ToPacs": Exporter("ToPacs", PACS, "Export"),
        "ToFolder": Exporter("ToFolder", "file:/out/x", "Export"),
        "Noop": Exporter("Noop", "noop:", "Export"),
    }
    factories.use_cluster(factories.device(exporters=exporters), factories.device("archive-b", exporters=exporters))


def listed(wire: Wire, name: str = PACS) -> dict[str, object]:
    [found] = [one for one in wire.get(f"{BASE}/destinations").json() if one["destination"] == name]
    return dict(found)


def fail(times: int) -> None:
    for _ in range(times):
        run = factories.running(destination=PACS)
        destinations.failed(PACS, run.run_id, "PACS at 127.0.0.1:104: Connection refused")


def test_list_has_what_is_configured_and_what_tasks_want(wire: Wire) -> None:
    factories.running(destination=PACS)
    factories.insert(2, destination="dicom:OLD")
    factories.insert(1)

    found = wire.get(f"{BASE}/destinations").json()

    both = ["ToFolder (archive-a)", "ToFolder (archive-b)"]
    assert found == [
        {"destination": "dicom:OLD", "state": "ready", "running": 0, "waiting": 2},
        {
            "destination": PACS, "state": "ready", "running": 1, "waiting": 0,
            "exporters": ["ToPacs (archive-a)", "ToPacs (archive-b)"],
        },
        {"destination": "file:/out/x", "state": "ready", "running": 0, "waiting": 0, "exporters": both},
    ]  # fmt: skip


def test_held_destination_says_who_why_and_until_and_so_does_each_task(wire: Wire) -> None:
    [task] = factories.insert(destination=PACS)

    answer = wire.post(f"{BASE}/destinations/{PACS}/hold?why=is+upgraded&until=20300101000000")

    assert answer.status_code == 204
    found = listed(wire)
    held = found["held"]
    assert isinstance(held, dict)
    assert (found["state"], held["why"], held["until"]) == ("held", "is upgraded", "2030-01-01T00:00:00.000+0100")
    assert held["who"] == "local@127.0.0.1"
    reasons = wire.get(f"{EXPORTS}/{task.id}/explain").json()["reasons"]
    assert [one["text"] for one in reasons if one["why"] == "destination held"] == [
        f"Destination {PACS} is held by local@127.0.0.1: is upgraded"
    ]


def test_destination_that_fails_is_shown_with_its_last_words_until_it_is_released(wire: Wire) -> None:
    fail(3)
    before = listed(wire)

    answer = wire.post(f"{BASE}/destinations/{PACS}/release")

    assert answer.status_code == 204
    after = listed(wire)
    assert (before["state"], after["state"]) == ("failing", "tried again")
    shown = before["breaker"]
    assert isinstance(shown, dict)
    assert (shown["phase"], shown["failures"], shown["runsAtOnce"]) == ("open", 3, 1)
    assert shown["lastFailure"] == "PACS at 127.0.0.1:104: Connection refused"
    assert str(shown["openUntil"]) > str(shown["failedAt"])


def test_cap_is_set_and_taken_away(wire: Wire) -> None:
    wire.post(f"{BASE}/destinations/{PACS}/cap?cap=2")
    capped = listed(wire)
    wire.post(f"{BASE}/destinations/{PACS}/cap")

    assert (capped["cap"], "cap" in listed(wire)) == (2, False)


def test_name_may_have_slashes(wire: Wire) -> None:
    plain = wire.post(f"{BASE}/destinations/file:/out/x/hold")
    quoted = wire.post(f"{BASE}/destinations/file%3A%2Fout%2Fx/cap?cap=1")

    assert (plain.status_code, quoted.status_code) == (204, 204)
    found = listed(wire, "file:/out/x")
    assert (found["state"], found["cap"]) == ("held", 1)


@pytest.mark.parametrize("what", ["hold", "release", "cap"])
def test_unknown_destination_is_named_with_those_that_there_are(wire: Wire, what: str) -> None:
    answer = wire.post(f"{BASE}/destinations/dicom:PAX/{what}")

    assert answer.status_code == 404
    assert error_of(answer) == "No such destination: dicom:PAX, expected one of dicom:PACS, file:/out/x"
    assert factories.sql("SELECT name FROM destination") == []
    assert factories.sql("SELECT action FROM audit") == []


@pytest.mark.parametrize("query", ["hold?until=20000101000000", "hold?until=soon", "cap?cap=many", "cap?cap=-1"])
def test_value_that_cannot_be_used_changes_nothing(wire: Wire, query: str) -> None:
    assert wire.post(f"{BASE}/destinations/{PACS}/{query}").status_code == 400
    assert factories.sql("SELECT name FROM destination") == []


def test_changes_are_audited(wire: Wire) -> None:
    for what in ("hold", "release", "cap?cap=2", "cap"):
        wire.post(f"{BASE}/destinations/{PACS}/{what}")

    assert factories.sql("SELECT concat_ws('|', action, what, count) FROM audit ORDER BY id") == [
        f"HoldDestination|{PACS}|1", f"ReleaseDestination|{PACS}|1", f"CapDestination|{PACS} cap 2|1",
        f"CapDestination|{PACS} without cap|1",
    ]  # fmt: skip


# --- the command line


@pytest.fixture
def _machine(api_database: str, broker: str, tmp_path: Path) -> Iterator[None]:
    settings.override(database_url=api_database, broker_url=broker)
    app.app.conf.broker_url = broker
    yield
    structlog.reset_defaults()  # it logs to the output of a runner that is gone


def run(*arguments: str) -> Result:
    return CliRunner().invoke(destination, list(arguments))


@pytest.mark.usefixtures("_machine")
def test_commands_hold_release_and_cap() -> None:
    held = run("hold", PACS, "--why", "is upgraded")
    shown = run("list").stdout
    released = run("release", PACS)
    capped = run("cap", PACS, "2")
    as_json = {one["destination"]: one for one in json.loads(run("list", "--json").stdout)}
    free = run("cap", PACS)

    assert [one.stdout for one in (held, released, capped, free)] == [
        f"Destination {PACS} is held\n", f"Destination {PACS} is released\n", f"Destination {PACS} has a cap of 2\n",
        f"Destination {PACS} has no cap\n",
    ]  # fmt: skip
    assert "is upgraded" in shown
    assert (as_json[PACS]["state"], as_json[PACS]["cap"]) == ("ready", 2)


@pytest.mark.usefixtures("_machine")
def test_list_says_why_a_destination_is_left_alone() -> None:
    fail(3)

    shown = run("list").stdout

    assert "failing" in shown
    assert "3 failures in a row, left alone until" in shown
    assert "Connection refused" in shown


@pytest.mark.usefixtures("_machine")
def test_unknown_destination_is_no_success() -> None:
    result = run("hold", "dicom:PAX")

    assert result.exit_code == 1
    assert "No such destination: dicom:PAX" in result.stderr
