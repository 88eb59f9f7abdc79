"""Tasks on the wire, byte for byte: order of fields, strings for numbers, omissions, times, CSV."""

from __future__ import annotations

import json
import re

import pytest

from archive import db
from tasks import store
from tasks.store import By
from tests import factories
from tests.integration.api.wire import BASE, EXPORTS, Wire, error_of

STUDY = "1.2.840.99.1"

#: Times that a test can foretell.
_FIXED = """
    UPDATE task SET created_time = '2026-08-20 12:05:09.123456+00', updated_time = '2026-08-20 12:06:00+00',
        scheduled_time = '2026-08-20 12:05:09.9+00', started_time = '2026-01-20 12:05:10+00',
        ended_time = '2026-08-20 12:05:11.001+00', failures = 11, batch_id = 'nightly "1"',
        error_message = 'Verbindung zu Müller abgelehnt', outcome_message = 'one, two',
        requester_user = 'anna', requester_host = '10.0.0.7', request_uri = '/dcm4chee-arc/aets/A?batchID=1',
        series_uid = '1.2.3', sop_uid = '1.2.3.4', local_aet = 'ARCHIVE_A',
        progress = '{"numInstances": 7, "modalities": ["CT", "SR"]}'
"""


def insert(**values: object) -> int:
    [task] = factories.insert(study_uid=STUDY, **values)
    return task.id


def test_full_task_is_written_in_the_order_of_the_original(wire: Wire) -> None:
    task_id = insert()
    factories.sql(_FIXED)

    answer = wire.get(EXPORTS)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.content.decode() == (
        f'[{{"taskID":"{task_id}","dicomDeviceName":"archive-a","queue":"Export","type":"EXPORT","status":"SCHEDULED",'
        '"batchID":"nightly \\"1\\"","failures":"11","createdTime":"2026-08-20T14:05:09.123+0200",'
        '"updatedTime":"2026-08-20T14:06:00.000+0200","scheduledTime":"2026-08-20T14:05:09.900+0200",'
        '"processingStartTime":"2026-01-20T13:05:10.000+0100","processingEndTime":"2026-08-20T14:05:11.001+0200",'
        '"errorMessage":"Verbindung zu Müller abgelehnt","outcomeMessage":"one, two","RequesterUserID":"anna",'
        '"RequesterHostName":"10.0.0.7","RequestURI":"/dcm4chee-arc/aets/A?batchID=1","LocalAET":"ARCHIVE_A",'
        f'"ExporterID":"Noop","StudyInstanceUID":"{STUDY}","SeriesInstanceUID":"1.2.3","SOPInstanceUID":"1.2.3.4",'
        '"NumberOfInstances":"7","Modality":["CT","SR"]}]'
    )


def test_absent_and_default_values_are_left_out(wire: Wire) -> None:
    insert(exporter_id=None)

    found = wire.get(EXPORTS).json()[0]

    assert list(found) == [
        "taskID", "dicomDeviceName", "queue", "type", "status", "createdTime", "updatedTime", "scheduledTime",
        "StudyInstanceUID",
    ]  # fmt: skip


def test_priority_is_written_only_where_it_is_not_the_default(wire: Wire) -> None:
    insert(priority=9)

    assert list(wire.get(EXPORTS).json()[0].items())[-1] == ("taskPriority", "9")


def test_csv_has_the_columns_of_the_original_and_quotes_every_value(wire: Wire) -> None:
    task_id = insert()
    factories.sql(_FIXED)

    answer = wire.get(EXPORTS, accept="text/csv")

    assert answer.headers["content-type"] == "text/csv;charset=utf-8"
    header, line, end = answer.content.decode().split("\r\n")
    assert end == ""
    assert header == ",".join(
        f'"{name}"'
        for name in (
            "taskID", "createdTime", "updatedTime", "ExporterID", "LocalAET", "StudyInstanceUID", "SeriesInstanceUID",
            "SOPInstanceUID", "NumberOfInstances", "Modality", "batchID", "dicomDeviceName", "scheduledTime", "status",
            "queue", "failures", "processingStartTime", "processingEndTime", "errorMessage", "outcomeMessage",
        )
    )  # fmt: skip
    assert line == (
        f'"{task_id}","2026-08-20T14:05:09.123+0200","2026-08-20T14:06:00.000+0200","Noop","ARCHIVE_A","{STUDY}",'
        '"1.2.3","1.2.3.4","7","CT\\SR","nightly ""1""","archive-a","2026-08-20 14:05:09.900","SCHEDULED","Export",'
        '"11","2026-01-20T13:05:10.000+0100","2026-08-20T14:05:11.001+0200","Verbindung zu Müller abgelehnt","one, two"'
    )


