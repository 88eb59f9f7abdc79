"""Bad input: the status, a text that names thing, value and what was expected, and nothing changed."""

from __future__ import annotations

import json

import pytest

from tests import factories
from tests.integration.api.wire import BASE, EXPORTS, Wire, error_of

MADE = f"{BASE}/aets/ARCHIVE_A/rs/studies"

#: method, path, status, parts of the text.
CASES = [
    ("GET", f"{EXPORTS}?foo=1", 400, ["foo", "nearest"]),
    ("GET", f"{EXPORTS}?exporter=1", 400, ["exporter", "ExporterID"]),
    ("POST", f"{EXPORTS}/cancel?status=SCHEDULED&deviceName=x", 400, ["deviceName", "dicomDeviceName"]),
    ("GET", f"{EXPORTS}?status=FALIED", 400, ["status=FALIED", "FAILED", "waiting"]),
    ("GET", f"{EXPORTS}?createdTime=yesterday", 400, ["createdTime=yesterday", "DICOM"]),
    ("GET", f"{EXPORTS}/count?updatedTime=20261301", 400, ["updatedTime=20261301"]),
    ("GET", f"{EXPORTS}/count?updatedTime=-", 400, ["updatedTime=-"]),
    ("GET", f"{EXPORTS}?limit=0", 400, ["limit=0", "1", "99999"]),
    ("GET", f"{EXPORTS}?limit=100000", 400, ["limit=100000"]),
    ("GET", f"{EXPORTS}?offset=-1", 400, ["offset=-1"]),
    ("GET", f"{EXPORTS}?orderby=status", 400, ["orderby=status", "createdTime"]),
    ("GET", f"{EXPORTS}?orderby=--createdTime", 400, ["orderby=--createdTime"]),
    ("GET", f"{EXPORTS}?batchID=a&batchID=b", 400, ["batchID", "more than once"]),
    ("GET", f"{EXPORTS}?batchID=a%00b", 400, ["batchID", "printable"]),
    ("GET", f"{EXPORTS}?taskID=abc", 404, ["No such Task : abc"]),
    ("GET", f"{EXPORTS}/abc", 404, ["No such Task : abc"]),
    ("GET", f"{EXPORTS}/4711", 404, ["No such Task : 4711"]),
    ("GET", f"{EXPORTS}/4711/history", 404, ["No such Task : 4711"]),
    ("GET", f"{EXPORTS}/4711?foo=1", 400, ["foo", "expected none"]),
    ("POST", f"{EXPORTS}/99999999999999999999/cancel", 404, ["No such Task : 99999999999999999999"]),
    ("POST", f"{EXPORTS}/-1/cancel", 404, ["No such Task : -1"]),
    ("DELETE", f"{EXPORTS}/4711", 404, ["No such Task : 4711"]),
    ("POST", f"{EXPORTS}/cancel", 400, ["Missing query parameter: status"]),
    ("POST", f"{EXPORTS}/cancel?status=*", 400, ["Missing query parameter: status"]),
    ("POST", f"{EXPORTS}/cancel?status=", 400, ["status", "no value"]),
    ("POST", f"{EXPORTS}/cancel?status=COMPLETED", 400, ["Cannot cancel tasks with status: COMPLETED"]),
    ("POST", f"{EXPORTS}/cancel?status=SCHEDULED&limit=5", 400, ["limit"]),
    ("POST", f"{EXPORTS}/cancel?status=SCHEDULED&offset=5", 400, ["offset"]),
    ("POST", f"{EXPORTS}/reschedule", 400, ["all=true"]),
    ("POST", f"{EXPORTS}/reschedule?newDeviceName=archive-b", 400, ["all=true"]),
    ("POST", f"{EXPORTS}/reschedule?scheduledTime=20300101000000&orderby=createdTime", 400, ["all=true"]),
    ("POST", f"{EXPORTS}/reschedule?status=*&dicomDeviceName=*", 400, ["all=true"]),
    ("DELETE", EXPORTS, 400, ["all=true"]),
    ("DELETE", f"{EXPORTS}?all=yes", 400, ["all=yes", "true or false"]),
    ("DELETE", f"{EXPORTS}?all=true&dryrun=1", 400, ["dryrun=1", "true or false"]),
    ("POST", f"{EXPORTS}/1/reschedule?newDeviceName=nowhere", 400, ["Unknown Device: nowhere"]),
    ("POST", f"{EXPORTS}/1/reschedule?newDeviceName=asleep", 400, ["Device: asleep not installed"]),
    ("POST", f"{EXPORTS}/1/reschedule?newDeviceName=other-house", 409, ["other-house"]),
    ("POST", f"{EXPORTS}/reschedule?all=true&newDeviceName=nowhere", 400, ["Unknown Device: nowhere"]),
    ("POST", f"{EXPORTS}/reschedule/Nothing?all=true&newDeviceName=archive-b", 400, ["No Exporter", "Nothing"]),
    ("POST", f"{EXPORTS}/1/reschedule?scheduledTime=tomorrow", 400, ["scheduledTime=tomorrow", "yyyyMMddHHmmss"]),
    ("POST", f"{EXPORTS}/1/reschedule?scheduledTime=20260231000000", 400, ["scheduledTime=20260231000000"]),
    ("POST", f"{EXPORTS}/1/reschedule?taskPriority=10", 400, ["taskPriority=10", "0 to 9"]),
    ("POST", f"{EXPORTS}/1/reschedule?keepScheduledTime=true&scheduledTime=20300101000000", 400, ["keepScheduledTime"]),
    ("POST", f"{MADE}/1.2.3/export/Nothing", 404, ["No Exporter configured with ID:Nothing", "Noop"]),
    ("POST", f"{MADE}/1.2.3/export/Lost", 404, ["No Queue configured with name:Nowhere"]),
    ("POST", f"{MADE}/1.2.3/export/Strange", 400, ["wado:X", "noop:"]),
    ("POST", f"{MADE}/1.2.3/export/OnlyB", 404, ["OnlyB"]),
    ("POST", f"{MADE}/one/export/Noop", 400, ["StudyInstanceUID=one", "UID"]),
    ("POST", f"{MADE}/1.2.3/series/x/export/Noop", 400, ["SeriesInstanceUID=x"]),
    ("POST", f"{MADE}/1.2.3/series/1/instances/{'1' * 65}/export/Noop", 400, ["SOPInstanceUID", "64"]),
    ("POST", f"{MADE}/1.2.3/export/Noop?scheduledTime=2030", 400, ["scheduledTime=2030"]),
    ("POST", f"{MADE}/1.2.3/export/Noop?dicomDeviceName=nowhere", 404, ["Unknown Device: nowhere"]),
    ("POST", f"{MADE}/1.2.3/export/Noop?dicomDeviceName=archive-b", 404, ["ARCHIVE_A", "archive-b"]),
    ("POST", f"{MADE}/1.2.3/export/Noop?batchId=1&batch=2", 400, ["batch", "batchID"]),
    ("POST", f"{BASE}/aets/NOBODY/rs/studies/1.2.3/export/Noop", 404, ["Application Entity: NOBODY", "ARCHIVE_A"]),
    ("POST", f"{BASE}/devices/nowhere/pause", 404, ["Unknown Device: nowhere"]),
    ("POST", f"{BASE}/devices/archive-a/pause?dcmQueueName=Nope", 404, ["Nope", "Export"]),
    ("POST", f"{BASE}/devices/archive-a/pause?until=20200101000000", 400, ["until=20200101000000"]),
    ("POST", f"{BASE}/devices/archive-a/pause?until=later", 400, ["until=later", "yyyyMMddHHmmss"]),
]


