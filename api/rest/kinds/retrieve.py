"""RETRIEVE on the wire: C-MOVE from a remote AE to a destination."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import tzinfo
from typing import Any

from api.rest import documents, shape
from api.rest.kinds.values import STUDY, cells_of, counted, numbers, title_filter, told
from api.rest.parameters import Parameter
from api.rest.shape import BatchShape, Filter, Shape
from tasks.record import TaskView

#: In the JSON in this order; in CSV too.
_COUNTERS = ("remaining", "completed", "failed", "warning")

#: Of a task that runs and has heard nothing yet.
_UNKNOWN = -1

_QUEUE = Filter(Parameter("dcmQueueName", "Queue.", repeatable=True), "queues", is_list=True)


def _status_code(task: TaskView) -> int:
    # 0000 before the first run, FFFF while nothing is known yet, as the original's counters begin.
    code = task.progress.get("statusCode")
    if isinstance(code, int):
        return code
    return 0 if task.started_time is None else _UNKNOWN


def _status_text(task: TaskView) -> str:
    return f"{_status_code(task) & 0xFFFF:04X}"


def _status_cell(task: TaskView, _: tzinfo) -> str | None:
    return None if _status_code(task) == _UNKNOWN else _status_text(task)


def _remaining(task: TaskView) -> int:
    if "remaining" not in task.progress and task.started_time is not None:
        return _UNKNOWN
    return counted(task, "remaining")


def _comment(task: TaskView) -> str | None:
    comment = task.progress.get("errorComment")
    return None if comment is None else str(comment)


def _fields(task: TaskView) -> Mapping[str, Any]:
    remaining = _remaining(task)
    return {
        "LocalAET": task.local_aet,
        "RemoteAET": task.remote_aet,
        "DestinationAET": task.destination_aet,
        "FindSCP": told(task, "findSCP"),
        "StudyInstanceUID": task.study_uid,
        "SeriesInstanceUID": task.series_uid,
        "SOPInstanceUID": task.sop_uid,
        **numbers(task, _COUNTERS),
        "remaining": str(remaining) if remaining else None,
        "statusCode": _status_text(task),
        "errorComment": _comment(task),
    }


SHAPE = shape.register(
    Shape(
        kind="RETRIEVE",
        slug="retrieve",
        filters=(
            title_filter("LocalAET", "local_aet", "AE that asks."),
            title_filter("RemoteAET", "remote_aet", "AE that has the study."),
            title_filter("DestinationAET", "destination_aet", "AE that gets it."),
            STUDY,
            _QUEUE,
        ),
        fields=_fields,
        properties={
            **dict.fromkeys(
                ("LocalAET", "RemoteAET", "DestinationAET", "FindSCP", "StudyInstanceUID", "SeriesInstanceUID",
                 "SOPInstanceUID", "errorComment"), documents.TEXT,
            ),
            **dict.fromkeys(_COUNTERS, documents.DIGITS),
            "statusCode": {"type": "string", "pattern": "^[0-9A-F]{4}$"},
        },
        columns=(
            "taskID", "createdTime", "updatedTime", "LocalAET", "RemoteAET", "DestinationAET", "StudyInstanceUID",
            "SeriesInstanceUID", "SOPInstanceUID", *_COUNTERS, "statusCode", "errorComment", "batchID",
            "dicomDeviceName", "queue", "scheduledTime", "status", "failures", "processingStartTime",
            "processingEndTime", "errorMessage", "outcomeMessage",
        ),
        cells={
            "RemoteAET": lambda task, _: task.remote_aet,
            "DestinationAET": lambda task, _: task.destination_aet,
            **cells_of(_COUNTERS),
            "remaining": lambda task, _: str(_remaining(task)),
            "statusCode": _status_cell,
            "errorComment": lambda task, _: _comment(task),
        },
        has_queue=True,
        batch=BatchShape(
            filters=(
                title_filter("localAET", "local_aet", "AE that asks."),
                title_filter("remoteAET", "remote_aet", "AE that has the studies."),
                title_filter("destinationAET", "destination_aet", "AE that gets them."),
                _QUEUE,
            ),
            lists={
                "dcmQueueName": "queue", "LocalAET": "local_aet", "RemoteAET": "remote_aet",
                "DestinationAET": "destination_aet",
            },
        ),
    )
)  # fmt: skip
