"""RETRIEVE, STGVER, DIFF and what queues list: fields in their order, kinds of values, omissions, CSV."""

from __future__ import annotations

import json

import pytest

from api.rest import copied
from tasks.state import Status
from tests import factories
from tests.integration.api.wire import BASE, Wire, error_of

STUDY = "1.2.840.99.1"

#: Times that a test can foretell; the same for all rows.
_FIXED = """
    UPDATE task SET created_time = '2026-08-20 12:05:09.123456+00', updated_time = '2026-08-20 12:06:00+00',
        scheduled_time = '2026-08-20 12:05:09.9+00'
"""
_TIMES = (
    '"createdTime":"2026-08-20T14:05:09.123+0200","updatedTime":"2026-08-20T14:06:00.000+0200",'
    '"scheduledTime":"2026-08-20T14:05:09.900+0200"'
)
_CREATED, _UPDATED = '"2026-08-20T14:05:09.123+0200"', '"2026-08-20T14:06:00.000+0200"'
_SCHEDULED = '"2026-08-20 14:05:09.900"'

RETRIEVE = {
    "kind": "RETRIEVE", "queue": "Retrieve", "exporter_id": None, "local_aet": "ARCHIVE_A", "remote_aet": "PACS",
    "destination_aet": "ARCHIVE_B", "study_uid": STUDY,
}  # fmt: skip
STGVER = {
    "kind": "STGVER", "queue": "StgVerTasks", "exporter_id": None, "local_aet": "ARCHIVE_A", "study_uid": STUDY,
    "params": {"policy": "OBJECT_CHECKSUM", "updateLocationStatus": True, "storageIDs": ["fs2", "fs1"]},
}  # fmt: skip
DIFF = {
    "kind": "DIFF", "queue": "DiffTasks", "exporter_id": None, "local_aet": "ARCHIVE_A", "remote_aet": "PACS",
    "destination_aet": "ARCHIVE_B", "study_uid": None,
    "params": {"queryString": "StudyDate=20260820-", "checkMissing": True, "checkDifferent": True},
}  # fmt: skip


def insert(values: dict[str, object], progress: dict[str, object] | None = None, **more: object) -> int:
    [task] = factories.insert(**{**values, **more})
    if progress is not None:
        factories.sql("UPDATE task SET progress = CAST(:progress AS jsonb) WHERE id = :id",
                      progress=json.dumps(progress), id=task.id)  # fmt: skip
    factories.sql(_FIXED)
    return task.id


def head(task_id: int, queue: str, kind: str, status: str = "SCHEDULED") -> str:
    return (
        f'[{{"taskID":"{task_id}","dicomDeviceName":"archive-a","queue":"{queue}","type":"{kind}","status":"{status}",'
    )


def body(wire: Wire, path: str, **headers: str) -> str:
    answer = wire.get(f"{BASE}{path}", **headers)
    assert answer.status_code == 200, answer.text
    return answer.content.decode()


def test_retrieve_before_its_first_run(wire: Wire) -> None:
    task_id = insert(RETRIEVE)

    assert body(wire, "/monitor/retrieve") == (
        head(task_id, "Retrieve", "RETRIEVE") + _TIMES + ',"LocalAET":"ARCHIVE_A","RemoteAET":"PACS",'
        f'"DestinationAET":"ARCHIVE_B","StudyInstanceUID":"{STUDY}","statusCode":"0000"}}]'
    )


def test_retrieve_while_it_runs_has_an_unknown_status(wire: Wire) -> None:
    insert(RETRIEVE, {"remaining": -1, "completed": 0, "failed": 0, "warning": 0, "statusCode": -1})

    [found] = wire.get(f"{BASE}/monitor/retrieve").json()

    assert (found["remaining"], found["statusCode"], "completed" in found) == ("-1", "FFFF", False)