def test_nothing_stands_between_delimiters_for_what_is_absent(wire: Wire) -> None:
    task_id = insert(exporter_id=None)
    factories.sql("UPDATE task SET created_time = '2026-08-20 12:00:00+00', updated_time = '2026-08-20 12:00:00+00'")
    factories.sql("UPDATE task SET scheduled_time = '2026-08-20 12:00:00+00'")

    answer = wire.get(f"{EXPORTS}?accept=text/csv;delimiter=semicolon", accept="application/json")

    noon = '"2026-08-20T14:00:00.000+0200"'
    assert answer.content.decode().split("\r\n")[1] == (
        f'"{task_id}";{noon};{noon};;;"{STUDY}";;;;;;"archive-a";"2026-08-20 14:00:00.000";"SCHEDULED";"Export";;;;;'
    )


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/json"),
        ("text/html, */*;q=0.1", "application/json"),
        ("application/json;q=0.5, text/csv", "text/csv;charset=utf-8"),
        ("text/csv;delimiter=semicolon;q=1", "text/csv;charset=utf-8"),
        ("application/problem+json", "application/json"),
    ],
)
def test_format_follows_the_accept_header(wire: Wire, accept: str, content_type: str) -> None:
    assert wire.get(EXPORTS, accept=accept).headers["content-type"] == content_type


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "text/csv;delimiter=tab", "text/csv;q=0"])
def test_other_formats_are_not_acceptable(wire: Wire, accept: str) -> None:
    answer = wire.get(EXPORTS, accept=accept)

    assert answer.status_code == 406
    assert accept in error_of(answer)


def test_empty_list_and_count(wire: Wire) -> None:
    assert wire.get(EXPORTS).content == b"[]"
    assert wire.get(f"{EXPORTS}/count").content == b'{"count":0}'


def test_paging_and_order(wire: Wire) -> None:
    first, second, third = (insert() for _ in range(3))

    newest = wire.get(f"{EXPORTS}?orderby=-createdTime&limit=2")
    oldest = wire.get(f"{EXPORTS}?orderby=createdTime&offset=1")

    assert [one["taskID"] for one in newest.json()] == [str(third), str(second)]
    assert [one["taskID"] for one in oldest.json()] == [str(second), str(third)]
    assert first < second


FILTERS = [
    ("ExporterID=Noop", "ExporterID=Other,Noop", "ExporterID=Other"),
    ("status=SCHEDULED", "status=waiting&status=FAILED", "status=SCHEDULED%20FOR%20RETRY"),
    ("batchID=b1", "batchid=b1", "batchID=B1"),
    ("dicomDeviceName=archive-a", "DICOMDEVICENAME=archive-a", "dicomDeviceName=archive-b"),
    (f"StudyInstanceUID={STUDY}", f"studyinstanceuid={STUDY}", "StudyInstanceUID=1.2"),
    ("createdTime=20260820", "createdTime=20260820140509", "createdTime=20260821"),
    ("createdTime=-20260820", "createdTime=202608-", "createdTime=-20260819"),
    ("createdTime=20260820140509.123-2027", "createdTime=2026082012+0000", "createdTime=2026082012"),
]


