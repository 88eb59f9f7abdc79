"""What the OpenAPI document says of answers; tests hold every answer against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Response

from api.rest.parameters import Parameter
from tasks.record import HIGHEST_PRIORITY
from tasks.state import Event, Status

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
TRUTH: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
#: A number as text, as the original has most of them.
DIGITS: Schema = {"type": "string", "pattern": r"^-?\d+$"}
TIME: Schema = {
    "type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4}$",
    "example": "2026-08-20T14:05:09.123+0200",
}  # fmt: skip
STATUS: Schema = {"type": "string", "enum": [status.value for status in Status]}
COUNTS: Schema = {"type": "object", "additionalProperties": COUNT}
ANYTHING: Schema = {"type": "object"}

#: A value of JSON that CSV or plain text has no schema for.
_TEXTUAL: Schema = {"schema": TEXT}


def array(items: Schema) -> Schema:
    """Return the schema of an array."""
    return {"type": "array", "items": items}


def nullable(schema: Schema) -> Schema:
    """Return the schema of a value that may be null."""
    return {"anyOf": [schema, {"type": "null"}]}


def thing(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of an object that has nothing else."""
    properties = {**required, **(optional or {})}
    return {
        "type": "object", "required": list(required), "properties": properties, "additionalProperties": False,
    }  # fmt: skip


_REFUSALS = array(thing({"reason": TEXT, "count": COUNT}))

BULK_DONE = thing({"count": COUNT})
PREVIEW = thing(
    {"dryrun": TRUTH, "count": COUNT, "failed": COUNT, "byDevice": COUNTS, "byStatus": COUNTS, "refusals": _REFUSALS}
)
#: A foreign device whose answer is relayed may give no reasons.
SOME_REFUSED = thing({"count": COUNT, "failed": COUNT}, {"refusals": _REFUSALS})
ALL_REFUSED = thing({"failed": COUNT}, {"refusals": _REFUSALS})

MADE = thing({"count": COUNT})
WOULD_BE_MADE = thing({"dryrun": TRUTH, "count": COUNT, "existing": COUNT, "byDevice": COUNTS})
#: What became of a task whose end was waited for; kinds add counters.
SENT = thing(
    {"taskID": DIGITS, **dict.fromkeys(("completed", "warning", "failed"), COUNT)}, {"status": TEXT, "error": TEXT}
)  # fmt: skip
VERIFIED = thing({"taskID": DIGITS, **dict.fromkeys(("completed", "failed"), COUNT)}, {"errorMessage": TEXT})
COMPARED = thing({"taskID": DIGITS, **dict.fromkeys(("count", "missing", "different"), COUNT)})
NOT_COMPARED = thing({"taskID": DIGITS, "errorMessage": TEXT})

OPERATION = thing(
    {
        "operationID": {"type": "string", "format": "uuid"},
        "state": {"type": "string", "enum": ["waiting", "running", "stopping", "done", "canceled", "failed"]},
        "action": TEXT, "request": TEXT, "requester": TEXT, "requestedTime": TIME, "startedTime": nullable(TIME),
        "updatedTime": TIME, "endedTime": nullable(TIME), "total": nullable(COUNT), "count": COUNT, "failed": COUNT,
        "byDevice": COUNTS, "byStatus": COUNTS, "refusals": _REFUSALS, "stopAskedBy": nullable(TEXT),
        "errorMessage": nullable(TEXT),
    }
)  # fmt: skip

_COMMON: Mapping[str, Schema] = {
    "taskID": DIGITS, "dicomDeviceName": TEXT, "queue": TEXT, "type": TEXT, "status": STATUS, "createdTime": TIME,
    "updatedTime": TIME, "scheduledTime": TIME,
}  # fmt: skip
_COMMON_OPTIONAL: Mapping[str, Schema] = {
    "batchID": TEXT, "failures": DIGITS, "processingStartTime": TIME, "processingEndTime": TIME, "errorMessage": TEXT,
    "outcomeMessage": TEXT, "RequesterUserID": TEXT, "RequesterHostName": TEXT, "RequestURI": TEXT,
    "taskPriority": {"type": "string", "pattern": f"^[0-{HIGHEST_PRIORITY}]$"},
}  # fmt: skip