def test_retrieve_that_has_started_and_heard_nothing_yet(wire: Wire) -> None:
    insert(RETRIEVE)
    factories.sql("UPDATE task SET started_time = now()")

    [found] = wire.get(f"{BASE}/monitor/retrieve").json()

    assert (found["remaining"], found["statusCode"]) == ("-1", "FFFF")


def test_retrieve_with_all_that_it_can_have(wire: Wire) -> None:
    progress = {
        "remaining": 1, "completed": 2, "failed": 3, "warning": 4, "statusCode": 0xB000, "errorComment": "one failed",
    }  # fmt: skip
    task_id = insert(RETRIEVE, progress, params={"findSCP": "FINDER"}, series_uid="1.2.3", sop_uid="1.2.3.4")

    assert body(wire, "/monitor/retrieve") == (
        head(task_id, "Retrieve", "RETRIEVE") + _TIMES + ',"LocalAET":"ARCHIVE_A","RemoteAET":"PACS",'
        f'"DestinationAET":"ARCHIVE_B","FindSCP":"FINDER","StudyInstanceUID":"{STUDY}","SeriesInstanceUID":"1.2.3",'
        '"SOPInstanceUID":"1.2.3.4","remaining":"1","completed":"2","failed":"3","warning":"4","statusCode":"B000",'
        '"errorComment":"one failed"}]'
    )


def test_csv_of_retrieves(wire: Wire) -> None:
    first = insert(RETRIEVE, {"remaining": -1, "statusCode": -1})
    second = insert(RETRIEVE, {"completed": 2, "statusCode": 0, "errorComment": "none"}, batch_id="b")

    lines = body(wire, "/monitor/retrieve?orderby=createdTime", accept="text/csv").split("\r\n")

    assert lines[0].replace('"', "") == (
        "taskID,createdTime,updatedTime,LocalAET,RemoteAET,DestinationAET,StudyInstanceUID,SeriesInstanceUID,"
        "SOPInstanceUID,remaining,completed,failed,warning,statusCode,errorComment,batchID,dicomDeviceName,queue,"
        "scheduledTime,status,failures,processingStartTime,processingEndTime,errorMessage,outcomeMessage"
    )
    common = f'{_CREATED},{_UPDATED},"ARCHIVE_A","PACS","ARCHIVE_B","{STUDY}",,'
    tail = f'"archive-a","Retrieve",{_SCHEDULED},"SCHEDULED",,,,,'
    assert lines[1] == f'"{first}",{common},"-1","0","0","0",,,,{tail}'
    assert lines[2] == f'"{second}",{common},"0","2","0","0","0000","none","b",{tail}'


def test_storage_verification(wire: Wire) -> None:
    task_id = insert(STGVER, {"completed": 7, "failed": 0})

    assert body(wire, "/monitor/stgver") == (
        head(task_id, "StgVerTasks", "STGVER") + _TIMES + ',"LocalAET":"ARCHIVE_A","StgCmtPolicy":"OBJECT_CHECKSUM",'
        f'"UpdateLocationStatus":true,"StorageID":["fs1","fs2"],"StudyInstanceUID":"{STUDY}","completed":"7"}}]'
    )


def test_csv_of_storage_verifications(wire: Wire) -> None:
    task_id = insert({**STGVER, "params": {}}, batch_id="b")
    lines = body(wire, "/monitor/stgver?accept=text/csv").split("\r\n")

    assert lines[0].replace('"', "") == (
        "taskID,createdTime,updatedTime,LocalAET,StgCmtPolicy,UpdateLocationStatus,StorageID,StudyInstanceUID,"
        "SeriesInstanceUID,SOPInstanceUID,completed,failed,queue,dicomDeviceName,status,scheduledTime,failures,batchID,"
        "processingStartTime,processingEndTime,errorMessage,outcomeMessage"
    )
    # What is not set is the word null, as the original prints it.
    assert lines[1] == (
        f'"{task_id}",{_CREATED},{_UPDATED},"ARCHIVE_A",,"null",,"{STUDY}",,,"0","0","StgVerTasks","archive-a",'
        f'"SCHEDULED",{_SCHEDULED},,"b",,,,'
    )


