"""Devices, AE titles, exporters, queues, version, time, metrics, the document, and the database away."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from api.gate import Probe
from archive import db, schema
from tasks.state import Event, Status
from tests import factories
from tests.integration.api.described import document
from tests.integration.api.wire import BASE, EXPORTS, Wire, error_of
from tests.lab.waiting import wait_until
from workers.broker import BrokerError
from workers.embedded.postgres import EmbeddedPostgres


def test_devices_with_what_lives_of_them(wire: Wire) -> None:
    factories.seen_worker("archive-a")
    wire.post(f"{BASE}/devices/archive-b/drain?why=old&until=20300101000000")

    found = {one["dicomDeviceName"]: one for one in wire.get(f"{BASE}/devices").json()}

    assert list(found) == ["archive-a", "archive-b", "asleep", "other-house", "pacs"]
    first = found["archive-a"]
    assert list(first)[:5] == [
        "dicomDeviceName", "dicomDescription", "dicomSoftwareVersion", "dicomInstalled", "hasArcDevExt",
    ]  # fmt: skip
    assert (first["liveWorkers"], "lastHeartbeat" in first, "paused" in first) == (1, True, False)
    [pause] = found["archive-b"]["paused"]
    assert (pause["queue"], pause["draining"], pause["why"]) == ("*", True, "old")
    assert pause["until"] == "2030-01-01T00:00:00.000+0100"  # archive-b is in Tokyo, times are in Vienna
    assert (found["other-house"]["foreign"], found["pacs"]["foreign"]) == (True, False)
    assert (found["pacs"]["hasArcDevExt"], found["asleep"]["dicomInstalled"]) == (False, False)


def test_filters_of_devices(wire: Wire) -> None:
    def names(query: str) -> list[str]:
        return [one["dicomDeviceName"] for one in wire.get(f"{BASE}/devices?{query}").json()]

    assert names("hasArcDevExt=false") == ["pacs"]
    assert names("dicomInstalled=false") == ["asleep"]
    assert names("dicomDeviceName=pacs") == ["pacs"]


def test_paused_queue_takes_nothing_until_it_is_resumed(wire: Wire) -> None:
    wire.post(f"{BASE}/devices/archive-a/pause?dcmQueueName=Export&why=a")
    wire.post(f"{BASE}/devices/archive-a/pause?dcmQueueName=Export&why=b")
    [reason] = factories.sql("SELECT why FROM pause")

    answer = wire.post(f"{BASE}/devices/archive-a/resume")

    assert (reason, answer.status_code) == ("b", 204)
    assert factories.sql("SELECT why FROM pause") == []
    assert factories.sql("SELECT concat_ws('|', action, what, count) FROM audit ORDER BY id") == [
        "PauseDevice|archive-a, queue Export|1", "PauseDevice|archive-a, queue Export|1", "ResumeDevice|archive-a|1",
    ]  # fmt: skip


def test_lists_of_the_cluster(wire: Wire) -> None:
    assert wire.get(f"{BASE}/export").content.decode() == (
        '[{"id":"Lost"},{"id":"Noop","description":"Sends nothing"},{"id":"OnlyB"},{"id":"Strange"}]'
    )
    assert wire.get(f"{BASE}/queue").content == b'[{"name":"Export"}]'
    assert wire.get(f"{BASE}/queue?includeExporters=true&dicomDeviceName=archive-b").json() == [
        {"name": "Export", "exporterIDs": ["Noop", "OnlyB", "Strange"]},
        {"name": "Nowhere", "exporterIDs": ["Lost"]},
    ]
    assert [one["dicomAETitle"] for one in wire.get(f"{BASE}/aets").json()] == ["ARCHIVE_A", "ARCHIVE_B"]


def test_version_and_time(wire: Wire) -> None:
    version = wire.get(f"{BASE}/version").json()

    assert list(version) == ["product", "version", "clusterID"]
    assert version["clusterID"] == str(factories.sql("SELECT id FROM cluster_identity")[0])
    now = wire.get(f"{BASE}/monitor/serverTime").json()["serverTimeWithTimezone"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0[12]00", now)


def test_metrics_are_computed_from_the_database(wire: Wire) -> None:
    factories.insert(3, device="archive-b")
    factories.seen_worker("archive-a")
    claimed = factories.running()
    factories.report(claimed, Event.SUCCEED)

    text = wire.get("/metrics").content.decode()

    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["arcfleet_tasks", "EXPORT", "Export", "SCHEDULED", "archive-b"] == 3
    assert samples["arcfleet_tasks", "COMPLETED", "EXPORT", "Export", "archive-a"] == 1
    assert samples["arcfleet_oldest_waiting_seconds", "Export", "archive-b"] >= 0
    assert samples["arcfleet_workers_alive", "archive-a", "archive-a"] == 1
    assert samples["arcfleet_dispatch_seconds_bucket", "+Inf", "archive-a"] == 1


def test_document_names_no_422_and_all_parameters(wire: Wire) -> None:
    document = wire.get(f"{BASE}/openapi.json").json()

    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert not [one["operationId"] for one in operations if "422" in one["responses"]]
    listed = document["paths"][EXPORTS]["get"]
    assert {"ExporterID", "status", "limit"} <= {one["name"] for one in listed["parameters"]}
    assert "400" in listed["responses"]


def test_only_what_can_ask_others_says_that_they_may_not_answer() -> None:
    found: dict[str, set[str]] = {status: set() for status in ("502", "504", "508")}
    for path, services in document()["paths"].items():
        for operation in services.values():
            for status in found.keys() & operation["responses"].keys():
                found[status].add(path)

    bulk = {
        path for path in found["508"] if re.fullmatch(r".*/monitor/\w+(/cancel|/reschedule(/\{ExporterID\})?)?", path)
    }
    queue = {f"{BASE}/queue/{{queueName}}{behind}" for behind in ("", "/cancel", "/reschedule")}
    assert EXPORTS in bulk
    assert found["504"] == found["508"] == bulk | queue
    assert found["502"] - found["508"] == {path for path in found["502"] if path.startswith(f"{BASE}/aets/")} != set()


def test_services_that_make_tasks_are_described_as_others_are() -> None:
    making = [
        (path, operation)
        for path, services in document()["paths"].items() if path.startswith(f"{BASE}/aets/")
        for operation in services.values()
    ]  # fmt: skip

    assert len(making) > 30
    for path, operation in making:
        placed = {(one["in"], one["name"]) for one in operation["parameters"]}
        assert {name for place, name in placed if place == "path"} == set(re.findall(r"\{(\w+)\}", path)), path
        assert {("query", "batchID"), ("header", "Idempotency-Key")} <= placed, path
        assert ("csv:" in path) == ("requestBody" in operation), path
        made = [said for status, said in operation["responses"].items() if status in ("200", "202", "303")]
        schemas = [said["content"]["application/json"]["schema"] for said in made if said.get("content")]
        assert schemas, path
        assert all(schema.keys() & {"required", "anyOf"} for schema in schemas), path


def test_health(wire: Wire) -> None:
    for path in ("/health/live", f"{BASE}/health/live", "/health/ready", f"{BASE}/health/ready"):
        assert wire.get(path).status_code == 200
    ready = wire.get("/health/ready").json()
    assert (ready["status"], ready["database"]) == ("UP", "UP")


def test_broker_that_is_away_is_told_and_nothing_depends_on_it(cluster: None) -> None:
    def ask() -> None:
        raise BrokerError("no broker at all")

    app = create_app()
    app.state.broker_probe = lambda: Probe("probe of the broker", ask, (BrokerError,))
    with Wire(app) as wire:
        ready = wire.get("/health/ready")

    assert ready.status_code == 200
    assert (ready.json()["status"], ready.json()["broker"]) == ("UP", "no broker at all")


def test_not_ready_with_another_schema(wire: Wire, database: str) -> None:
    factories.sql("UPDATE alembic_version SET version_num = '9999'")

    answer = wire.get("/health/ready")

    assert answer.status_code == 503
    assert "9999" in answer.json()["database"]


def test_unexpected_error_shows_nothing_of_itself(wire: Wire, database: str, capfd: pytest.CaptureFixture[str]) -> None:
    factories.sql("ALTER TABLE pause RENAME TO pause_away")

    answer = wire.get(f"{BASE}/devices")

    assert answer.status_code == 500
    found = re.fullmatch(r"unexpected error, logged under ([0-9a-f]{12})", error_of(answer))
    assert found
    assert found[1] in "".join(capfd.readouterr())


@pytest.fixture
def own_server(cluster: None, servers_folder: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that a test may stop and freeze, as this process's database."""
    name = secrets.token_hex(4)
    server = EmbeddedPostgres(servers_folder / f"{name}-data", servers_folder / name)
    server.start()
    try:
        schema.upgrade(server.url)
        db.use(db.make_engine(server.url))
        yield server
    finally:
        db.use(None)
        server.stop()


