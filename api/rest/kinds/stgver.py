"""STGVER on the wire: files of a study against the index."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import tzinfo
from typing import Any

from api.rest import documents, shape
from api.rest.kinds.values import STUDY, cells_of, numbers, title_filter, told
from api.rest.shape import BatchShape, Shape
from tasks.record import TaskView

_COUNTERS = ("completed", "failed")


def _storages(task: TaskView) -> list[str] | None:
    found = task.params.get("storageIDs")
    return sorted(map(str, found)) if found else None


def _updates(task: TaskView) -> bool | None:
    value = task.params.get("updateLocationStatus")
    return value if isinstance(value, bool) else None


def _updates_cell(task: TaskView, _: tzinfo) -> str:
    # The original prints what is not set as the word null.
    value = _updates(task)
    return "null" if value is None else str(value).lower()


def _storages_cell(task: TaskView, _: tzinfo) -> str | None:
    found = _storages(task)
    return "\\".join(found) if found else None


def _fields(task: TaskView) -> Mapping[str, Any]:
    return {
        "LocalAET": task.local_aet,
        "StgCmtPolicy": told(task, "policy"),
        "UpdateLocationStatus": _updates(task),
        "StorageID": _storages(task),
        "StudyInstanceUID": task.study_uid,
        "SeriesInstanceUID": task.series_uid,
        "SOPInstanceUID": task.sop_uid,
        **numbers(task, _COUNTERS),
    }


SHAPE = shape.register(
    Shape(
        kind="STGVER",
        slug="stgver",
        filters=(title_filter("LocalAET", "local_aet", "AE that the task was made through."), STUDY),
        fields=_fields,
        properties={
            **dict.fromkeys(
                ("LocalAET", "StgCmtPolicy", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
                documents.TEXT,
            ),
            "UpdateLocationStatus": documents.TRUTH,
            "StorageID": documents.array(documents.TEXT),
            **dict.fromkeys(_COUNTERS, documents.DIGITS),
        },
        columns=(
            "taskID", "createdTime", "updatedTime", "LocalAET", "StgCmtPolicy", "UpdateLocationStatus", "StorageID",
            "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", *_COUNTERS, "queue", "dicomDeviceName",
            "status", "scheduledTime", "failures", "batchID", "processingStartTime", "processingEndTime",
            "errorMessage", "outcomeMessage",
        ),
        cells={
            "StgCmtPolicy": lambda task, _: told(task, "policy"),
            "UpdateLocationStatus": _updates_cell,
            "StorageID": _storages_cell,
            **cells_of(_COUNTERS),
        },
        batch=BatchShape(
            filters=(title_filter("localAET", "local_aet", "AE that the tasks were made through."),),
            lists={"LocalAET": "local_aet"},
        ),
    )
)  # fmt: skip
