"""The client that was written from the tables of the original's services passes against this server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests import factories
from tests.acceptance.wire.client import Archive, Bulk, Refused

STUDY = "1.2.840.113619.2.1"

#: By resource: a row as a run of that kind leaves it, and filters that match it.
ROWS: dict[str, dict[str, Any]] = {
    "monitor/export": {
        "kind": "EXPORT", "queue": "Export", "exporter_id": "Noop", "local_aet": "ARCFLEET",
        "progress": {"numInstances": 12, "modalities": ["CT", "SR"]},
    },
    "monitor/retrieve": {
        "kind": "RETRIEVE", "queue": "Retrieve", "local_aet": "ARCFLEET", "remote_aet": "PACS",
        "destination_aet": "ARCHIVE_B",
        "progress": {"remaining": 0, "completed": 3, "failed": 1, "statusCode": 0xB000, "errorComment": "one lost"},
    },
    "monitor/stgver": {
        "kind": "STGVER", "queue": "StgVerTasks", "local_aet": "ARCFLEET",
        "params": {"policy": "OBJECT_SIZE", "updateLocationStatus": False, "storageIDs": ["fs1", "fs2"]},
        "progress": {"completed": 4, "failed": 1},
    },
    "monitor/diff": {
        "kind": "DIFF", "queue": "DiffTasks", "local_aet": "ARCFLEET", "remote_aet": "PACS",
        "destination_aet": "ARCHIVE_B", "study_uid": None,
        "params": {"queryString": "StudyDate=20260820-", "checkMissing": True, "checkDifferent": False},
        "progress": {"matches": 7, "missing": 2},
    },
}  # fmt: skip
FILTERS = {
    "monitor/export": [("ExporterID", "Other,Noop"), ("StudyInstanceUID", STUDY)],
    "monitor/retrieve": [
        ("LocalAET", "ARCFLEET"), ("RemoteAET", "PACS"), ("DestinationAET", "ARCHIVE_B"), ("StudyInstanceUID", STUDY),
        ("dcmQueueName", "Retrieve"),
    ],
    "monitor/stgver": [("LocalAET", "ARCFLEET"), ("StudyInstanceUID", STUDY)],
    "monitor/diff": [
        ("LocalAET", "ARCFLEET"), ("PrimaryAET", "PACS"), ("SecondaryAET", "ARCHIVE_B"), ("checkMissing", "true"),
        ("checkDifferent", "false"),
    ],
}  # fmt: skip
RESOURCES = sorted(ROWS)
QUEUES = {path: f"queue/{ROWS[path]['queue']}" for path in RESOURCES}
BOTH = [*RESOURCES, *(QUEUES[path] for path in RESOURCES)]


def put(path: str, number: int = 1, **more: Any) -> list[int]:
    """Insert tasks as they wait; the description has no service that makes them without running them."""
    values = {**ROWS[next(one for one in RESOURCES if path in (one, QUEUES[one]))], **more}
    progress = values.pop("progress", {})
    status = values.pop("status", None)
    plain = {"exporter_id": None, "study_uid": STUDY}
    ids = [task.id for task in factories.insert(number, **{**plain, **values})]
    factories.sql(
        "UPDATE task SET progress = CAST(:progress AS jsonb), status = coalesce(:status, status) WHERE id = ANY(:ids)",
        progress=json.dumps(progress), status=status, ids=ids,
    )  # fmt: skip
    return ids


def refused(call: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(Refused) as error:
        call()
    return error.value.status, error.value.text


@pytest.mark.parametrize("path", BOTH)
def test_list_and_count(archive: Archive, path: str) -> None:
    ids = put(path, 3, batch_id="b")
    put(path, 1, status="FAILED", device="archive-b")

    found = archive.list(path, {"orderby": "createdTime", "offset": "0", "limit": "3"})

    assert [int(one["taskID"]) for one in found] == ids
    assert archive.count(path) == 4
    assert archive.count(path, {"status": "FAILED"}) == 1
    assert archive.count(path, {"dicomDeviceName": "archive-b"}) == 1
    assert archive.count(path, {"batchID": "b"}) == 3
    assert archive.count(path, {"taskID": str(ids[0])}) == 1
    assert archive.count(path, {"createdTime": "19990101-19991231"}) == 0
    assert archive.count(path, {"updatedTime": "20260101-"}) == 4


@pytest.mark.parametrize("path", RESOURCES)
def test_own_filters(archive: Archive, path: str) -> None:
    put(path)

    for name, value in FILTERS[path]:
        assert archive.count(path, {name: value}) == 1, name
        if value not in ("true", "false"):
            assert archive.count(path, {name: "SOMETHING_ELSE" if name != "StudyInstanceUID" else "9.9"}) == 0, name


def test_filters_of_a_queue_begin_in_lower_case(archive: Archive) -> None:
    put("monitor/retrieve")

    for name, value in (("localAET", "ARCFLEET"), ("remoteAET", "PACS"), ("StudyInstanceUID", STUDY)):
        assert archive.count("queue/Retrieve", {name: value}) == 1
        assert archive.count("queue/Retrieve", {name: "9.9"}) == 0


@pytest.mark.parametrize("path", RESOURCES)
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_csv(archive: Archive, path: str, delimiter: str) -> None:
    [task_id] = put(path, batch_id='nightly "1"; a,b')

    [row] = archive.csv(path, delimiter=delimiter)

    assert (row["taskID"], row["batchID"], row["failures"]) == (str(task_id), 'nightly "1"; a,b', "")
    assert row["dicomDeviceName"] == "archive-a"


def test_values_of_csv(archive: Archive) -> None:
    for path in RESOURCES:
        put(path)

    assert archive.csv("monitor/export")[0]["Modality"] == "CT\\SR"
    assert archive.csv("monitor/stgver")[0]["StorageID"] == "fs1\\fs2"
    assert archive.csv("monitor/stgver")[0]["UpdateLocationStatus"] == "false"
    assert archive.csv("monitor/retrieve")[0]["statusCode"] == "B000"
    assert archive.csv("monitor/diff")[0]["checkMissing"] == "true"


def test_values_of_json(archive: Archive) -> None:
    for path in RESOURCES:
        put(path)

    [export], [retrieve] = archive.list("monitor/export"), archive.list("monitor/retrieve")
    [stgver], [diff] = archive.list("monitor/stgver"), archive.list("monitor/diff")
    assert (export["NumberOfInstances"], export["Modality"]) == ("12", ["CT", "SR"])
    assert (retrieve["completed"], retrieve["failed"], retrieve["statusCode"]) == ("3", "1", "B000")
    assert ("remaining" in retrieve, retrieve["errorComment"]) == (False, "one lost")
    assert (stgver["UpdateLocationStatus"], stgver["StorageID"], stgver["failed"]) == (False, ["fs1", "fs2"], "1")
    assert (diff["matches"], diff["missing"], "different" in diff, "checkDifferent" in diff) == (7, 2, False, False)


@pytest.mark.parametrize("path", BOTH)
def test_one_task_is_canceled_rescheduled_and_deleted(archive: Archive, path: str) -> None:
    [task_id] = put(path)

    archive.change_one("POST", f"{path}/{task_id}/cancel")
    again = refused(lambda: archive.change_one("POST", f"{path}/{task_id}/cancel"))
    archive.change_one("POST", f"{path}/{task_id}/reschedule", {"scheduledTime": "20300820120000"})
    [task] = archive.list(path, {"taskID": str(task_id)})
    archive.change_one("DELETE", f"{path}/{task_id}")

    assert again == (409, "Cannot cancel Task with status: CANCELED")
    assert (task["status"], task["scheduledTime"][:19]) == ("SCHEDULED", "2030-08-20T12:00:00")
    assert archive.count(path) == 0
    for method, tail in (("POST", "/cancel"), ("POST", "/reschedule"), ("DELETE", "")):
        gone = refused(lambda method=method, tail=tail: archive.change_one(method, f"{path}/{task_id}{tail}"))  # type: ignore[misc]
        assert gone == (404, f"No such Task : {task_id}")


@pytest.mark.parametrize("path", RESOURCES)
def test_task_is_moved_to_another_device(archive: Archive, path: str) -> None:
    [task_id] = put(path)

    archive.change_one("POST", f"{path}/{task_id}/reschedule", {"newDeviceName": "archive-b"})

    [task] = archive.list(path)
    assert (task["dicomDeviceName"], task["LocalAET"]) in (("archive-b", "ARCFLEET"), ("archive-b", "ARCHIVE_B"))


@pytest.mark.parametrize("path", ["monitor/retrieve", "monitor/stgver", "monitor/diff"])
def test_local_ae_must_be_at_the_new_device(archive: Archive, path: str) -> None:
    [task_id] = put(path, local_aet="ARCHIVE_A")

    status, text = refused(
        lambda: archive.change_one("POST", f"{path}/{task_id}/reschedule", {"newDeviceName": "archive-b"})
    )
    bulk = archive.change_all("POST", f"{path}/reschedule", {"status": "SCHEDULED", "newDeviceName": "archive-b"})

    assert status == 409
    assert text == "No such Application Entity{dicomAETitle=ARCHIVE_A} on new device{name=archive-b}"
    assert bulk == Bulk(409, 0, 1)


@pytest.mark.parametrize("path", BOTH)
def test_many_are_canceled_rescheduled_and_deleted(archive: Archive, path: str) -> None:
    put(path, 3, batch_id="b")

    canceled = archive.change_all("POST", f"{path}/cancel", {"status": "SCHEDULED"})
    moved = archive.change_all(
        "POST", f"{path}/reschedule",
        [("status", "CANCELED"), ("newDeviceName", "archive-a"), ("newDeviceName", "archive-b")],
    )  # fmt: skip
    devices = sorted(one["dicomDeviceName"] for one in archive.list(path))
    deleted = archive.change_all("DELETE", path, {"batchID": "b"})

    assert (canceled, moved, deleted) == (Bulk(200, 3, 0),) * 3
    assert devices in (["archive-a", "archive-a", "archive-b"], ["archive-a", "archive-b", "archive-b"])
    assert archive.change_all("DELETE", path, {"batchID": "b"}) == Bulk(200, 0, 0)


def test_some_that_cannot_be_moved_are_counted(archive: Archive) -> None:
    put("monitor/export", 2)
    put("monitor/export", 3, exporter_id="Gone")

    assert archive.change_all("POST", "monitor/export/reschedule", {"status": "SCHEDULED"}) == Bulk(202, 2, 3)


@pytest.mark.parametrize("path", BOTH)
def test_what_is_refused(archive: Archive, path: str) -> None:
    [task_id] = put(path)

    def post(tail: str, **params: str) -> tuple[int, str]:
        return refused(lambda: archive.change_all("POST", f"{path}/{tail}", params))

    assert post("cancel") == (400, "Missing query parameter: status")
    assert post("cancel", status="COMPLETED") == (400, "Cannot cancel tasks with status: COMPLETED")
    assert post("reschedule", status="SCHEDULED", newDeviceName="nowhere") == (400, "Unknown Device: nowhere")
    no_archive = "No <class ArchiveDeviceExtension> configured for Device: pacs"
    assert post("reschedule", status="SCHEDULED", newDeviceName="pacs") == (400, no_archive)
    assert post(f"{task_id}/reschedule", newDeviceName="pacs") == (400, no_archive)
    assert post(f"{task_id}/reschedule", scheduledTime="tomorrow")[0] == 400
    assert refused(lambda: archive.list(path, {"status": "DONE"}))[0] == 400
    assert refused(lambda: archive.list(path, {"limit": "0"}))[0] == 400
    assert refused(lambda: archive.list(path, {"offset": "100000"}))[0] == 400
    assert refused(lambda: archive.list(path, {"orderby": "taskID"}))[0] == 400
    assert refused(lambda: archive.list(path, {"createdTime": "yesterday"}))[0] == 400
    assert refused(lambda: archive.list(path, {"taskID": "one"}))[0] == 404
    assert refused(lambda: archive.change_one("POST", f"{path}/one/cancel"))[0] == 404


def test_exporter_and_queue_of_a_reschedule(archive: Archive) -> None:
    [export], [retrieve] = put("monitor/export"), put("monitor/retrieve")

    archive.change_one("POST", f"monitor/export/{export}/reschedule/ToFolder")
    many = archive.change_all("POST", "monitor/export/reschedule/Noop", {"ExporterID": "ToFolder"})
    archive.change_one("POST", f"monitor/retrieve/{retrieve}/reschedule", {"newQueueName": "Export"})

    assert (many, archive.list("monitor/export")[0]["ExporterID"]) == (Bulk(200, 1, 0), "Noop")
    assert archive.list("monitor/retrieve")[0]["queue"] == "Export"
    assert refused(lambda: archive.change_one("POST", f"monitor/export/{export}/reschedule/Nothing")) == (
        400, "No Exporter configured with ID:Nothing",
    )  # fmt: skip
    assert refused(
        lambda: archive.change_one("POST", f"monitor/retrieve/{retrieve}/reschedule", {"newQueueName": "Nothing"})
    ) == (400, "No Queue configured with name:Nothing")


@pytest.mark.parametrize("path", RESOURCES)
def test_batches(archive: Archive, path: str) -> None:
    put(path, 2, batch_id="b1")
    put(path, 1, batch_id="b1", status="FAILED", device="archive-b")
    put(path, 1, batch_id="b2")
    put(path, 1)

    newest = archive.batches(path, {"orderby": "-createdTime", "limit": "10"})
    failed = archive.batches(path, {"status": "FAILED"})

    assert [one["batchID"] for one in newest] == ["b2", "b1"]
    assert [(one["tasks"], one["dicomDeviceName"]) for one in failed] == [
        ({"scheduled": "2", "failed": "1"}, ["archive-a", "archive-b"])
    ]
    assert archive.batches(path, {"batchID": "none"}) == []


def test_batches_of_retrieves_take_the_titles_in_lower_case_and_as_the_pages_send_them(archive: Archive) -> None:
    put("monitor/retrieve", batch_id="b")

    for name in ("localAET", "LocalAET"):
        assert len(archive.batches("monitor/retrieve", {name: "ARCFLEET"})) == 1
        assert archive.batches("monitor/retrieve", {name: "PACS"}) == []


def test_results_of_comparisons(archive: Archive) -> None:
    [empty] = put("monitor/diff", progress={"matches": 0}, batch_id="b")
    [found] = put("monitor/diff", batch_id="b")
    factories.sql(
        "INSERT INTO diff_result (task_id, run_id, study_uid, what, dataset) VALUES (:id, 1, '1.2', 'missing',"
        """ CAST('{"0020000D": {"vr": "UI", "Value": ["1.2"]}}' AS jsonb))""",
        id=found,
    )

    studies = [{"0020000D": {"vr": "UI", "Value": ["1.2"]}}]
    assert archive.get(f"monitor/diff/{found}/studies", {"offset": "0", "limit": "5"}) == studies
    assert archive.get(f"monitor/diff/{found}/studies", {"offset": "1"}) == []
    assert archive.raw("GET", f"monitor/diff/{empty}/studies").status_code == 204
    assert archive.get("monitor/diff/batch/b/studies", {"checkMissing": "true"}) == studies
    gone = archive.raw("GET", "monitor/diff/batch/none/studies")
    assert (gone.status_code, gone.content) == (404, b"")
    assert refused(lambda: archive.get("monitor/diff/4711/studies")) == (404, "No such Diff Task : 4711")


def test_format_that_there_is_not(archive: Archive) -> None:
    for path in RESOURCES:
        assert archive.raw("GET", path, accept="text/html").status_code == 406
        assert archive.raw("GET", path, {"accept": "application/xml"}).status_code == 406
        assert archive.raw("GET", path, accept="*/*").headers["content-type"] == "application/json"
    assert archive.raw("GET", "queue/Export", accept="text/csv").status_code == 406
    assert archive.list("queue/Unknown") == []


def test_what_the_pages_send_in_vain(archive: Archive) -> None:
    put("monitor/export")

    assert archive.count("monitor/export", {"offset": "0", "limit": "20", "orderby": "-updatedTime"}) == 1
    assert len(archive.list("monitor/export", {"createdTimeObject": "[object Object]", "dicomDeviceName": "*"})) == 1
    assert len(archive.list("queue/Export", {"status": "*", "limit": "21"})) == 1


def test_helper_services(archive: Archive) -> None:
    queues = archive.get("queue")
    of_exporters = archive.get("queue", {"includeExporters": "true"})
    devices = archive.get("devices", {"hasArcDevExt": "true"})

    assert [one["name"] for one in queues] == sorted(one["name"] for one in queues)
    assert {"Export", "Retrieve", "DiffTasks", "StgVerTasks"} <= {one["name"] for one in queues}
    assert [(one["name"], "Noop" in one["exporterIDs"]) for one in of_exporters] == [("Export", True)]
    assert [one["id"] for one in archive.get("export")] == ["Nearline", "Noop", "ToFolder", "ToPACS"]
    assert [one["dicomDeviceName"] for one in devices] == ["archive-a", "archive-b"]
    assert all(one["hasArcDevExt"] is True and one["dicomInstalled"] is True for one in devices)
    assert [one["dicomAETitle"] for one in archive.get("aes")] == ["ARCHIVE_A", "ARCHIVE_B", "PACS"]
    assert [one["dicomAETitle"] for one in archive.get("aets")] == ["ARCHIVE_A", "ARCHIVE_B"]
    apps = archive.get("webapps", {"dcmWebServiceClass": "DCM4CHEE_ARC"})
    assert [(one["dcmWebAppName"], one["dcmWebServicePath"]) for one in apps] == [
        ("archive-a", "/dcm4chee-arc"), ("archive-b", "/dcm4chee-arc"),
    ]  # fmt: skip
    assert list(archive.get("monitor/serverTime")) == ["serverTimeWithTimezone"]
    zone = archive.get("monitor/serverTimeZone")
    assert (zone["timeZone"], zone["offset"] in (3_600_000, 7_200_000)) == ("Europe/Vienna", True)
