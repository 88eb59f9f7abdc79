"""The contract of messages: what is taken, what is refused and in which words, and its published schema."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from tasks import job_messages, job_schema
from tasks.errors import InvalidError
from tasks.kinds.delete_study import DeleteStudyJob
from tasks.kinds.export import ExportJob
from tasks.registry import load_kinds

PUBLISHED = Path(__file__).parents[3] / "docs" / "jobs.schema.json"
PAGE = PUBLISHED.with_name("jobs.md").read_text()
LEAST = {"version": 1, "requester": "ris", "aet": "ARCHIVE_A", "exporterID": "Noop", "studyInstanceUID": "1.2.3"}

GOOD: dict[str, dict[str, Any]] = {
    "least": {},
    "object": {"seriesInstanceUID": "1.2.3.4", "sopInstanceUID": "1.2.3.4.5"},
    "time with offset": {"scheduledTime": "2026-08-20T14:05:00+02:00"},
    "time in UTC": {"scheduledTime": "2026-08-20T12:05:00Z"},
    "all": {
        "batchID": "Nächtlich", "priority": 0, "dicomDeviceName": "archive-a", "idempotencyKey": "k",
        "allowDuplicate": True,
    },
    "nothing said of an optional key": {"batchID": None},
}  # fmt: skip

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"studyUID": "1.2"}, "studyUID is unknown"),
    "version of another contract": ({"version": 2}, "version=2: Input should be 1"),
    "missing": ({"aet": ...}, "aet is missing"),
    "no UID": ({"studyInstanceUID": "1.2.x"}, "studyInstanceUID='1.2.x': String should match pattern"),
    "long UID": ({"studyInstanceUID": "1" * 65}, "at most 64 characters"),
    "UID with a line end": ({"studyInstanceUID": "1.2\n"}, r"studyInstanceUID='1.2\n'"),
    "number for a text": ({"batchID": 7}, "batchID=7: Input should be a valid string"),
    "text for a number": ({"priority": "7"}, "priority='7': Input should be a valid integer"),
    "priority too high": ({"priority": 10}, "priority=10: Input should be less than or equal to 9"),
    "NUL": ({"requester": "a\x00b"}, r"requester='a\x00b'"),
    "nobody": ({"requester": ""}, "requester=''"),
    "long AE title": ({"aet": "A" * 17}, "at most 16 characters"),
}

#: What a schema of JSON cannot say, or is not asked to.
BAD_BEYOND_SCHEMA: dict[str, tuple[dict[str, Any], str]] = {
    "object without series": ({"sopInstanceUID": "1.2"}, "sopInstanceUID without seriesInstanceUID: expected both"),
    "time without offset": ({"scheduledTime": "2026-08-20T14:05:00"}, "expected ISO 8601 with an offset"),
    "no time": ({"scheduledTime": "tomorrow"}, "scheduledTime='tomorrow': expected ISO 8601"),
    "time before all times": ({"scheduledTime": "0001-01-01T00:00:00+10:00"}, "expected ISO 8601"),
    "half a character": ({"batchID": "\ud800"}, r"batchID='\ud800'"),
}


def said(changes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**LEAST, **changes}.items() if value is not ...}


def schema() -> jsonschema_rs.Validator:
    published = json.loads(PUBLISHED.read_text())
    return jsonschema_rs.validator_for(published | {"oneOf": [{"$ref": "#/$defs/schedule.export"}]})


@pytest.mark.parametrize("changes", GOOD.values(), ids=GOOD)
def test_good_message_is_taken_by_model_and_schema(changes: dict[str, Any]) -> None:
    assert isinstance(job_messages.read("EXPORT", said(changes)), ExportJob)

    schema().validate(said(changes))


@pytest.mark.parametrize(("changes", "text"), (BAD | BAD_BEYOND_SCHEMA).values(), ids=BAD | BAD_BEYOND_SCHEMA)
def test_bad_message_is_refused_in_one_line_that_names_the_key(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidError) as refused:
        job_messages.read("EXPORT", said(changes))

    assert text in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("changes", "_text"), BAD.values(), ids=BAD)
def test_bad_message_is_refused_by_the_schema_too(changes: dict[str, Any], _text: str) -> None:
    assert not schema().is_valid(said(changes))


def test_times_are_kept_in_utc() -> None:
    job = job_messages.read("EXPORT", said({"scheduledTime": "2026-08-20T14:05:00+02:00"}))

    assert job.scheduled_time == datetime(2026, 8, 20, 12, 5, tzinfo=UTC)


def test_datetime_of_a_celery_program_is_a_time() -> None:
    at = datetime(2026, 8, 20, 12, 5, tzinfo=UTC)

    assert job_messages.read("EXPORT", said({"scheduledTime": at})).scheduled_time == at


def test_kind_without_a_contract_cannot_be_asked_for() -> None:
    with pytest.raises(InvalidError, match="tasks of kind GUESS cannot be asked for by a message"):
        job_messages.read("GUESS", LEAST)


DELETION = {
    "version": 1, "requester": "ris", "dicomDeviceName": "archive-a", "fileSystemGroupID": "ONLINE_STORAGE",
    "studyInstanceUID": "1.2.3",
}  # fmt: skip


def test_deletion_is_another_message_by_model_and_schema() -> None:
    published = json.loads(PUBLISHED.read_text())
    validator = jsonschema_rs.validator_for(published)

    assert isinstance(job_messages.read("DELETE_STUDY", DELETION), DeleteStudyJob)
    assert validator.is_valid(DELETION)
    assert validator.is_valid(LEAST)
    for wrong in (DELETION | {"exporterID": "Noop"}, DELETION | {"fileSystemGroupID": None}):
        assert not validator.is_valid(wrong)
        with pytest.raises(InvalidError):
            job_messages.read("DELETE_STUDY", wrong)


#: Of each kind: a message with all keys, and what makes one wrong, with the reason.
OTHERS: dict[str, tuple[str, dict[str, Any], list[tuple[dict[str, Any], str]]]] = {
    "retrieve": (
        "RETRIEVE",
        {
            "version": 1, "requester": "ris", "aet": "ARCHIVE_A", "remoteAET": "PACS", "destinationAET": "ARCHIVE_A",
            "studyInstanceUID": "1.2.3", "seriesInstanceUID": "1.2.3.4", "sopInstanceUID": "1.2.3.4.5",
            "dcmQueueName": "Retrieve", "batchID": "b", "scheduledTime": "2026-08-20T14:05:00+02:00", "priority": 9,
            "dicomDeviceName": "archive-a", "idempotencyKey": "k", "allowDuplicate": True,
        },
        [({"remoteAET": ...}, "remoteAET is missing"), ({"destinationAET": "A" * 17}, "at most 16 characters")],
    ),
    "diff": (
        "DIFF",
        {
            "version": 1, "requester": "ris", "aet": "ARCHIVE_A", "primaryAET": "PACS", "secondaryAET": "ARCHIVE_A",
            "query": {"StudyDate": "20260801-20260807", "00100020": "4711"}, "comparefield": ["PatientName"],
            "different": False, "missing": True, "batchID": "b",
        },
        [
            ({"secondaryAET": ...}, "secondaryAET is missing"),
            ({"query": {"StudyDate": 20260801}}, "query.StudyDate=20260801: Input should be a valid string"),
            ({"missing": "true"}, "missing='true': Input should be a valid boolean"),
            ({"studyInstanceUID": "1.2.3"}, "studyInstanceUID is unknown"),
        ],
    ),
    "stgver": (
        "STGVER",
        {
            "version": 1, "requester": "ris", "aet": "ARCHIVE_A", "studyInstanceUID": "1.2.3",
            "policy": "OBJECT_SIZE", "updateLocationStatus": True, "storageIDs": ["ONLINE_STORAGE"],
        },
        [
            ({"policy": "GUESS"}, "policy='GUESS': Input should be 'DB_RECORD_EXISTS', 'OBJECT_EXISTS'"),
            ({"storageIDs": "ONLINE_STORAGE"}, "storageIDs='ONLINE_STORAGE': Input should be a valid list"),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_messages_of_other_kinds_by_model_and_schema(name: str) -> None:
    published = json.loads(PUBLISHED.read_text())
    validator = jsonschema_rs.validator_for(published | {"oneOf": [{"$ref": f"#/$defs/schedule.{name}"}]})
    kind, good, bad = OTHERS[name]

    job_messages.read(kind, good)
    validator.validate(good)
    for changes, text in bad:
        wrong = {key: value for key, value in (good | changes).items() if value is not ...}
        assert not validator.is_valid(wrong)
        with pytest.raises(InvalidError) as refused:
            job_messages.read(kind, wrong)
        assert text in str(refused.value)


@pytest.mark.parametrize("name", [*OTHERS, "export", "deletion"])
def test_example_of_the_page_is_taken(name: str) -> None:
    section = PAGE.partition(f"\n## schedule.{name}\n")[2].partition("\n## ")[0]
    found = re.search(r"```json\n(.*?)```", section, re.DOTALL)
    assert found
    kind = next(one.name for one in load_kinds().values() if one.slug == name)

    job_messages.read(kind, json.loads(found[1]))

    keys = {key for key in job_schema.document()["$defs"][f"schedule.{name}"]["properties"] if f"`{key}`" not in PAGE}
    assert keys == set()


@pytest.mark.parametrize("kind", load_kinds())
def test_every_kind_can_be_asked_for(kind: str) -> None:
    assert kind in job_messages.known()


def test_published_schema_is_that_of_the_models() -> None:
    """If it is not: `arcfleet intake schema > docs/jobs.schema.json`."""
    assert json.loads(PUBLISHED.read_text()) == json.loads(json.dumps(job_schema.document()))


def test_every_key_is_described() -> None:
    found = {
        f"{name}.{key}": definition.get("description")
        for name, message in job_schema.document()["$defs"].items()
        for key, definition in message["properties"].items()
    }

    assert [key for key, text in found.items() if not text] == []