def test_database_that_stopped_is_told(own_server: EmbeddedPostgres) -> None:
    with Wire(create_app(), patient=False) as wire:
        assert wire.get(EXPORTS).status_code == 200
        own_server.stop()

        answer = wire.get(EXPORTS)
        ready = wire.get("/health/ready")

        assert (answer.status_code, ready.status_code) == (503, 503)
        assert int(answer.headers["retry-after"]) > 0
        assert wire.get("/health/live").status_code == 200
        own_server.start()
        wait_until(lambda: wire.get(EXPORTS).status_code == 200, "REST answers again")


def test_frozen_database_is_told(own_server: EmbeddedPostgres) -> None:
    factories.insert()
    with Wire(create_app(), patient=False) as wire:
        assert wire.get(EXPORTS).status_code == 200
        own_server.freeze()
        try:
            # The first one may still believe in the answer of a moment ago, and finds out on its way.
            assert wire.get(EXPORTS).status_code == 503
            for method, path in (("POST", f"{EXPORTS}/cancel?status=SCHEDULED"), ("GET", "/metrics")):
                # It does not thaw before: an answer that waited for it would never come.
                assert wire.ask(method, path).status_code == 503
        finally:
            own_server.thaw()
        wait_until(lambda: wire.get(EXPORTS).status_code == 200, "REST answers again")
        assert factories.sql("SELECT count(*) FROM task WHERE status = :s", s=Status.SCHEDULED.value) in ([0], [1])


