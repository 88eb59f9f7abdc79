"""Bulk calls that name a foreign device go there; nothing else does, and nothing goes in circles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from config.device import Device, NetworkConnection, WebApplication
from tasks.state import Status
from tests import factories
from tests.integration.api.wire import BASE, EXPORTS, Wire, error_of
from tests.lab import recording
from tests.lab.cluster import free_port
from tests.lab.recording import Node

HERE = "dicomDeviceName=other-house"


@dataclass
class Beside:
    """Our cluster with a foreign device beside."""

    wire: Wire
    node: Node


def use(port: int) -> None:
    app = WebApplication("other", "/dcm4chee-arc", ("DCM4CHEE_ARC",), ("http",))
    other = Device(
        "other-house",
        is_archive=True,
        connections={"http": NetworkConnection("http", "127.0.0.1", port, "HTTP")},
        web_apps={app.name: app},
    )
    mute = Device("mute-house", is_archive=True)
    factories.use_cluster(factories.device(), factories.device("archive-b"), other, mute)


@pytest.fixture
def beside(wire: Wire) -> Iterator[Beside]:
    with recording.node() as node:
        use(node.port)
        yield Beside(wire, node)


def cluster_id() -> str:
    return str(factories.sql("SELECT id FROM cluster_identity")[0])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/cancel?status=SCHEDULED&{HERE}"),
        ("POST", f"/reschedule?status=FAILED&newDeviceName=x-ray&{HERE}&batchID=a%20b"),
        ("POST", f"/reschedule/Some%20One?{HERE}"),
        ("DELETE", f"?{HERE}"),
    ],
)
def test_bulk_call_goes_to_the_device_as_it_came(beside: Beside, method: str, path: str) -> None:
    factories.insert(3)

    answer = beside.wire.ask(method, f"{EXPORTS}{path}", authorization="", prefer="respond-async")

    assert (answer.status_code, answer.content) == (200, b'{"count":7}')
    [asked] = beside.node.asked
    assert (asked.method, asked.path) == (method, f"/dcm4chee-arc/monitor/export{path}")
    assert asked.headers["arcfleet-clusters"] == cluster_id()
    assert asked.headers["prefer"] == "respond-async"
    assert [task.status for task in factories.views()] == [Status.SCHEDULED] * 3
    assert factories.sql("SELECT concat_ws(' ', action, count) FROM audit") == ["ForwardTasks 7"]


def test_status_body_and_place_of_an_operation_are_relayed(beside: Beside) -> None:
    beside.node.status, beside.node.body = 202, b'{"count":1,"failed":2}'
    beside.node.headers |= {"Location": "/dcm4chee-arc/monitor/operations/9", "Warning": '299 - "x"', "X-Own": "no"}

    answer = beside.wire.delete(f"{EXPORTS}?{HERE}")

    assert (answer.status_code, answer.content) == (202, b'{"count":1,"failed":2}')
    assert answer.headers["location"] == f"http://127.0.0.1:{beside.node.port}/dcm4chee-arc/monitor/operations/9"
    assert answer.headers["warning"] == '299 - "x"'
    assert "x-own" not in answer.headers


@pytest.mark.parametrize("status", [401, 403, 404, 409, 500])
def test_refusal_is_relayed_too(beside: Beside, status: int) -> None:
    beside.node.status, beside.node.body = status, b'{"errorMessage":"no"}'
    beside.node.headers = {"Content-Type": "text/plain"}

    answer = beside.wire.delete(f"{EXPORTS}?{HERE}")

    assert (answer.status_code, error_of(answer)) == (status, "no")


def test_token_is_passed_on_and_is_in_no_query(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.security._token_of", lambda request: None)

    beside.wire.ask("DELETE", f"{EXPORTS}?{HERE}", authorization="Bearer abc")
    beside.wire.ask("DELETE", f"{EXPORTS}?{HERE}&access_token=xyz")

    assert [asked.headers["authorization"] for asked in beside.node.asked] == ["Bearer abc", "Bearer xyz"]
    assert all("token" not in asked.path for asked in beside.node.asked)


def test_request_that_was_here_before_ends(beside: Beside) -> None:
    answer = beside.wire.ask("DELETE", f"{EXPORTS}?{HERE}", arcfleet_clusters=f"other,{cluster_id()}")

    assert answer.status_code == 508
    assert "the request has been here before" in error_of(answer)
    assert beside.node.asked == []


def test_request_of_another_cluster_goes_on_with_both_ids(beside: Beside) -> None:
    beside.wire.ask("DELETE", f"{EXPORTS}?{HERE}", arcfleet_clusters="other")

    assert beside.node.asked[0].headers["arcfleet-clusters"] == f"other,{cluster_id()}"


def test_device_that_is_away_is_a_502_that_names_it(wire: Wire) -> None:
    port = free_port()
    use(port)
    factories.insert(2)

    answer = wire.delete(f"{EXPORTS}?{HERE}")

    assert answer.status_code == 502
    assert error_of(answer) == (
        f"Device: other-house at http://127.0.0.1:{port}{EXPORTS} cannot be reached: [Errno 111] Connection refused"
    )
    assert len(factories.views()) == 2


def test_device_without_a_url_is_a_502_that_says_what_it_lacks(beside: Beside) -> None:
    answer = beside.wire.delete(f"{EXPORTS}?dicomDeviceName=mute-house")

    assert answer.status_code == 502
    assert "Device: mute-house cannot be reached: its URL cannot be derived" in error_of(answer)


def test_task_numbers_never_go_elsewhere(beside: Beside) -> None:
    [task] = factories.insert()

    bulk = beside.wire.delete(f"{EXPORTS}?{HERE}&taskID={task.id}")
    single = beside.wire.delete(f"{EXPORTS}/{task.id}?{HERE}")

    assert (bulk.status_code, single.status_code) == (400, 400)
    assert "the numbers of ours mean others" in error_of(bulk)
    assert beside.node.asked == []
    assert factories.status_of(task.id) is Status.SCHEDULED


def test_foreign_device_beside_ours_is_refused(beside: Beside) -> None:
    answer = beside.wire.delete(f"{EXPORTS}?{HERE}&dicomDeviceName=archive-a")

    assert answer.status_code == 400
    assert "expected it alone and not with archive-a" in error_of(answer)


def test_foreign_device_is_no_target(beside: Beside) -> None:
    [task] = factories.insert()

    single = beside.wire.post(f"{EXPORTS}/{task.id}/reschedule?newDeviceName=other-house")
    bulk = beside.wire.post(f"{EXPORTS}/reschedule?all=true&newDeviceName=other-house")

    assert (single.status_code, bulk.status_code) == (409, 409)
    assert "its tasks are in another table" in error_of(bulk)
    assert beside.node.asked == []


def test_lists_and_calls_about_our_devices_stay_here(beside: Beside) -> None:
    factories.insert(2)

    answers = [
        beside.wire.get(f"{EXPORTS}?{HERE}"),
        beside.wire.get(f"{EXPORTS}/count?{HERE}"),
        beside.wire.post(f"{EXPORTS}/cancel?status=SCHEDULED&dicomDeviceName=archive-a"),
    ]

    assert [answer.json() for answer in answers] == [[], {"count": 0}, {"count": 2}]
    assert beside.node.asked == []


def test_reader_is_refused_before_anything_is_sent(beside: Beside) -> None:
    factories.sql(
        "INSERT INTO api_token (name, role, sha256, created_by) "
        "VALUES ('r', 'reader', encode(sha256('arcfleet_r'), 'hex'), 't')"
    )

    answer = beside.wire.ask("DELETE", f"{EXPORTS}?{HERE}", authorization="Bearer arcfleet_r")

    assert answer.status_code == 403
    assert beside.node.asked == []


def test_url_is_shown_with_the_device(beside: Beside) -> None:
    found = {one["dicomDeviceName"]: one for one in beside.wire.get(f"{BASE}/devices").json()}

    assert found["other-house"]["url"] == f"http://127.0.0.1:{beside.node.port}/dcm4chee-arc"
    assert "url" not in found["mute-house"]
