"""Another service asks for a RETRIEVE, DIFF or STGVER task by a message, under the rules of the REST services."""

from __future__ import annotations

from typing import Any

import pytest

from archive.dicom.peer import Peer
from tasks import intake
from tasks.intake import Answer, Message
from tests import factories
from tests.integration.tasks.kinds import asking

SAID: dict[str, dict[str, Any]] = {
    "RETRIEVE": {"remoteAET": "PACS", "destinationAET": "ARCHIVE_A", "studyInstanceUID": "1.2.3"},
    "DIFF": {"primaryAET": "PACS", "secondaryAET": "OTHER"},
    "STGVER": {"studyInstanceUID": "1.2.3"},
}


@pytest.fixture(autouse=True)
def _configured(cluster: object) -> None:
    factories.sql("DELETE FROM audit")
    asking.use(Peer("PACS", "127.0.0.1", 1), Peer("OTHER", "127.0.0.1", 1))


def ask(kind: str, message_id: str = "m-1", **changes: Any) -> Answer:
    said = {"version": 1, "requester": "ris", "aet": "ARCHIVE_A", **SAID[kind], **changes}
    return intake.accept(Message(message_id, f"schedule.{kind.lower()}", kind, said, "ris-1"))


def test_retrieve_is_made_as_it_is_asked_for() -> None:
    answer = ask("RETRIEVE", seriesInstanceUID="1.2.3.4", batchID="b", priority=7)

    [task] = factories.views()
    assert (answer.task_ids, answer.refused) == ((task.id,), None)
    assert (task.kind, task.device, task.queue) == ("RETRIEVE", "archive-a", "Retrieve")
    assert (task.local_aet, task.remote_aet, task.destination_aet) == ("ARCHIVE_A", "PACS", "ARCHIVE_A")
    assert (task.study_uid, task.series_uid, task.sop_uid) == ("1.2.3", "1.2.3.4", None)
    assert (task.destination, task.batch_id, task.priority) == ("dicom:PACS", "b", 7)
    assert factories.sql("SELECT action FROM audit") == ["RetrieveTask"]


def test_retrieve_goes_to_the_queue_that_is_named() -> None:
    ask("RETRIEVE", dcmQueueName="Export")

    assert [task.queue for task in factories.views()] == ["Export"]


def test_comparison_is_made_as_it_is_asked_for() -> None:
    ask("DIFF", query={"StudyDate": "20260801-20260807", "00100020": "A&B"}, comparefield=["PatientName"], missing=True)

    [task] = factories.views()
    assert (task.kind, task.queue, task.study_uid) == ("DIFF", "DiffTasks", None)
    assert (task.local_aet, task.remote_aet, task.destination_aet) == ("ARCHIVE_A", "PACS", "OTHER")
    assert dict(task.params) == {
        "queryString": "StudyDate=20260801-20260807&PatientID=A%26B", "checkMissing": True, "checkDifferent": True,
        "comparefield": "PatientName",
    }  # fmt: skip
    assert factories.sql("SELECT action FROM audit") == ["DiffTask"]


def test_verification_is_made_as_it_is_asked_for() -> None:
    ask("STGVER", policy="OBJECT_SIZE", updateLocationStatus=True, storageIDs=["B", "A"])

    [task] = factories.views()
    assert (task.kind, task.queue, task.study_uid, task.local_aet) == ("STGVER", "StgVerTasks", "1.2.3", "ARCHIVE_A")
    assert dict(task.params) == {"policy": "OBJECT_SIZE", "updateLocationStatus": True, "storageIDs": ["A", "B"]}
    assert factories.sql("SELECT action FROM audit") == ["VerifyTask"]


@pytest.mark.parametrize("kind", SAID)
def test_second_delivery_makes_no_second_task(kind: str) -> None:
    first = ask(kind)

    second = ask(kind)

    assert (second.task_ids, second.repeated) == (first.task_ids, True)
    assert len(factories.views()) == 1


@pytest.mark.parametrize(("kind", "number"), [("RETRIEVE", 1), ("STGVER", 1), ("DIFF", 2)])
def test_equal_task_is_the_answer_where_it_is_that_of_rest(kind: str, number: int) -> None:
    ask(kind, "m-1")

    ask(kind, "m-2")

    assert len(factories.views()) == number


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("RETRIEVE", {"remoteAET": "NOBODY"}, "No such Application Entity: RemoteAET NOBODY, expected"),
        ("RETRIEVE", {"dcmQueueName": "Nothing"}, "No Queue configured with name:Nothing, expected one of"),
        ("RETRIEVE", {"aet": "PACS"}, "No such Application Entity: PACS, expected one of"),
        ("DIFF", {"secondaryAET": "NOBODY"}, "No such Application Entity: SecondaryAET NOBODY, expected"),
        ("DIFF", {"query": {"limit": "3"}}, "query: limit: expected the keyword or the tag of an attribute"),
        ("DIFF", {"query": {"PatientID": "x" * 300}}, "the query has 310 characters: expected at most 255"),
        ("DIFF", {"comparefield": ["Colour"]}, "Colour: expected the keyword or the tag of an attribute"),
        ("STGVER", {"dicomDeviceName": "elsewhere"}, "Unknown Device: elsewhere, expected one of"),
    ],
)
def test_refusal_names_what_is_wrong(kind: str, changes: dict[str, Any], reason: str) -> None:
    answer = ask(kind, **changes)

    assert str(answer.refused).startswith(reason)
    assert factories.views() == []
