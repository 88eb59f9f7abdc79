"""EXPORT on the wire: how its tasks look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.rest import documents, shape
from api.rest.parameters import Parameter
from api.rest.shape import BatchShape, Filter, Shape
from tasks.record import TaskView


def _fields(task: TaskView) -> Mapping[str, Any]:
    number, modalities = task.progress.get("numInstances"), task.progress.get("modalities")
    return {
        "LocalAET": task.local_aet,
        "ExporterID": task.exporter_id,
        "StudyInstanceUID": task.study_uid,
        "SeriesInstanceUID": task.series_uid,
        "SOPInstanceUID": task.sop_uid,
        "NumberOfInstances": None if number is None else str(number),
        "Modality": list(modalities) if modalities else None,
    }


def _joined(task: TaskView) -> str | None:
    modalities = task.progress.get("modalities")
    return "\\".join(modalities) if modalities else None


_EXPORTER = Filter(Parameter("ExporterID", "Exporter.", repeatable=True), "exporter_ids", is_list=True)

SHAPE = shape.register(
    Shape(
        kind="EXPORT",
        slug="export",
        filters=(
            _EXPORTER,
            Filter(Parameter("StudyInstanceUID", "Study that is exported."), "study_uid"),
        ),
        fields=_fields,
        properties={
            **dict.fromkeys(
                ("LocalAET", "ExporterID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), documents.TEXT
            ),
            "NumberOfInstances": documents.DIGITS,
            "Modality": documents.array(documents.TEXT),
        },
        columns=(
            "taskID", "createdTime", "updatedTime", "ExporterID", "LocalAET", "StudyInstanceUID",
            "SeriesInstanceUID", "SOPInstanceUID", "NumberOfInstances", "Modality", "batchID", "dicomDeviceName",
            "scheduledTime", "status", "queue", "failures", "processingStartTime", "processingEndTime",
            "errorMessage", "outcomeMessage",
        ),
        cells={
            "ExporterID": lambda task, _: task.exporter_id,
            "NumberOfInstances": lambda task, _: _fields(task)["NumberOfInstances"],
            "Modality": lambda task, _: _joined(task),
        },
        has_exporter=True,
        batch=BatchShape(filters=(_EXPORTER,), lists={"ExporterID": "exporter_id"}),
    )
)  # fmt: skip
