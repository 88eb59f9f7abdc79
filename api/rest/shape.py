"""How tasks look on the wire: what all kinds have in common, and the registry of what each kind adds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any

from api.rest import times
from api.rest.parameters import Parameter
from tasks.record import DEFAULT_PRIORITY, TaskView

#: What a cell of CSV holds; None: nothing between the delimiters.
Cell = Callable[[TaskView, tzinfo], str | None]

#: Fields of a kind, in order; None: left out.
Fields = Callable[[TaskView], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Filter:
    """A query parameter that narrows tasks down, and the field of TaskQuery that it sets."""

    parameter: Parameter
    field: str
    #: Takes several values, repeated or with commas between.
    is_list: bool = False
    #: `field` is a name in the parameters of the task, not one of TaskQuery.
    in_params: bool = False
    #: Takes true or false.
    is_flag: bool = False


@dataclass(frozen=True, slots=True)
class BatchShape:
    """What the list of batches shows and takes for one kind of task."""

    filters: tuple[Filter, ...] = ()
    #: Name on the wire -> column, or `params.NAME`: the different values of the batch.
    lists: Mapping[str, str] = field(default_factory=dict)
    #: Name on the wire -> `progress.NAME`: the sum over the batch.
    sums: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the services of one kind of task show and take."""

    #: Kind of the tasks.
    kind: str
    #: Behind `/monitor/`.
    slug: str
    filters: tuple[Filter, ...]
    #: Fields behind the common ones, in order; None: left out.
    fields: Fields
    #: Schemas of these fields, for the OpenAPI document.
    properties: Mapping[str, Mapping[str, Any]]
    columns: tuple[str, ...]
    #: Columns that the common ones do not have.
    cells: Mapping[str, Cell]
    #: The exporter can be changed by a reschedule.
    has_exporter: bool = False
    #: The queue can be changed by a reschedule.
    has_queue: bool = False
    #: None: its batches are not listed.
    batch: BatchShape | None = None


#: By path.
_SHAPES: dict[str, Shape] = {}

#: By kind; also those without services of their own, which queues list all the same.
_BY_KIND: dict[str, Shape] = {}


def register(shape: Shape) -> Shape:
    """Offer the services of a kind.

    Raises:
        TypeError: two have the same path or kind, or a column is unknown.
    """
    unknown = [column for column in shape.columns if column not in shape.cells and column not in CELLS]
    if shape.slug in _SHAPES or shape.kind in _BY_KIND or unknown:
        raise TypeError(f"services of {shape.slug}: there already, or unknown columns {unknown}")
    _SHAPES[shape.slug] = _BY_KIND[shape.kind] = shape
    return shape


def register_listed(kind: str, fields: Fields) -> None:
    """Say how tasks look that never run here and are listed by their queue alone."""
    _BY_KIND[kind] = _bare(kind, fields)


def shapes() -> Mapping[str, Shape]:
    """Return what is registered, by path."""
    return _SHAPES


def of_kind(kind: str) -> Shape:
    """Return how tasks of a kind look; one that nobody knows has the common fields alone."""
    return _BY_KIND.get(kind) or _bare(kind, lambda _: {})


def _bare(kind: str, fields: Fields) -> Shape:
    return Shape(kind, kind.lower(), (), fields, {}, (), {})


def to_wire(task: TaskView, shape: Shape, zone: tzinfo) -> dict[str, Any]:
    """Return a task as dcm4chee writes it: numbers are strings, what is absent or default is left out."""
    values: dict[str, Any] = {
        "taskID": str(task.id),
        "dicomDeviceName": task.device,
        "queue": task.queue,
        "type": task.kind,
        "status": task.status.value,
        "batchID": task.batch_id,
        "failures": str(task.failures) if task.failures else None,
        "createdTime": times.written(task.created_time, zone),
        "updatedTime": times.written(task.updated_time, zone),
        "scheduledTime": times.written(task.scheduled_time, zone),
        "processingStartTime": _time(task.started_time, zone),
        "processingEndTime": _time(task.ended_time, zone),
        "errorMessage": task.error_message,
        "outcomeMessage": task.outcome_message,
        "RequesterUserID": task.requester_user,
        "RequesterHostName": task.requester_host,
        "RequestURI": task.request_uri,
        **shape.fields(task),
        "taskPriority": str(task.priority) if task.priority != DEFAULT_PRIORITY else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def typed(task: TaskView, zone: tzinfo) -> dict[str, Any]:
    """Return all of a task with typed values; what is not known is null."""
    return {
        "taskID": task.id,
        "dicomDeviceName": task.device,
        "queue": task.queue,
        "type": task.kind,
        "status": task.status.value,
        "batchID": task.batch_id,
        "taskPriority": task.priority,
        "failures": task.failures,
        "lostLeases": task.lost_leases,
        "createdTime": times.written(task.created_time, zone),
        "updatedTime": times.written(task.updated_time, zone),
        "scheduledTime": times.written(task.scheduled_time, zone),
        "processingStartTime": _time(task.started_time, zone),
        "processingEndTime": _time(task.ended_time, zone),
        "errorMessage": task.error_message,
        "outcomeMessage": task.outcome_message,
        "RequesterUserID": task.requester_user,
        "RequesterHostName": task.requester_host,
        "RequestURI": task.request_uri,
        "LocalAET": task.local_aet,
        "RemoteAET": task.remote_aet,
        "DestinationAET": task.destination_aet,
        "ExporterID": task.exporter_id,
        "destination": task.destination,
        "StudyInstanceUID": task.study_uid,
        "SeriesInstanceUID": task.series_uid,
        "SOPInstanceUID": task.sop_uid,
        "parameters": dict(task.params),
        "progress": dict(task.progress),
    }


def csv_line(values: Iterable[str | None], delimiter: str) -> str:
    """Return a line of CSV (RFC 4180): every value quoted, nothing for None."""
    return delimiter.join("" if v is None else '"' + v.replace('"', '""') + '"' for v in values) + "\r\n"


def csv_cells(shape: Shape) -> list[Cell]:
    """Return what gives the cells of a line, in the order of the columns."""
    return [shape.cells.get(column) or CELLS[column] for column in shape.columns]


def _time(at: datetime | None, zone: tzinfo) -> str | None:
    return None if at is None else times.written(at, zone)


#: Cells of the columns that several kinds have.
CELLS: Mapping[str, Cell] = {
    "taskID": lambda task, _: str(task.id),
    "createdTime": lambda task, zone: times.written(task.created_time, zone),
    "updatedTime": lambda task, zone: times.written(task.updated_time, zone),
    "scheduledTime": lambda task, zone: times.written_as_sql(task.scheduled_time, zone),
    "processingStartTime": lambda task, zone: _time(task.started_time, zone),
    "processingEndTime": lambda task, zone: _time(task.ended_time, zone),
    "batchID": lambda task, _: task.batch_id,
    "dicomDeviceName": lambda task, _: task.device,
    "queue": lambda task, _: task.queue,
    "status": lambda task, _: task.status.value,
    "failures": lambda task, _: str(task.failures) if task.failures else None,
    "errorMessage": lambda task, _: task.error_message,
    "outcomeMessage": lambda task, _: task.outcome_message,
    "LocalAET": lambda task, _: task.local_aet,
    "StudyInstanceUID": lambda task, _: task.study_uid,
    "SeriesInstanceUID": lambda task, _: task.series_uid,
    "SOPInstanceUID": lambda task, _: task.sop_uid,
}
