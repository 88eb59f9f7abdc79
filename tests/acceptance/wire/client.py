"""A client of the original's monitor services, written from their description alone: it imports nothing of ours.

Every answer is held against the tables: which fields in which order, text or number, what is left out.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

Params = Sequence[tuple[str, str]] | Mapping[str, str]

STATUSES = (
    "SCHEDULED", "IN PROCESS", "COMPLETED", "WARNING", "FAILED", "CANCELED", "SCHEDULED FOR RETRY",
)  # fmt: skip

#: s: text, n: number, b: boolean, a: array of texts, t: time, d: digits as text.
COMMON = {
    "taskID": "d", "dicomDeviceName": "s", "queue": "s", "type": "s", "status": "s", "batchID": "s", "failures": "d",
    "createdTime": "t", "updatedTime": "t", "scheduledTime": "t", "processingStartTime": "t", "processingEndTime": "t",
    "errorMessage": "s", "outcomeMessage": "s", "RequesterUserID": "s", "RequesterHostName": "s", "RequestURI": "s",
}  # fmt: skip
ALWAYS = ("taskID", "dicomDeviceName", "queue", "type", "status", "createdTime", "updatedTime", "scheduledTime")

_ENTITY = {"StudyInstanceUID": "s", "SeriesInstanceUID": "s", "SOPInstanceUID": "s"}
FIELDS: Mapping[str, Mapping[str, str]] = {
    "EXPORT": {"LocalAET": "s", "ExporterID": "s", **_ENTITY, "NumberOfInstances": "d", "Modality": "a"},
    "RETRIEVE": {
        "LocalAET": "s", "RemoteAET": "s", "DestinationAET": "s", "FindSCP": "s", **_ENTITY, "remaining": "d",
        "completed": "d", "failed": "d", "warning": "d", "statusCode": "h", "errorComment": "s",
    },
    "STGVER": {
        "LocalAET": "s", "StgCmtPolicy": "s", "UpdateLocationStatus": "b", "StorageID": "a", **_ENTITY,
        "completed": "d", "failed": "d",
    },
    "DIFF": {
        "LocalAET": "s", "PrimaryAET": "s", "SecondaryAET": "s", "QueryString": "s", "checkMissing": "b",
        "checkDifferent": "b", "comparefield": "s", "matches": "n", "missing": "n", "different": "n",
    },
}  # fmt: skip

COLUMNS = {
    "export": "taskID createdTime updatedTime ExporterID LocalAET StudyInstanceUID SeriesInstanceUID SOPInstanceUID "
    "NumberOfInstances Modality batchID dicomDeviceName scheduledTime status queue failures processingStartTime "
    "processingEndTime errorMessage outcomeMessage",
    "retrieve": "taskID createdTime updatedTime LocalAET RemoteAET DestinationAET StudyInstanceUID SeriesInstanceUID "
    "SOPInstanceUID remaining completed failed warning statusCode errorComment batchID dicomDeviceName queue "
    "scheduledTime status failures processingStartTime processingEndTime errorMessage outcomeMessage",
    "stgver": "taskID createdTime updatedTime LocalAET StgCmtPolicy UpdateLocationStatus StorageID StudyInstanceUID "
    "SeriesInstanceUID SOPInstanceUID completed failed queue dicomDeviceName status scheduledTime failures batchID "
    "processingStartTime processingEndTime errorMessage outcomeMessage",
    "diff": "taskID LocalAET PrimaryAET SecondaryAET QueryString checkMissing checkDifferent matches missing different "
    "comparefield createdTime updatedTime queue dicomDeviceName status scheduledTime failures batchID "
    "processingStartTime processingEndTime errorMessage outcomeMessage",
}

#: Between dicomDeviceName and the ranges of a batch.
OF_BATCH = {
    "export": ("ExporterID",),
    "retrieve": ("dcmQueueName", "LocalAET", "RemoteAET", "DestinationAET"),
    "stgver": ("LocalAET",),
    "diff": ("LocalAET", "PrimaryAET", "SecondaryAET", "comparefield", "checkMissing", "checkDifferent", "matches",
             "missing", "different"),
}  # fmt: skip
RANGES = tuple(
    f"{name}Range"
    for name in ("createdTime", "updatedTime", "scheduledTime", "processingStartTime", "processingEndTime")
)
COUNTERS = ("scheduled", "scheduled-for-retry", "in-process", "warning", "failed", "canceled", "completed")

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4}")
_SQL_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}")
_HOLDS = {
    "s": lambda value: isinstance(value, str),
    "d": lambda value: isinstance(value, str) and re.fullmatch(r"-?\d+", value) is not None,
    "h": lambda value: isinstance(value, str) and re.fullmatch(r"[0-9A-F]{4}", value) is not None,
    "t": lambda value: isinstance(value, str) and _TIME.fullmatch(value) is not None,
    "n": lambda value: isinstance(value, int) and not isinstance(value, bool) and value != 0,
    "b": lambda value: isinstance(value, bool),
    "a": lambda value: isinstance(value, list) and value != [] and all(isinstance(one, str) for one in value),
}


@dataclass(frozen=True)
class Bulk:
    """What a bulk call was answered."""

    status: int
    count: int
    failed: int


class Refused(Exception):
    """An error of the services."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status} {text}")
        self.status = status
        self.text = text


