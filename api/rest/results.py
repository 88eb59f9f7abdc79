"""What comparisons found: `/monitor/diff/.../studies`, as DICOM JSON."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response

from api import answers
from api.answers import NotFound, Route
from api.rest import documents, filters, parameters
from api.rest.kinds import diff
from api.rest.parameters import Parameter
from api.security import Reader
from archive import db
from config import settings
from tasks import diffs
from tasks import query as queries
from tasks.query import TaskQuery

router = APIRouter(prefix="/monitor/diff", tags=["DIFF"], route_class=Route)

_PAGE: tuple[Parameter, ...] = tuple(one for one in filters.PAGE if one.name != "orderby")
_FILTERS = tuple(one for one in filters.COMMON if one.name != "batchID")
_OF_BATCH = (*_FILTERS, *(one.parameter for one in diff.SHAPE.filters), *_PAGE)

_STUDIES: dict[str, Any] = {"answer": documents.array(documents.ANYTHING)}


@router.get("/{taskID}/studies", operation_id="diff_studies",
            **documents.of(*_PAGE, **_STUDIES, more={204: ("There was nothing to compare.", None)}))  # fmt: skip
def of_task(request: Request, _caller: Reader, taskID: str) -> Response:  # noqa: N803
    """List the studies that a comparison found missing or different, with what differs."""
    given = parameters.read(request, _PAGE)
    page = filters.page(given)
    number = filters.task_id(taskID)
    with db.transaction() as session:
        task = queries.get(session, number)
        if task is None or task.kind != diff.SHAPE.kind:
            raise NotFound(f"No such Diff Task : {taskID}")
        if not task.progress.get("matches"):
            return answers.empty(given.warnings)
        found = diffs.of_task(session, number, offset=page.offset, limit=page.limit)
    return answers.as_json(found, warnings=given.warnings)


@router.get("/batch/{batchID}/studies", operation_id="diff_batch_studies", **documents.of(*_OF_BATCH, **_STUDIES))
def of_batch(request: Request, _caller: Reader, batchID: str) -> Response:  # noqa: N803
    """List the studies that the comparisons of a batch found missing or different."""
    given = parameters.read(request, _OF_BATCH)
    page = filters.page(given)
    base = TaskQuery(kinds=(diff.SHAPE.kind,))
    wanted = filters.task_query(given, base, diff.SHAPE.filters, settings.current().zone())
    with db.transaction() as session:
        found = diffs.of_tasks(session, replace(wanted, batch_id=batchID), offset=page.offset, limit=page.limit)
    if found is None:
        # The original says no more.
        return answers.warned(Response(status_code=404, media_type="text/plain"), given.warnings)
    return answers.as_json(found, warnings=given.warnings)