#: A task with numbers as numbers; what is not known is null.
TYPED_TASK = thing(
    {
        "taskID": NUMBER, "dicomDeviceName": TEXT, "queue": TEXT, "type": TEXT, "status": STATUS,
        **dict.fromkeys(("taskPriority", "failures", "lostLeases"), COUNT),
        **dict.fromkeys(("createdTime", "updatedTime", "scheduledTime"), TIME),
        **dict.fromkeys(("processingStartTime", "processingEndTime"), nullable(TIME)),
        **dict.fromkeys(
            ("batchID", "errorMessage", "outcomeMessage", "RequesterUserID", "RequesterHostName", "RequestURI",
             "LocalAET", "RemoteAET", "DestinationAET", "ExporterID", "destination", "StudyInstanceUID",
             "SeriesInstanceUID", "SOPInstanceUID"), nullable(TEXT),
        ),
        "parameters": ANYTHING, "progress": ANYTHING,
    }
)  # fmt: skip

TRANSITION = thing(
    {
        "seq": NUMBER, "at": TIME, "event": {"type": "string", "enum": [event.value for event in Event]},
        **dict.fromkeys(("from", "to", "fromDevice", "toDevice"), nullable(TEXT)), "runID": nullable(NUMBER),
        "actor": TEXT, "reason": nullable(TEXT), "operationID": nullable(TEXT),
    }
)  # fmt: skip

EVENT = thing({"taskID": NUMBER, **TRANSITION["properties"]})

FAILURE = thing(
    {"message": nullable(TEXT), "destination": nullable(TEXT), "status": STATUS, "count": COUNT, "newestTaskID": NUMBER,
     "newestTime": TIME}
)  # fmt: skip

_RANGES = ("createdTime", "updatedTime", "scheduledTime", "processingStartTime", "processingEndTime")


def task(own: Mapping[str, Schema] | None) -> Schema:
    """Return the schema of a task on the wire; `own` are the fields of its kind, None: of any kind."""
    made = thing(_COMMON, {**_COMMON_OPTIONAL, **(own or {})})
    return made if own is not None else {**made, "additionalProperties": True}


def batch(lists: Sequence[str], sums: Sequence[str]) -> Schema:
    """Return the schema of a batch."""
    counters = {status.value.lower().replace(" ", "-"): DIGITS for status in Status}
    return thing(
        {"batchID": TEXT, "tasks": thing({}, counters), "dicomDeviceName": array(TEXT)},
        {
            **dict.fromkeys(lists, array(TEXT)),
            **dict.fromkeys(sums, COUNT),
            **{f"{name}Range": array(TIME) for name in _RANGES},
        },
    )


def of(
    *known: Parameter,
    answer: Schema | None = None,
    status: int = 200,
    also: Sequence[str] = (),
    more: Mapping[int | str, tuple[str, Schema | None]] | None = None,
    extra: Sequence[Mapping[str, Any]] = (),
    body: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what a route says of itself.

    Args:
        known: its query parameters.
        answer: schema of its JSON; None: it has no body.
        status: of success.
        also: other media types of the answer, which are texts.
        more: further statuses with description and schema of their JSON; None: an error as all are.
        extra: entries of parameters that are not in the query.
        body: entry of the body of the request.
    """
    content: dict[str, Any] = {} if answer is None else {"application/json": {"schema": answer}}
    content |= dict.fromkeys(also, _TEXTUAL)
    responses: dict[int | str, Any] = {
        code: {"description": description, "content": {"application/json": {"schema": schema}} if schema else {}}
        for code, (description, schema) in (more or {}).items()
    }
    if content:
        responses[status] = {"description": "Done.", "content": content}
    return {
        "status_code": status,
        "response_class": Response,
        "responses": responses,
        "openapi_extra": {
            "parameters": [*(one.documented() for one in known), *extra],
            **({} if body is None else {"requestBody": body}),
        },
    }