class Archive:
    """The services below one base URL."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=f"{url}/dcm4chee-arc", timeout=120, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def list(self, path: str, params: Params = ()) -> list[dict[str, Any]]:
        """GET the tasks below `monitor/export`, `queue/Export` ... and check each of them."""
        answer = self._ask("GET", f"/{path}", params, accept="application/json")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("application/json")
        found = json.loads(answer.content)
        assert isinstance(found, list)
        for one in found:
            check_task(one)
        return found

    def csv(self, path: str, params: Params = (), delimiter: str = ",") -> list[dict[str, str]]:
        """GET the tasks as CSV, with the delimiter that the accept parameter asks for."""
        wanted = "text/csv" if delimiter == "," else "text/csv;delimiter=semicolon"
        answer = self._ask("GET", f"/{path}", [*_pairs(params), ("accept", wanted)])
        assert answer.status_code == 200
        assert answer.headers["content-type"].replace(" ", "").lower() == "text/csv;charset=utf-8"
        return check_csv(answer.content.decode("utf-8"), COLUMNS[path.rpartition("/")[2]].split(), delimiter)

    def count(self, path: str, params: Params = ()) -> int:
        """GET .../count."""
        answer = self._ask("GET", f"/{path}/count", params)
        found = json.loads(answer.content)
        assert (answer.status_code, list(found)) == (200, ["count"])
        return int(found["count"])

    def batches(self, path: str, params: Params = ()) -> list[dict[str, Any]]:
        """GET .../batch and check each of them."""
        answer = self._ask("GET", f"/{path}/batch", params)
        assert answer.status_code == 200
        found = json.loads(answer.content)
        for one in found:
            check_batch(one, OF_BATCH[path.rpartition("/")[2]])
        return list(found)

    def change_one(self, method: str, path: str, params: Params = ()) -> None:
        """POST .../{taskID}/cancel, .../{taskID}/reschedule, or DELETE .../{taskID}."""
        answer = self._ask(method, f"/{path}", params)
        assert (answer.status_code, answer.content) == (204, b"")

    def change_all(self, method: str, path: str, params: Params = ()) -> Bulk:
        """POST .../cancel, .../reschedule, or DELETE ..."""
        answer = self._http.request(method, f"/{path}", params=_pairs(params), json={} if method == "POST" else None)
        if answer.status_code == 409 and answer.headers["content-type"].startswith("application/json"):
            found = json.loads(answer.content)
            assert found["failed"] > 0
            assert "count" not in found
            return Bulk(409, 0, found["failed"])
        _raise_for(answer)
        found = json.loads(answer.content)
        if answer.status_code == 202:
            assert found["count"] > 0
            assert found["failed"] > 0
        else:
            assert (answer.status_code, "failed" in found) == (200, False)
        return Bulk(answer.status_code, found["count"], found.get("failed", 0))

    def make_one(self, path: str, params: Params = ()) -> dict[str, Any]:
        """POST what makes one task, and check that."""
        answer = self._ask("POST", f"/{path}", params)
        assert answer.status_code == 202
        assert answer.headers["content-type"].startswith("application/json")
        found: dict[str, Any] = json.loads(answer.content)
        check_task(found)
        return found

    def make_many(self, path: str, params: Params = ()) -> int:
        """POST what makes a task for each match; returns the count."""
        return _count_made(self._ask("POST", f"/{path}", params))

    def make_of_csv(self, path: str, text: str, params: Params = (), delimiter: str = ",") -> int:
        """POST a CSV; returns the count, 0 where the answer is that no line can be used."""
        media_type = "text/csv" if delimiter == "," else "text/csv;delimiter=semicolon"
        answer = self._http.post(
            f"/{path}", params=_pairs(params), content=text.encode(), headers={"content-type": media_type}
        )
        _raise_for(answer)
        if answer.status_code == 204:
            assert answer.content == b""
            assert answer.headers["warning"]
            return 0
        return _count_made(answer)

    def transfer(self, path: str, params: Params = ()) -> tuple[int, dict[str, Any]]:
        """POST what sends or fetches while the client waits: 200, 206 or 502, with numbers of objects."""
        answer = self._http.post(f"/{path}", params=_pairs(params), json={})
        if answer.status_code not in (200, 206, 502) or not _is_json(answer):
            _raise_for(answer)
        found = json.loads(answer.content)
        numbers = [found[name] for name in ("completed", "warning", "failed")]
        assert all(_HOLDS["n"](number) or number == 0 for number in numbers)
        assert all(isinstance(found[name], str) for name in ("status", "error") if name in found)
        return answer.status_code, found

    def verify(self, path: str, params: Params = ()) -> tuple[int, dict[str, Any]]:
        """POST what verifies while the client waits: 200, 202 or 409, with numbers of objects."""
        answer = self._http.post(f"/{path}", params=_pairs(params), json={})
        if answer.status_code not in (200, 202, 409) or not _is_json(answer):
            _raise_for(answer)
        return answer.status_code, json.loads(answer.content)

    def queue_comparison(self, path: str, params: Params = ()) -> None:
        """GET .../diff/{secondary}/studies?queue=true."""
        answer = self._ask("GET", f"/{path}", [*_pairs(params), ("queue", "true")])
        assert (answer.status_code, answer.content) == (202, b"")

    def compare(self, path: str, params: Params = ()) -> list[dict[str, Any]]:
        """GET .../diff/{secondary}/studies: the differences themselves, as DICOM JSON."""
        answer = self._ask("GET", f"/{path}", params)
        if answer.status_code == 204:
            assert answer.content == b""
            return []
        assert answer.status_code == 200
        found = json.loads(answer.content)
        for study in found:
            check_difference(study)
        return list(found)

    def get(self, path: str, params: Params = ()) -> Any:
        """GET JSON of a helper service."""
        answer = self._ask("GET", f"/{path}", params)
        assert answer.status_code == 200
        return json.loads(answer.content)

    def raw(self, method: str, path: str, params: Params = (), **headers: str) -> httpx.Response:
        """Return an answer as it is."""
        return self._http.request(method, f"/{path}", params=_pairs(params), headers=headers)

    def _ask(self, method: str, path: str, params: Params, **headers: str) -> httpx.Response:
        body = {} if method == "POST" else None
        answer = self._http.request(method, path, params=_pairs(params), headers=headers, json=body)
        _raise_for(answer)
        return answer


def _pairs(params: Params) -> list[tuple[str, str]]:
    return list(params.items()) if isinstance(params, Mapping) else list(params)


def _is_json(answer: httpx.Response) -> bool:
    return answer.headers.get("content-type", "").startswith("application/json")


def _count_made(answer: httpx.Response) -> int:
    _raise_for(answer)
    found = json.loads(answer.content)
    assert (answer.status_code, list(found)) == (202, ["count"])
    return int(found["count"])


def _raise_for(answer: httpx.Response) -> None:
    if answer.status_code < 400:
        return
    assert answer.headers["content-type"].startswith("text/plain"), answer.headers
    body = json.loads(answer.content)  # the pages of the original parse it
    assert list(body) == ["errorMessage"]
    raise Refused(answer.status_code, body["errorMessage"])


def check_task(task: Mapping[str, Any]) -> None:
    """Hold a task against the tables: order, kinds of values, nothing null, nothing unknown but taskPriority."""
    known = {**COMMON, **FIELDS.get(task["type"], {}), "taskPriority": "d"}
    order = list(known)
    assert [name for name in task if name not in known] == []
    assert list(task) == sorted(task, key=order.index), list(task)
    assert [name for name in ALWAYS if name not in task] == []
    for name, value in task.items():
        assert _HOLDS[known[name]](value), (name, value)
    assert task["status"] in STATUSES
    assert task.get("failures") != "0"
    if task["type"] == "RETRIEVE":
        assert "statusCode" in task
        assert "0" not in [task.get(name) for name in ("remaining", "completed", "failed", "warning")]
    if task["type"] == "DIFF":
        assert False not in [task.get(name) for name in ("checkMissing", "checkDifferent")]


def check_difference(study: Mapping[str, Any]) -> None:
    """Hold a study that is missing or different against DICOM JSON, with what the secondary has inside."""
    assert all(re.fullmatch(r"[0-9A-F]{8}", tag) and len(element["vr"]) == 2 for tag, element in study.items())
    assert study["0020000D"]["Value"]
    [original] = study["04000561"]["Value"]
    assert original["04000565"]["Value"] == ["DIFFS"]
    assert {"04000550", "04000562", "04000563", "04000564"} <= set(original)


def check_batch(batch: Mapping[str, Any], lists: Sequence[str]) -> None:
    """Hold a batch against the tables."""
    order = ["batchID", "tasks", "dicomDeviceName", *lists, *RANGES]
    assert list(batch) == [name for name in order if name in batch]
    assert list(batch["tasks"]) == [name for name in COUNTERS if name in batch["tasks"]]
    assert all(_HOLDS["d"](value) and value != "0" for value in batch["tasks"].values())
    assert all(
        _HOLDS["a"](batch[name]) for name in lists if name in batch and name not in ("matches", "missing", "different")
    )
    for name in RANGES:
        if name in batch:
            low, high = batch[name]
            assert _HOLDS["t"](low)
            assert _HOLDS["t"](high)
            assert low <= high


def check_csv(text: str, columns: Sequence[str], delimiter: str) -> list[dict[str, str]]:
    """Hold CSV against RFC 4180 and the table of columns."""
    assert text.endswith("\r\n")
    for line in text.split("\r\n")[:-1]:
        assert "\n" not in line
        cell = r'(?:"(?:[^"]|"")*")?'
        assert re.fullmatch(f"{cell}(?:{re.escape(delimiter)}{cell})*", line), line
    header, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    assert header == list(columns)
    found = [dict(zip(columns, row, strict=True)) for row in rows]
    for row in found:
        assert _SQL_TIME.fullmatch(row["scheduledTime"])
        assert _TIME.fullmatch(row["createdTime"])
        assert row["failures"] != "0"
    return found