@pytest.mark.parametrize(("matching", "also", "other"), FILTERS)
def test_filter(wire: Wire, matching: str, also: str, other: str) -> None:
    insert(batch_id="b1")
    factories.sql("UPDATE task SET created_time = '2026-08-20 12:05:09.123456+00'")

    counts = [wire.get(f"{EXPORTS}/count?{query}").json()["count"] for query in (matching, also, other)]

    assert counts == [1, 1, 0]


def test_filter_of_ids(wire: Wire) -> None:
    first, second, _ = (insert() for _ in range(3))

    found = wire.get(f"{EXPORTS}?taskID={first}&taskID={second}&orderby=createdTime").json()

    assert [one["taskID"] for one in found] == [str(first), str(second)]


def test_what_clients_of_the_original_send_in_vain_is_accepted_with_a_warning(wire: Wire) -> None:
    insert()

    query = "status=*&dicomDeviceName=*&createdTimeObject=x&offset=3&limit=9&orderby=-updatedTime"
    answer = wire.get(f"{EXPORTS}/count?{query}")

    assert answer.json() == {"count": 1}
    warnings = " ".join(answer.headers.get_list("warning"))
    for name in ("status=*", "dicomDeviceName=*", "createdTimeObject", "offset", "limit", "orderby"):
        assert name in warnings
    assert all(re.fullmatch(r'299 arcfleet "[^"]*"', one) for one in answer.headers.get_list("warning"))


def test_list_does_not_warn_of_its_own_parameters(wire: Wire) -> None:
    assert "warning" not in wire.get(f"{EXPORTS}?orderby=createdTime&limit=3&accept=application/json").headers


def test_lenient_reading_ignores_unknown_parameters_with_a_warning(wire: Wire) -> None:
    answer = wire.get(f"{EXPORTS}/count?foo=1", prefer="handling=lenient")

    assert answer.status_code == 200
    assert "foo" in answer.headers["warning"]
    assert wire.post(f"{EXPORTS}/reschedule?foo=1&status=FAILED", prefer="handling=lenient").status_code == 400


def test_single_task_has_typed_values(wire: Wire) -> None:
    task_id = insert(priority=7)
    factories.sql(_FIXED)

    found = wire.get(f"{EXPORTS}/{task_id}").json()

    assert (found["taskID"], found["taskPriority"], found["failures"]) == (task_id, 7, 11)
    assert found["progress"] == {"numInstances": 7, "modalities": ["CT", "SR"]}
    assert found["destination"] is None


def test_history_is_kept_of_deleted_tasks_too(wire: Wire) -> None:
    task_id = insert()
    wire.delete(f"{EXPORTS}/{task_id}")

    found = wire.get(f"{EXPORTS}/{task_id}/history").json()

    assert [(one["event"], one["to"]) for one in found] == [("create", "SCHEDULED"), ("delete", None)]
    assert found[1]["actor"] == "local@127.0.0.1"
    assert wire.get(f"{EXPORTS}/{task_id}").status_code == 404


def test_large_list_comes_whole(wire: Wire) -> None:
    with db.transaction() as session:
        store.insert_tasks(session, [factories.new_task(study_uid=STUDY)] * 3000, By("x"))

    rows = wire.get(EXPORTS, accept="text/csv").content.decode().split("\r\n")
    listed = json.loads(wire.get(EXPORTS).content)

    assert len(rows) == 3002
    assert len({one["taskID"] for one in listed}) == 3000


def test_other_kinds_are_not_shown(wire: Wire) -> None:
    task_id = insert()
    factories.sql("UPDATE task SET kind = 'RETRIEVE'")

    assert wire.get(EXPORTS).json() == []
    for path in ("", "/history", "/explain"):
        assert wire.get(f"{EXPORTS}/{task_id}{path}").status_code == 404
    assert wire.post(f"{EXPORTS}/{task_id}/cancel").status_code == 404


def test_unknown_service_is_named(wire: Wire) -> None:
    answer = wire.get(f"{BASE}/nothing")

    assert answer.status_code == 404
    assert error_of(answer) == f"No such service: {BASE}/nothing"
    assert wire.ask("PUT", EXPORTS).status_code == 405
