"""Two clusters of ours in one LDIF file, with the same task numbers: one asks the other about its tasks, by name.

Cluster north runs archive-a, cluster south archive-b; to each the other's device is foreign.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
import structlog
from click.testing import CliRunner

from api.cli.task import task
from tests.lab import ldif
from tests.lab.cluster import Lab, cluster, free_port
from tests.lab.member import Member
from tests.lab.waiting import wait_until

ONE, TWO = "archive-a", "archive-b"
TASKS = 3
TONIGHT = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=12)
TOKEN = "arcfleet_of_both"  # of this test


def two_clusters(ports: dict[str, int]) -> list[ldif.Change]:
    """Return the changes by which each device belongs to a cluster of its own, and is reached at its port."""
    http = [ldif.Change("cn=http", {"dicomPort": str(port)}, (device,)) for device, port in ports.items()]
    return [ldif.device(ONE, arcClusterName="north"), ldif.device(TWO, arcClusterName="south"), *http]


@dataclass
class Side:
    """A cluster as its users see it."""

    device: str
    lab: Lab
    api: Member
    url: str
    client: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=60))

    def ask(self, method: str, path: str, **headers: str) -> httpx.Response:
        return self.client.request(method, f"{self.url}{path}", headers=headers)

    def run(self, statement: str, *values: object) -> None:
        """Run a statement in the cluster's database."""
        with psycopg.connect(self.lab.postgres.url) as connection:
            connection.execute(statement, values)

    def tasks(self) -> dict[str, str]:
        """Return the status of each task, by its number."""
        return {one["taskID"]: one["status"] for one in self.ask("GET", "/monitor/export").json()}

    def statuses(self) -> dict[str, str]:
        """Return the status of each task of any kind, by its number."""
        with psycopg.connect(self.lab.postgres.url) as connection:
            return {str(number): status for number, status in connection.execute("SELECT id, status FROM task")}

    def change(self, path: str, device: str, status: str) -> httpx.Response:
        return self.ask("POST", f"/monitor/export/{path}?dicomDeviceName={device}&status={status}")


@dataclass
class Two:
    """Both of them."""

    one: Side
    two: Side
    ports: dict[str, int]


def start(lab: Lab, device: str) -> Side:
    api, url = lab.api()
    side = Side(device, lab, api, url)
    await_answer(side)
    return side


def await_answer(side: Side) -> None:
    wait_until(lambda: answers(side) or not side.api.is_running, f"{side.device} answers", say=side.api.tail)
    assert side.api.is_running, side.api.tail()


def answers(side: Side) -> bool:
    try:
        return side.ask("GET", "/version").is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def running() -> Iterator[Two]:
    ports = {ONE: free_port(), TWO: free_port()}
    with cluster(*two_clusters(ports), sends=False, ARCFLEET_CLUSTER="south") as second:
        two = start(second, TWO)
        shared = f"file://{second.home / 'config.ldif'}"
        with cluster(sends=False, ARCFLEET_CLUSTER="north", ARCFLEET_CONFIG_URL=shared) as first:
            one = start(first, ONE)
            yield Two(one, two, ports)
            one.client.close()
        two.client.close()


@pytest.fixture
def both(running: Two) -> Two:
    """Both clusters with the same task numbers in use, and nobody with a token."""
    for side in (running.one, running.two):
        side.run("TRUNCATE task, run, history RESTART IDENTITY")
        side.run("DELETE FROM api_token")
        at = TONIGHT.strftime("%Y%m%d%H%M%S")
        title = side.device.upper().replace("-", "_")
        for _ in range(TASKS):
            made = side.ask(
                "POST", f"/aets/{title}/rs/studies/1.2.3/export/Noop?allowDuplicate=true&scheduledTime={at}"
            )
            assert made.status_code == 202, made.text
    return running


def message(answer: httpx.Response) -> str:
    body: dict[str, Any] = answer.json()
    return str(body["errorMessage"])


ALL = {str(number): "SCHEDULED" for number in range(1, TASKS + 1)}
CANCELED = dict.fromkeys(ALL, "CANCELED")


def test_bulk_calls_reach_the_cluster_of_the_device_that_they_name(both: Two) -> None:
    assert both.one.tasks() == both.two.tasks() == ALL

    there = both.one.change("cancel", TWO, "SCHEDULED")
    seen = (both.one.tasks(), both.two.tasks())
    here = both.two.change("cancel", ONE, "SCHEDULED")
    again = both.one.change("reschedule", TWO, "CANCELED")

    assert (there.status_code, there.json()) == (200, {"count": TASKS})
    assert seen == (ALL, CANCELED)
    assert (here.json(), again.json()) == ({"count": TASKS}, {"count": TASKS})
    assert (both.one.tasks(), both.two.tasks()) == (CANCELED, ALL)
    gone = both.two.ask("DELETE", f"/monitor/export?dicomDeviceName={ONE}")
    assert gone.json() == {"count": TASKS}
    assert (both.one.tasks(), both.two.tasks()) == ({}, ALL)