def test_device_tells_of_its_workers_and_of_its_failover(wire: Wire) -> None:
    factories.use_cluster(
        factories.device(failover_devices=("archive-b",), failover_after=timedelta(minutes=5)),
        factories.device("archive-b"),
    )
    gone, live = factories.seen_worker("archive-a"), factories.seen_worker("archive-a", "archive-a.housekeeping")
    factories.sql("UPDATE worker_node SET seen_at = now() - interval '1 hour' WHERE id = :id", id=gone)
    factories.sql(
        "INSERT INTO failover (device, since, moved, stays, reasons, looked_at) "
        "VALUES ('archive-a', now(), 5, 2, '[[\"no exporter\", 2]]', now())"
    )

    [found] = wire.get(f"{BASE}/devices?dicomDeviceName=archive-a").json()

    assert live
    assert found["liveWorkers"] == 1
    assert [(one["queue"], one["state"]) for one in found["workers"]] == [
        ("archive-a.housekeeping", "live"), ("archive-a", "dead"),
    ]  # fmt: skip
    told = found["failover"]
    assert (told["devices"], told["afterSeconds"]) == (["archive-b"], 300.0)
    assert (told["moved"], told["stay"], told["reasons"]) == (5, 2, [{"reason": "no exporter", "count": 2}])
    assert "backSince" not in told