def test_several_storages_are_joined_by_a_backslash(wire: Wire) -> None:
    insert(STGVER)

    assert '"true","fs1\\fs2"' in body(wire, "/monitor/stgver?accept=text/csv")


def test_comparison_has_numbers_that_are_numbers(wire: Wire) -> None:
    task_id = insert(DIFF, {"matches": 3, "missing": 0, "different": 2})

    assert body(wire, "/monitor/diff") == (
        head(task_id, "DiffTasks", "DIFF") + _TIMES + ',"LocalAET":"ARCHIVE_A","PrimaryAET":"PACS",'
        '"SecondaryAET":"ARCHIVE_B","QueryString":"StudyDate=20260820-","checkMissing":true,"checkDifferent":true,'
        '"matches":3,"different":2}]'
    )


def test_comparison_without_checks_leaves_them_out(wire: Wire) -> None:
    insert({**DIFF, "params": {"checkMissing": False, "comparefield": "study"}})

    [found] = wire.get(f"{BASE}/monitor/diff").json()

    assert list(found)[8:] == ["LocalAET", "PrimaryAET", "SecondaryAET", "comparefield"]


def test_csv_of_comparisons(wire: Wire) -> None:
    task_id = insert({**DIFF, "params": {"checkMissing": True, "comparefield": "study"}}, {"matches": 1})
    lines = body(wire, "/monitor/diff?accept=text/csv;delimiter=semicolon").split("\r\n")

    assert lines[0].replace('"', "") == (
        "taskID;LocalAET;PrimaryAET;SecondaryAET;QueryString;checkMissing;checkDifferent;matches;missing;different;"
        "comparefield;createdTime;updatedTime;queue;dicomDeviceName;status;scheduledTime;failures;batchID;"
        "processingStartTime;processingEndTime;errorMessage;outcomeMessage"
    )
    assert lines[1] == (
        f'"{task_id}";"ARCHIVE_A";"PACS";"ARCHIVE_B";;"true";"false";"1";"0";"0";"study";{_CREATED};{_UPDATED};'
        f'"DiffTasks";"archive-a";"SCHEDULED";{_SCHEDULED};;;;;;'
    )


#: path, matches one, matches none
FILTERS = [
    ("retrieve", "LocalAET=ARCHIVE_A", "LocalAET=archive_a"),
    ("retrieve", "RemoteAET=PACS", "RemoteAET=PAC*"),
    ("retrieve", "DestinationAET=ARCHIVE_B", "DestinationAET=PACS"),
    ("retrieve", f"StudyInstanceUID={STUDY}", "StudyInstanceUID=1"),
    ("retrieve", "dcmQueueName=Other,Retrieve", "dcmQueueName=Export"),
    ("retrieve", "dcmQueueName=Other&dcmQueueName=Retrieve", "dcmQueueName=retrieve"),
    ("stgver", "LocalAET=ARCHIVE_A", "LocalAET=PACS"),
    ("stgver", f"StudyInstanceUID={STUDY}", "StudyInstanceUID=1"),
    ("diff", "LocalAET=ARCHIVE_A", "LocalAET=PACS"),
    ("diff", "PrimaryAET=PACS", "PrimaryAET=ARCHIVE_B"),
    ("diff", "SecondaryAET=ARCHIVE_B", "SecondaryAET=PACS"),
    ("diff", "checkMissing=true", "checkMissing=false"),
    ("diff", "checkDifferent=true", "checkDifferent=false"),
    ("diff", "comparefield=study", "comparefield=other"),
]