def test_what_cannot_be_meant_is_refused_and_changes_nothing(both: Two) -> None:
    refusals = [
        (both.one.ask("POST", f"/monitor/export/1/reschedule?newDeviceName={TWO}"), 409, "is not run by arcfleet"),
        (both.one.ask("POST", f"/monitor/export/reschedule?all=true&newDeviceName={TWO}"), 409, "in another table"),
        (both.one.ask("POST", f"/monitor/export/cancel?status=SCHEDULED&taskID=1&dicomDeviceName={TWO}"), 400, "mean"),
        (both.one.ask("POST", f"/monitor/export/reschedule?dicomDeviceName={TWO}&newDeviceName={ONE}"), 409, ONE),
        (both.one.ask("DELETE", f"/monitor/export?dicomDeviceName={TWO}&dicomDeviceName={ONE}"), 400, "alone"),
        (
            both.one.ask("POST", "/monitor/export/cancel?status=FAILED&dicomDeviceName=" + TWO),
            400,
            "with status: FAILED",
        ),
        (both.one.ask("POST", f"/monitor/export/99/cancel?dicomDeviceName={TWO}"), 400, "dicomDeviceName"),
    ]

    for answer, status, said in refusals:
        assert answer.status_code == status, answer.text
        assert said in message(answer)
    assert both.one.tasks() == both.two.tasks() == ALL


def test_single_calls_stay_with_the_numbers_of_their_own_cluster(both: Two) -> None:
    answer = both.one.ask("POST", "/monitor/export/2/cancel")

    assert answer.status_code == 204
    assert both.one.tasks() == {**ALL, "2": "CANCELED"}
    assert both.two.tasks() == ALL


def know(side: Side, digest: str) -> None:
    """Let a cluster know the token."""
    side.run("INSERT INTO api_token (name, role, sha256, created_by) VALUES ('both', 'operator', %s, 'test')", digest)


def test_authorization_is_passed_on_and_asked_for_there_too(both: Two) -> None:
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    know(both.one, digest)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    path = f"/monitor/export/cancel?status=SCHEDULED&dicomDeviceName={TWO}"

    without = both.one.ask("POST", path)
    unknown_there = both.one.ask("POST", path, **bearer)
    know(both.two, digest)
    good = both.one.ask("POST", path, **bearer)

    assert (without.status_code, "expected a token" in message(without)) == (401, True)
    # Nobody had a token there, so that an unknown one was refused by the other cluster.
    assert (unknown_there.status_code, message(unknown_there)) == (401, "the token is unknown, revoked or expired")
    assert (good.status_code, good.json()) == (200, {"count": TASKS})


@pytest.mark.parametrize("down", [ONE, TWO])
def test_cluster_that_is_down_is_named_and_the_other_goes_on(both: Two, down: str) -> None:
    gone, up = (both.one, both.two) if down == ONE else (both.two, both.one)
    gone.api.kill()

    there = up.change("cancel", down, "SCHEDULED")
    preview = up.ask("DELETE", f"/monitor/export?dicomDeviceName={down}&dryrun=true")
    here = up.change("cancel", up.device, "SCHEDULED")

    url = f"http://127.0.0.1:{both.ports[down]}/dcm4chee-arc"
    refused = "cannot be reached: [Errno 111] Connection refused"
    assert (there.status_code, preview.status_code) == (502, 502)
    assert message(there) == f"Device: {down} at {url}/monitor/export/cancel {refused}"
    assert message(preview) == f"Device: {down} at {url}/version {refused}"
    assert (here.status_code, here.json()) == (200, {"count": TASKS})
    gone.api.start()
    await_answer(gone)
    assert (gone.tasks(), up.tasks()) == (ALL, CANCELED)
    assert up.change("cancel", down, "SCHEDULED").json() == {"count": TASKS}
    assert gone.tasks() == CANCELED


#: Services, the queue and kind of their tasks, and what narrows them down under a name of their own.
SERVICES = [
    ("/queue/Retrieve", "RETRIEVE", "Retrieve", "localAET=ARCHIVE_B"),
    ("/monitor/export", "EXPORT", "Export", "ExporterID=Noop,ToFolder"),
    ("/monitor/retrieve", "RETRIEVE", "Retrieve", "RemoteAET=PACS&dcmQueueName=Retrieve"),
    ("/monitor/diff", "DIFF", "DiffTasks", "SecondaryAET=OTHER&checkMissing=false"),
    ("/monitor/stgver", "STGVER", "StgVerTasks", "StudyInstanceUID=1.2.3"),
]

