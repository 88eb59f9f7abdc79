"""DELETE_STUDY on the wire: how its tasks look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.rest import documents, shape
from api.rest.parameters import Parameter
from api.rest.shape import BatchShape, Cell, Filter, Shape
from tasks.marks import KIND
from tasks.record import TaskView

#: On the wire -> parameter of the task.
_OWN = {
    "FileSystemID": "fileSystemID", "FileSystemPath": "fileSystem", "FileSystemGroupID": "group", "Trigger": "trigger",
    "Bytes": "bytes",
}  # fmt: skip


def _text(task: TaskView, name: str) -> str | None:
    value = task.params.get(_OWN[name])
    return None if value is None else str(value)


def _fields(task: TaskView) -> Mapping[str, Any]:
    return {"StudyInstanceUID": task.study_uid, **{name: _text(task, name) for name in _OWN}}


def _cell(name: str) -> Cell:
    return lambda task, _: _text(task, name)


SHAPE = shape.register(
    Shape(
        kind=KIND,
        slug="deletion",
        filters=(Filter(Parameter("StudyInstanceUID", "Study that is deleted."), "study_uid"),),
        fields=_fields,
        properties=dict.fromkeys(("StudyInstanceUID", *_OWN), documents.TEXT),
        columns=(
            "taskID", "createdTime", "updatedTime", "StudyInstanceUID", *_OWN, "batchID", "dicomDeviceName",
            "scheduledTime", "status", "queue", "failures", "processingStartTime", "processingEndTime",
            "errorMessage", "outcomeMessage",
        ),
        cells={name: _cell(name) for name in _OWN},
        batch=BatchShape(),
    )
)  # fmt: skip