@pytest.fixture(autouse=True)
def _tasks(cluster: None) -> None:
    factories.insert(2)


@pytest.mark.parametrize(("method", "path", "status", "parts"), CASES)
def test_bad_request(wire: Wire, method: str, path: str, status: int, parts: list[str]) -> None:
    before = content()

    answer = wire.ask(method, path)

    assert answer.status_code == status
    text = error_of(answer)
    assert all(part in text for part in parts), text
    assert content() == before


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("nowhere", "Unknown Device: nowhere", "expected one of archive-a, archive-b"),
        ("pacs", "No <class ArchiveDeviceExtension> configured for Device: pacs", "it is no archive, expected one of"),
        ("asleep", "Device: asleep not installed", None),
    ],
)
@pytest.mark.parametrize("path", ["1/reschedule?", "reschedule?all=true&"])
def test_text_is_that_of_the_original_and_the_hint_a_warning(
    wire: Wire, path: str, name: str, text: str, hint: str | None
) -> None:
    answer = wire.post(f"{EXPORTS}/{path}newDeviceName={name}")

    assert (answer.status_code, error_of(answer)) == (400, text)
    assert ("warning" in answer.headers) == (hint is not None)
    assert hint is None or hint in answer.headers["warning"]


@pytest.mark.parametrize("name", ["taskID", "ExporterID", "newDeviceName"])
def test_list_of_nothing_is_not_everything(wire: Wire, name: str) -> None:
    answer = wire.post(f"{EXPORTS}/reschedule?status=SCHEDULED&{name}=,")

    assert answer.status_code == 400
    assert f"{name}=,: expected a value" in error_of(answer)


def content() -> list[str]:
    rows = []
    for table in ("task", "history", "pause", "audit", "idempotency_key"):
        rows += factories.sql(f"SELECT row_to_json(t)::text FROM {table} AS t ORDER BY 1")
    return rows


def test_problem_when_asked(wire: Wire) -> None:
    answer = wire.get(f"{EXPORTS}/4711", accept="application/problem+json, application/json")

    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(answer.content) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "No such Task : 4711",
        "errorMessage": "No such Task : 4711",
    }


def test_error_text_is_always_json(wire: Wire) -> None:
    answer = wire.get(f"{EXPORTS}/{'%22%5C%0A'}")

    assert error_of(answer.__class__(404, headers=answer.headers, content=answer.content.replace(b"\\n", b" ")))
    assert json.loads(answer.content)["errorMessage"] == 'No such Task : "\\\n'