@pytest.mark.parametrize(("slug", "one", "none"), FILTERS)
def test_filter_of_a_kind(wire: Wire, slug: str, one: str, none: str) -> None:
    insert(RETRIEVE)
    insert(STGVER)
    insert({**DIFF, "params": {**DIFF["params"], "comparefield": "study"}})  # type: ignore[dict-item]

    assert wire.get(f"{BASE}/monitor/{slug}/count?{one}").json() == {"count": 1}
    assert len(wire.get(f"{BASE}/monitor/{slug}?{one}").json()) == 1
    assert wire.get(f"{BASE}/monitor/{slug}/count?{none}").json() == {"count": 0}


def test_queue_lists_its_tasks_of_every_kind_each_with_its_fields(wire: Wire) -> None:
    insert({**RETRIEVE, "queue": "Mixed"})
    insert({**DIFF, "queue": "Mixed"})
    insert({**STGVER, "queue": "Other"})

    retrieve, diff = wire.get(f"{BASE}/queue/Mixed?orderby=createdTime").json()

    assert (retrieve["RemoteAET"], retrieve["statusCode"]) == ("PACS", "0000")
    assert (diff["PrimaryAET"], diff["checkMissing"]) == ("PACS", True)
    assert wire.get(f"{BASE}/queue/Mixed/count").json() == {"count": 2}
    assert wire.get(f"{BASE}/queue/Nowhere").content == b"[]"


@pytest.mark.parametrize(
    ("query", "number"),
    [("localAET=ARCHIVE_A", 2), ("LocalAET=ARCHIVE_A", 2), ("remoteAET=PACS", 1), (f"StudyInstanceUID={STUDY}", 2),
     ("status=waiting", 2), ("dicomDeviceName=archive-b", 0), ("batchID=none", 0)],
)  # fmt: skip
def test_filter_of_a_queue(wire: Wire, query: str, number: int) -> None:
    insert({**RETRIEVE, "queue": "Mixed"})
    insert({**STGVER, "queue": "Mixed"})

    assert wire.get(f"{BASE}/queue/Mixed/count?{query}").json() == {"count": number}


def test_queue_has_no_csv(wire: Wire) -> None:
    assert wire.get(f"{BASE}/queue/Export", accept="text/csv").status_code == 406


LISTED_ONLY = {
    "HL7": (
        {"SendingApplication": "A", "SendingFacility": "B", "ReceivingApplication": "C", "ReceivingFacility": "D",
         "MessageType": "ADT^A01", "MessageControlID": "7"},
        ["SendingApplication", "SendingFacility", "ReceivingApplication", "ReceivingFacility", "MessageType",
         "MessageControlID"],
    ),
    "REJECT": ({"Code": "113001^DCM"}, ["LocalAET", "StudyInstanceUID", "Code"]),
    "IAN": ({}, ["LocalAET", "RemoteAET", "StudyInstanceUID"]),
    "SOMETHING_ELSE": ({"Code": "1"}, []),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(LISTED_ONLY))
def test_kind_that_never_runs_here_is_listed_by_its_queue(wire: Wire, kind: str) -> None:
    params, fields = LISTED_ONLY[kind]
    insert({**RETRIEVE, "kind": kind, "queue": "Others", "params": params})

    [found] = wire.get(f"{BASE}/queue/Others").json()

    assert list(found)[8:] == fields


def test_kind_that_never_runs_here_is_not_rescheduled_but_canceled_and_deleted(wire: Wire) -> None:
    task_id = insert({**RETRIEVE, "kind": "HL7", "queue": "HL7Send"})

    refused = wire.post(f"{BASE}/queue/HL7Send/{task_id}/reschedule")
    in_bulk = wire.post(f"{BASE}/queue/HL7Send/reschedule?status=SCHEDULED")

    assert (refused.status_code, in_bulk.status_code) == (409, 409)
    assert "HL7 are listed, but never run here" in error_of(refused)
    assert in_bulk.json()["failed"] == 1
    assert wire.post(f"{BASE}/queue/HL7Send/{task_id}/cancel").status_code == 204
    assert wire.delete(f"{BASE}/queue/HL7Send/{task_id}").status_code == 204