_PUT = """
    INSERT INTO task (kind, device, queue, status, scheduled_time, exporter_id, local_aet, remote_aet,
                      destination_aet, study_uid)
    SELECT %s, %s, %s, 'SCHEDULED', now() + interval '1 day', 'Noop', %s, 'PACS', 'OTHER', '1.2.3'
    FROM generate_series(1, %s)
"""


@pytest.mark.parametrize(("path", "kind", "queue", "own"), SERVICES, ids=lambda value: str(value).rpartition("/")[2])
def test_bulk_calls_of_every_service_reach_the_other_cluster(
    both: Two, path: str, kind: str, queue: str, own: str
) -> None:
    for side in (both.one, both.two):
        side.run("TRUNCATE task RESTART IDENTITY")
        title = side.device.upper().replace("-", "_")
        side.run(_PUT, kind, side.device, queue, title, TASKS)
    there = f"dicomdevicename={TWO}&{own}"
    tomorrow = (TONIGHT + timedelta(days=1)).strftime("%Y%m%d%H%M%S")

    def call(method: str, service: str) -> dict[str, Any]:
        answer = both.one.ask(method, f"{path}{service}")
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    previews = [call("POST", f"/cancel?status=waiting&{there}&dryrun=true"), call("DELETE", f"?{there}&dryrun=true")]
    untouched = both.two.statuses()
    canceled = call("POST", f"/cancel?status=waiting&{there}")
    after_cancel = both.two.statuses()
    again = call("POST", f"/reschedule?status=CANCELED&{there}&scheduledTime={tomorrow}&taskPriority=7")
    rescheduled = both.two.statuses()
    planned = both.two.ask("GET", path).json()
    none = call("DELETE", f"?{there}&status=FAILED")
    deleted = call("DELETE", f"?{there}")

    assert [(one["count"], one["byDevice"]) for one in previews] == [(TASKS, {TWO: TASKS})] * 2
    assert (untouched, after_cancel, rescheduled) == (ALL, CANCELED, ALL)
    assert {one["scheduledTime"][:10] for one in planned} == {f"{TONIGHT + timedelta(days=1):%Y-%m-%d}"}
    assert (canceled, again, none, deleted) == ({"count": TASKS}, {"count": TASKS}, {"count": 0}, {"count": TASKS})
    assert (both.one.statuses(), both.two.statuses()) == (ALL, {})


def test_exporter_is_changed_in_the_other_cluster(both: Two) -> None:
    answer = both.one.ask("POST", f"/monitor/export/reschedule/ToFolder?dicomDeviceName={TWO}&status=SCHEDULED")

    assert (answer.status_code, answer.json()) == (200, {"count": TASKS})
    assert {one["ExporterID"] for one in both.two.ask("GET", "/monitor/export").json()} == {"ToFolder"}
    assert {one["ExporterID"] for one in both.one.ask("GET", "/monitor/export").json()} == {"Noop"}


def test_command_line_follows_the_operation_in_the_other_cluster(both: Two) -> None:
    arguments = ["cancel", "--device", TWO, "--status", "waiting", "--url", both.one.url]

    result = CliRunner().invoke(task, arguments, input="y\n")

    assert result.exit_code == 0, result.output
    assert f"{TASKS} tasks would be canceled: {TASKS} on {TWO}" in result.stderr
    assert result.stdout.endswith(f"{TASKS} tasks canceled: {TASKS} on {TWO}\n")
    assert (both.one.tasks(), both.two.tasks()) == (ALL, CANCELED)
    structlog.reset_defaults()  # it logs to the output of a runner that is gone


def test_request_does_not_go_in_circles(both: Two) -> None:
    # Whoever writes the directory has made a mistake: archive-b is said to be where archive-a is.
    both.two.lab.configure(ldif.Change("cn=http", {"dicomPort": str(both.ports[ONE])}, (TWO,)))

    answer = wait_until(lambda: circle(both), "the call comes back", say=both.one.api.tail)

    assert answer is not None
    assert f"Device: {TWO} is not run by cluster" in message(answer)
    assert "the request has been here before" in message(answer)
    assert both.one.tasks() == ALL
    both.two.lab.configure(ldif.Change("cn=http", {"dicomPort": str(both.ports[TWO])}, (TWO,)))


def circle(both: Two) -> httpx.Response | None:
    answer = both.one.change("cancel", TWO, "SCHEDULED%20FOR%20RETRY")
    return answer if answer.status_code == 508 else None
