"""DIFF on the wire: what two AEs answer to the same query."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import tzinfo
from typing import Any

from api.rest import documents, shape
from api.rest.kinds.values import cell, cells_of, counted, flag_filter, is_set, title_filter, told
from api.rest.parameters import Parameter
from api.rest.shape import BatchShape, Cell, Filter, Shape
from tasks.record import TaskView

_COUNTERS = ("matches", "missing", "different")
_CHECKS = ("checkMissing", "checkDifferent")

_FILTERS = (
    title_filter("LocalAET", "local_aet", "AE that asks."),
    title_filter("PrimaryAET", "remote_aet", "AE whose answers are compared."),
    title_filter("SecondaryAET", "destination_aet", "AE that they are compared with."),
    Filter(Parameter("comparefield", "Set of attributes that are compared."), "comparefield", in_params=True),
    flag_filter("checkMissing", "Missing studies are counted, or are not."),
    flag_filter("checkDifferent", "Different studies are counted, or are not."),
)


def _fields(task: TaskView) -> Mapping[str, Any]:
    return {
        "LocalAET": task.local_aet,
        "PrimaryAET": task.remote_aet,
        "SecondaryAET": task.destination_aet,
        "QueryString": told(task, "queryString"),
        **{name: True if is_set(task, name) else None for name in _CHECKS},
        "comparefield": told(task, "comparefield"),
        # The only counters of the original that are numbers.
        **{name: counted(task, name) or None for name in _COUNTERS},
    }


def _check_cell(name: str) -> Cell:
    def written(task: TaskView, _: tzinfo) -> str:
        return str(is_set(task, name)).lower()

    return written


SHAPE = shape.register(
    Shape(
        kind="DIFF",
        slug="diff",
        filters=_FILTERS,
        fields=_fields,
        properties={
            **dict.fromkeys(
                ("LocalAET", "PrimaryAET", "SecondaryAET", "QueryString", "comparefield"), documents.TEXT
            ),
            **dict.fromkeys(_CHECKS, documents.TRUTH),
            **dict.fromkeys(_COUNTERS, documents.COUNT),
        },
        columns=(
            "taskID", "LocalAET", "PrimaryAET", "SecondaryAET", "QueryString", *_CHECKS, *_COUNTERS, "comparefield",
            "createdTime", "updatedTime", "queue", "dicomDeviceName", "status", "scheduledTime", "failures",
            "batchID", "processingStartTime", "processingEndTime", "errorMessage", "outcomeMessage",
        ),
        cells={
            "PrimaryAET": lambda task, _: task.remote_aet,
            "SecondaryAET": lambda task, _: task.destination_aet,
            "QueryString": cell("queryString"),
            "comparefield": cell("comparefield"),
            **{name: _check_cell(name) for name in _CHECKS},
            **cells_of(_COUNTERS),
        },
        batch=BatchShape(
            filters=_FILTERS,
            lists={
                "LocalAET": "local_aet", "PrimaryAET": "remote_aet", "SecondaryAET": "destination_aet",
                "comparefield": "params.comparefield", "checkMissing": "params.checkMissing",
                "checkDifferent": "params.checkDifferent",
            },
            sums={name: f"progress.{name}" for name in _COUNTERS},
        ),
    )
)  # fmt: skip