def test_task_of_another_queue_or_kind_is_not_there(wire: Wire) -> None:
    task_id = insert(RETRIEVE)

    for path in ("queue/Export", "monitor/export", "monitor/diff"):
        for method, tail in (("GET", ""), ("POST", "/cancel"), ("POST", "/reschedule"), ("DELETE", "")):
            answer = wire.ask(method, f"{BASE}/{path}/{task_id}{tail}")
            assert (answer.status_code, error_of(answer)) == (404, f"No such Task : {task_id}")
    assert wire.get(f"{BASE}/queue/Retrieve/{task_id}").json()["taskID"] == task_id
    assert [one["event"] for one in wire.get(f"{BASE}/queue/Retrieve/{task_id}/history").json()] == ["create"]


def test_tasks_of_a_queue_are_changed_together(wire: Wire) -> None:
    factories.insert(3)
    [elsewhere] = factories.insert(queue="Other")

    moved = wire.post(f"{BASE}/queue/Export/reschedule?status=waiting&newDeviceName=archive-b")
    refused = wire.delete(f"{BASE}/queue/Export")
    canceled = wire.post(f"{BASE}/queue/Export/cancel?status=SCHEDULED")
    deleted = wire.delete(f"{BASE}/queue/Export?all=true")

    assert (moved.content, canceled.content, deleted.content) == (b'{"count":3}',) * 3
    assert (refused.status_code, "all=true" in error_of(refused)) == (400, True)
    assert factories.status_of(elsewhere.id) is Status.SCHEDULED


def test_new_queue_is_for_retrieves_alone(wire: Wire) -> None:
    for path in ("export", "diff", "stgver", "deletion"):
        answer = wire.post(f"{BASE}/monitor/{path}/reschedule?all=true&newQueueName=Retrieve")
        assert (answer.status_code, "newQueueName" in error_of(answer)) == (400, True)
    answer = wire.post(f"{BASE}/monitor/retrieve/reschedule?all=true&newQueueName=Nowhere")
    assert (answer.status_code, error_of(answer)) == (400, "No Queue configured with name:Nowhere")


@pytest.mark.parametrize("slug", ["export", "retrieve", "stgver", "diff", "deletion"])
def test_database_writes_the_same_csv_as_we_do(wire: Wire, monkeypatch: pytest.MonkeyPatch, slug: str) -> None:
    for batch_id in (None, 'a "quoted"; one, two'):
        insert({"study_uid": STUDY}, {"numInstances": 7, "modalities": ["CT", "SR"]}, batch_id=batch_id)
        insert({"study_uid": STUDY}, {"modalities": []}, batch_id=batch_id)
        insert(RETRIEVE, {"remaining": -1, "statusCode": -1}, batch_id=batch_id)
        insert(RETRIEVE, {"completed": 2, "statusCode": 0xB000, "errorComment": "Ä, \\"}, batch_id=batch_id)
        insert(STGVER, {"completed": 7}, batch_id=batch_id)
        insert({**STGVER, "params": {"storageIDs": [], "updateLocationStatus": False}}, batch_id=batch_id)
        insert(DIFF, {"matches": 3, "missing": 1}, batch_id=batch_id)
        insert({**DIFF, "params": {"comparefield": "study"}}, batch_id=batch_id)
        insert({"kind": "DELETE_STUDY", "queue": "DeleteStudy", "exporter_id": None, "study_uid": STUDY,
                "params": {"fileSystemID": 1, "group": "ONLINE", "bytes": 17}}, batch_id=batch_id)  # fmt: skip
    factories.sql("UPDATE task SET started_time = '2026-01-20 12:00:00.5+00', failures = 2 WHERE id % 3 = 0")
    path = f"/monitor/{slug}?accept=text/csv&orderby=createdTime"

    by_database = body(wire, path)
    monkeypatch.setattr(copied, "can_write", lambda shape, zone: False)

    assert by_database.count("\r\n") > 2
    assert by_database == body(wire, path)
