"""EXPORT on the wire: how its tasks look, and the service that makes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from api import answers, audit
from api.answers import BadRequest, Route
from api.rest import documents, parameters, shape, times
from api.rest.changes import PRIORITY, SCHEDULED_TIME
from api.rest.parameters import Given, Parameter, flag
from api.rest.shape import BatchShape, Filter, Shape
from api.security import Caller, Submitter
from config import settings
from tasks import circumstances, job_messages, operations, placing
from tasks.idempotency import Once
from tasks.operations import Scheduled
from tasks.record import DEFAULT_PRIORITY, HIGHEST_PRIORITY, NewTask, TaskView

_UID = re.compile(job_messages.UID)

_CREATE = (
    Parameter("batchID", "Batch that the task belongs to."),
    SCHEDULED_TIME,
    PRIORITY,
    Parameter("dicomDeviceName", "Which device of the AE title; absent: the one with the least waiting."),
    flag("allowDuplicate", "Make a task also if an equal one still waits."),
)

_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A repeated request with the same key makes no second task.",
    "schema": {"type": "string", "maxLength": job_messages.LONGEST_KEY},
}


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

router = APIRouter(prefix="/aets/{aet}/rs/studies/{study}", tags=["EXPORT"], route_class=Route)

Title = Annotated[str, Path(description="AE title of a device of the cluster, or another title of it.")]
_MADE: dict[str, Any] = documents.of(*_CREATE, answer=documents.task(SHAPE.properties), status=202, extra=(_KEY,))


@router.post("/export/{ExporterID}", operation_id="export_study", **_MADE)
def study(request: Request, caller: Submitter, aet: Title, study: str, ExporterID: str) -> Response:  # noqa: N803
    """Export a study."""
    return _create(request, caller, aet, (study, None, None), ExporterID)


@router.post("/series/{series}/export/{ExporterID}", operation_id="export_series", **_MADE)
def series(
    request: Request, caller: Submitter, aet: Title, study: str, series: str, ExporterID: str  # noqa: N803
) -> Response:  # fmt: skip
    """Export a series."""
    return _create(request, caller, aet, (study, series, None), ExporterID)


@router.post("/series/{series}/instances/{sop}/export/{ExporterID}", operation_id="export_instance", **_MADE)
def instance(
    request: Request, caller: Submitter, aet: Title, study: str, series: str, sop: str, ExporterID: str  # noqa: N803
) -> Response:  # fmt: skip
    """Export an instance."""
    return _create(request, caller, aet, (study, series, sop), ExporterID)


Entity = tuple[str, str | None, str | None]


def _create(request: Request, caller: Caller, aet: str, entity: Entity, exporter_id: str) -> Response:
    given = parameters.read(request, _CREATE)
    _check_uids(entity)
    place = placing.place(aet, exporter_id, given.one("dicomDeviceName"))
    at = given.one("scheduledTime")
    priority = given.number("taskPriority", 0, HIGHEST_PRIORITY)
    uri = request.url.path + (f"?{query}" if (query := answers.without_token(request)) else "")
    new = NewTask(
        kind="EXPORT",
        device=place.device.name,
        queue=place.queue,
        priority=DEFAULT_PRIORITY if priority is None else priority,
        scheduled_time=None if at is None else times.scheduled(at, circumstances.zone_of(place.device)),
        batch_id=given.one("batchID"),
        local_aet=aet,
        exporter_id=exporter_id,
        study_uid=entity[0],
        series_uid=entity[1],
        sop_uid=entity[2],
        requester_user=caller.name,
        requester_host=caller.host,
        request_uri=uri,
    )
    with audit.recorded(caller, "ExportTask", uri) as entry:
        made = operations.schedule(
            new,
            caller.by,
            allow_duplicate=given.is_true("allowDuplicate"),
            equal_on=place.names,
            once=_once(request, caller, uri),
        )
        entry.count = 0 if made.existed or made.repeated else 1
    return _made(request, made, given)


def _made(request: Request, made: Scheduled, given: Given) -> Response:
    if made.existed:
        given.warn(f"an equal task waits already: {made.task.id}; allowDuplicate=true makes another one")
    if made.repeated:
        given.warn(f"the request was answered before with task {made.task.id}")
    wire = shape.to_wire(made.task, SHAPE, settings.current().zone())
    answer = answers.as_json(wire, 202, given.warnings)
    base = request.url.path.partition("/aets/")[0]
    answer.headers["Location"] = f"{base}/monitor/{SHAPE.slug}/{made.task.id}"
    return answer


def _once(request: Request, caller: Caller, uri: str) -> Once | None:
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 0 < len(key) <= job_messages.LONGEST_KEY or not key.isprintable():
        raise BadRequest(f"Idempotency-Key: expected 1 to {job_messages.LONGEST_KEY} printable characters")
    return Once(key, caller.name, f"POST {uri}")


def _check_uids(entity: Entity) -> None:
    for name, uid in zip(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), entity, strict=True):
        if uid is not None and (len(uid) > job_messages.LONGEST_UID or not _UID.fullmatch(uid)):
            raise BadRequest(
                f"{name}={uid}: expected a UID, digits and dots, at most {job_messages.LONGEST_UID} characters"
            )
