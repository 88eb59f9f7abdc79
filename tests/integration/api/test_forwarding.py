"""Bulk calls that name a foreign device go there; nothing else does, and nothing goes in circles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl

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


def let_in(role: str) -> None:
    """Let `Bearer arcfleet_r` be known here."""
    factories.sql(
        "INSERT INTO api_token (name, role, sha256, created_by) "
        f"VALUES ('r', '{role}', encode(sha256('arcfleet_r'), 'hex'), 't')"
    )


def cluster_id() -> str:
    return str(factories.sql("SELECT id FROM cluster_identity")[0])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/cancel?{HERE}&status=SCHEDULED"),
        ("POST", f"/reschedule?{HERE}&status=FAILED&batchID=a%20b%2Bc%26d&newDeviceName=x-ray&newDeviceName=y"),
        ("POST", f"/reschedule/Some%20One?{HERE}"),
        ("DELETE", f"?{HERE}"),
        ("DELETE", f"?{HERE}&ExporterID=One&ExporterID=Two&StudyInstanceUID=1.2.3"),
    ],
)
def test_bulk_call_goes_to_the_device(beside: Beside, method: str, path: str) -> None:
    factories.insert(3)

    answer = beside.wire.ask(method, f"{EXPORTS}{path}", authorization="", prefer="respond-async")

    assert (answer.status_code, answer.content) == (200, b'{"count":7}')
    [asked] = beside.node.asked
    assert (asked.method, asked.path.replace("+", "%20")) == (method, f"/dcm4chee-arc/monitor/export{path}")
    assert asked.headers["arcfleet-clusters"] == cluster_id()
    assert asked.headers["prefer"] == "respond-async"
    assert [task.status for task in factories.views()] == [Status.SCHEDULED] * 3
    assert factories.sql("SELECT concat_ws(' ', action, count) FROM audit") == ["ForwardTasks 7"]


@pytest.mark.parametrize(
    ("method", "sent", "meant"),
    [
        ("DELETE", "/export?dicomdevicename=other-house&STATUS=failed", "/export?{HERE}&status=FAILED"),
        ("DELETE", "/export?{HERE}&batchid=a&exporterid=E,F", "/export?{HERE}&batchID=a&ExporterID=E&ExporterID=F"),
        ("POST", "/export/cancel?status=in_process&{HERE}", "/export/cancel?{HERE}&status=IN+PROCESS"),
        ("DELETE", "/export?{HERE}&status=*&orderby=createdTime&accept=text/csv&dryrun=false", "/export?{HERE}"),
        ("DELETE", "/export?all=TRUE&{HERE}", "/export?{HERE}"),
        ("DELETE", "/retrieve?localaet=A&{HERE}&DCMQUEUENAME=Q,R",
         "/retrieve?{HERE}&LocalAET=A&dcmQueueName=Q&dcmQueueName=R"),
        ("POST", "/retrieve/reschedule?{HERE}&newqueuename=Q", "/retrieve/reschedule?{HERE}&newQueueName=Q"),
        ("DELETE", "/diff?checkmissing=TRUE&checkDifferent=False&{HERE}",
         "/diff?{HERE}&checkMissing=true&checkDifferent=false"),
        ("DELETE", "/stgver?{HERE}&studyinstanceuid=1.2", "/stgver?{HERE}&StudyInstanceUID=1.2"),
        (
            "DELETE",
            "/export?{HERE}&createdtime=20260701-20260702&updatedTime=-20260120103000.5",
            "/export?{HERE}&createdTime=20260630220000%2B0000-20260702215959%2B0000"
            "&updatedTime=-20260120093000.599%2B0000",
        ),
    ],
)  # fmt: skip
def test_what_was_understood_goes_in_the_words_of_the_original(
    beside: Beside, method: str, sent: str, meant: str
) -> None:
    answer = beside.wire.ask(method, f"{BASE}/monitor{sent.replace('{HERE}', HERE)}")

    assert answer.status_code == 200, answer.text
    assert [asked.path for asked in beside.node.asked] == [f"{BASE}/monitor{meant.replace('{HERE}', HERE)}"]
    assert beside.node.looks == []


def test_filters_of_queues_go_under_their_own_names(beside: Beside) -> None:
    beside.wire.delete(f"{BASE}/queue/Some%20Queue?{HERE}&LocalAET=A&REMOTEAET=B")

    assert beside.node.asked[0].path == f"{BASE}/queue/Some%20Queue?{HERE}&localAET=A&remoteAET=B"


#: Parameters that the original ignores, or takes in another way.
OURS = [
    ("POST", "/export/cancel?status=SCHEDULED&dryrun=true", "dryrun=true"),
    ("POST", "/export/cancel?status=waiting", "status=SCHEDULED, status=SCHEDULED FOR RETRY"),
    ("POST", "/export/cancel?all=true", "status=SCHEDULED, status=SCHEDULED FOR RETRY, status=IN PROCESS"),
    ("DELETE", "/export?status=FAILED&status=WARNING", "status=FAILED, status=WARNING"),
    ("DELETE", "/export?updatedTime=-20260120103000.12345", "updatedTime=-20260120093000.123459+0000"),
    ("POST", "/export/reschedule?status=FAILED&taskPriority=9", "taskPriority=9"),
    ("POST", "/export/reschedule/Two?newLocalAET=A", "newLocalAET=A"),
    ("POST", "/export/reschedule?newDeviceName=x-ray&keepScheduledTime=true", "keepScheduledTime=true"),
    ("DELETE", "/deletion?status=FAILED", "the services /monitor/deletion"),
]


@pytest.mark.parametrize(("method", "path", "named"), OURS)
@pytest.mark.parametrize("version", [None, b'{"product":"dcm4chee-arc"}', b"[]", b"no JSON"])
def test_what_only_arcfleet_knows_goes_to_nobody_else(
    beside: Beside, method: str, path: str, named: str, version: bytes | None
) -> None:
    if version is not None:
        beside.node.told[f"{BASE}/version"] = version
    else:
        beside.node.status = 404

    answer = beside.wire.ask(method, f"{BASE}/monitor{path}{'&' if '?' in path else '?'}{HERE}")

    assert answer.status_code == 409, answer.text
    assert error_of(answer).startswith(
        f"{named}: only arcfleet knows this, others ignore it, and that Device: other-house"
    )
    assert [asked.path for asked in beside.node.asked] in ([], [f"{BASE}/version"])
    assert factories.sql("SELECT action FROM audit") == []


@pytest.mark.parametrize(("method", "path", "named"), OURS)
def test_what_only_arcfleet_knows_goes_to_another_arcfleet(beside: Beside, method: str, path: str, named: str) -> None:
    beside.node.told[f"{BASE}/version"] = b'{"product":"arcfleet","version":"9","clusterID":"x"}'

    let_in("operator")

    answer = beside.wire.ask(
        method, f"{BASE}/monitor{path}{'&' if '?' in path else '?'}{HERE}", authorization="Bearer arcfleet_r"
    )

    assert answer.status_code == 200, answer.text
    [asked] = beside.node.asked
    assert beside.node.looks[0].headers["authorization"] == "Bearer arcfleet_r"
    for name, _, value in (part.partition("=") for part in named.split(", ") if "=" in part):
        assert (name, value) in parse_qsl(asked.path.partition("?")[2])


def test_scheduled_time_is_the_same_instant_on_the_clock_there(beside: Beside) -> None:
    beside.node.told[f"{BASE}/monitor/serverTimeZone"] = b'{"timeZone":"Asia/Tokyo","offset":32400000}'

    answer = beside.wire.post(f"{EXPORTS}/reschedule?{HERE}&SCHEDULEDTIME=20260701120000")

    assert answer.status_code == 200
    assert [asked.path for asked in beside.node.asked] == [f"{EXPORTS}/reschedule?{HERE}&scheduledTime=20260701190000"]


@pytest.mark.parametrize("zone", [b"{}", b'{"timeZone":"Nowhere/At all"}', b'{"timeZone":"../x"}', b"[]"])
def test_scheduled_time_goes_to_no_clock_that_is_not_known(beside: Beside, zone: bytes) -> None:
    beside.node.told[f"{BASE}/monitor/serverTimeZone"] = zone

    answer = beside.wire.post(f"{EXPORTS}/reschedule?{HERE}&scheduledTime=20260701120000")

    assert answer.status_code == 409
    assert error_of(answer).startswith(
        "scheduledTime=20260701120000: Device: other-house would read it on its own clock"
    )
    assert beside.node.asked == []


def test_tasks_elsewhere_are_never_given_to_a_device_of_ours(beside: Beside) -> None:
    answer = beside.wire.post(f"{EXPORTS}/reschedule?{HERE}&newDeviceName=x-ray,archive-b")

    assert answer.status_code == 409
    assert error_of(answer).startswith("newDeviceName=archive-b: the tasks of Device: other-house are in another table")
    assert beside.node.asked == []


def test_status_that_cannot_be_canceled_is_refused_before_anything_is_sent(beside: Beside) -> None:
    answer = beside.wire.post(f"{EXPORTS}/cancel?{HERE}&status=FAILED")

    assert (answer.status_code, error_of(answer)) == (400, "Cannot cancel tasks with status: FAILED")
    assert beside.node.asked == []


def test_star_beside_a_foreign_device_is_not_the_device_alone(beside: Beside) -> None:
    answer = beside.wire.delete(f"{EXPORTS}?{HERE}&dicomDeviceName=*")

    assert (answer.status_code, beside.node.asked) == (400, [])


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


@pytest.mark.parametrize(
    ("role", "method", "path"),
    [("reader", "DELETE", "?"), ("submitter", "DELETE", "?"), ("submitter", "POST", "/cancel?status=SCHEDULED&")],
)
def test_who_may_not_change_the_tasks_of_others_is_refused_before_anything_is_sent(
    beside: Beside, role: str, method: str, path: str
) -> None:
    let_in(role)

    answer = beside.wire.ask(method, f"{EXPORTS}{path}{HERE}", authorization="Bearer arcfleet_r")

    assert answer.status_code == 403
    assert f"r has the role {role}" in error_of(answer)
    assert beside.node.asked == []


def test_url_is_shown_with_the_device(beside: Beside) -> None:
    found = {one["dicomDeviceName"]: one for one in beside.wire.get(f"{BASE}/devices").json()}

    assert found["other-house"]["url"] == f"http://127.0.0.1:{beside.node.port}/dcm4chee-arc"
    assert "url" not in found["mute-house"]
