"""DIFF tasks: the answers of two archives to one query are compared.

Source: the diff services of dcm4chee-arc-light.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import answers
from api.answers import BadRequest
from api.rest import documents
from api.rest.creation import asking, remote, routes, services, waiting
from api.rest.creation.asking import Asked
from api.rest.creation.recipe import Path, Recipe
from api.rest.creation.sources import Whole
from api.rest.parameters import Given, Parameter, flag
from api.security import Caller, Submitter
from archive import db
from archive.matching import Level
from archive.query import Entity
from config import values
from config.device import Device
from tasks import diffs, placing
from tasks.creating import Subject
from tasks.kinds.diff import query_string
from tasks.operations import Scheduled
from tasks.record import TaskView
from tasks.state import Status

#: Tasks that one range of dates may be cut into.
_MOST_PARTS = 10_000

_QUEUED = flag("queue", "Make a task, and do not wait for the result.")
_COMPARE = Parameter(
    "comparefield", "Attribute that is compared, by keyword or tag; or one attribute set by its ID.", repeatable=True
)
_DIFFERENT = Parameter("different", "Count studies that differ; absent: true.", {"type": "boolean", "default": True})
_MISSING = flag("missing", "Count studies that the secondary lacks.")
_BY_UID = flag("ForceQueryByStudyUID", "Ask the secondary for each study by its UID.")
_SPLIT = Parameter("SplitStudyDateRange", "A task for each part of the range of StudyDate, so long, for example P7D.")
_PRIORITY = Parameter(
    "priority", "Of the C-FIND: 0 medium, 1 high, 2 low.", {"type": "integer", "minimum": 0, "maximum": 2}
)


def _devices(path: Path, given: Given) -> Sequence[Device]:
    for title in ("primary", "secondary"):
        remote.check_title(path[title])
    return placing.queueing(path["aet"], RECIPE.queue, given.one("dicomDeviceName"))


def _fields(path: Path, given: Given, subject: Subject, device: Device) -> Mapping[str, Any]:
    del device
    params: dict[str, Any] = {
        "queryString": _query(given, subject),
        "checkMissing": given.is_true(_MISSING.name),
        "checkDifferent": given.one(_DIFFERENT.name) is None or given.is_true(_DIFFERENT.name),
    }
    fields = given.all(_COMPARE.name, commas=True)
    priority = given.number(_PRIORITY.name, 0, 2)
    params |= {"comparefield": ",".join(fields)} if fields else {}
    params |= {"forceQueryByStudyUID": True} if given.is_true(_BY_UID.name) else {}
    params |= {} if priority is None else {"priority": priority}
    return {
        "queue": RECIPE.queue,
        "local_aet": path["aet"],
        "remote_aet": path["primary"],
        "destination_aet": path["secondary"],
        "params": params,
    }


def _query(given: Given, subject: Subject) -> str:
    """Return the keys of the C-FIND as a query string; those of a part of it, or of one study."""
    keys = services.remote_keys(given)
    if isinstance(subject, Entity):
        keys["StudyInstanceUID"] = subject.study_uid
    elif subject is not None:
        keys["StudyDate"] = subject
    return query_string(keys)


RECIPE = Recipe(
    "DIFF", "DiffTask", (_COMPARE, _DIFFERENT, _MISSING, _BY_UID, _PRIORITY), _devices, _fields
)  # fmt: skip


def router() -> APIRouter:
    """Return the routes."""
    made = routes.router(RECIPE, "/aets/{aet}/dimse/{primary}/diff/{secondary}")
    routes.uploading(made, RECIPE, "diff", "", only=("studies_of_csv",))
    known = (*services.documented(Level.STUDY), *asking.COMMON, *RECIPE.parameters)
    queue, task = (_QUEUED, _SPLIT), routes.task_of(RECIPE)
    # A description of an answer cannot say that there may be no body.
    routes.add(
        made, "compare", "/studies", (_comparing(_differences, queue), (*queue, *known)),
        "Compare the studies of two archives, and list those that are missing or different",
        _described(
            documents.array(documents.ANYTHING),
            {204: ("No study is missing or different.", None),
             202: ("With queue: made, no body; else: the task, which has not ended.", None)},
        ), method="GET",
    )  # fmt: skip
    routes.add(
        made, "compare_count", "/studies/count", (_comparing(_counts, ()), known),
        "Compare the studies of two archives, and count",
        _described(documents.COMPARED, {202: ("The task, which has not ended.", task)}), method="GET",
    )  # fmt: skip
    return made


def _described(
    answer: documents.Schema, more: Mapping[int | str, tuple[str, documents.Schema | None]]
) -> dict[str, Any]:  # fmt: skip
    failed = ("An archive did not do its part.", documents.NOT_COMPARED)
    return {
        "answer": {"anyOf": [answer, documents.WOULD_BE_MADE]}, "more": {**more, 502: failed},
        "extra": (waiting.PREFER,),
    }  # fmt: skip


def _comparing(answer: waiting.Answer, queue: Sequence[Parameter]) -> routes.Service:
    async def service(request: Request, caller: Submitter) -> Response:
        asked, made = await run_in_threadpool(_make, request, caller, queue)
        return made if isinstance(made, Response) else await waiting.ended(asked, made, answer)

    return service


def _make(request: Request, caller: Caller, queue: Sequence[Parameter]) -> tuple[Asked, Scheduled | Response]:
    """Return the task to wait for, or the answer if there is nothing to wait for."""
    asked = asking.read(RECIPE, request, caller, (*services.query_parameters(Level.STUDY), *queue))
    services.refuse_fuzzy(asked.given)
    split, is_queued = asked.given.one(_SPLIT.name), asked.given.is_true(_QUEUED.name)
    if split is not None and not is_queued:
        raise BadRequest(f"{_SPLIT.name}={split}: expected queue=true with it")
    source = Whole() if split is None else Parts(asked.given.one("StudyDate") or "", split)
    if asked.given.is_true(asking.DRY_RUN.name):
        return asked, services.make_many(asked, source, nothing=None)
    if not is_queued:
        return asked, services.make_one(asked, None, waiting.seconds(request))
    if split is None:
        services.make_one(asked, None)
    else:
        services.make_many(asked, source, nothing=None)
    return asked, answers.warned(Response(status_code=202), asked.given.warnings)


def _counts(task: TaskView) -> tuple[int, dict[str, Any]]:
    numbers = waiting.numbers_of(task, "matches", "missing", "different")
    if task.status not in (Status.COMPLETED, Status.WARNING):
        return 502, {"errorMessage": waiting.why_not(task)}
    return 200, {"count": numbers["matches"], "missing": numbers["missing"], "different": numbers["different"]}


def _differences(task: TaskView) -> tuple[int, Mapping[str, Any] | Sequence[Any] | None]:
    """Return the studies that are missing or different, as the task shows them later too; 204 if there is none."""
    status, said = _counts(task)
    if status != HTTPStatus.OK:
        return status, said
    with db.transaction() as session:
        found = diffs.of_task(session, task.id)
    return (200, found) if found else (204, None)


class Parts:
    """The parts of a range of dates, each as a range; a source of `tasks.creating`."""

    def __init__(self, dates: str, length: str) -> None:
        """Cut the range `A-B` of dates into parts of so many days.

        Raises:
            BadRequest: it is no such range, the length is none of whole days, or there would be too many parts.
        """
        step = _days(length)
        begin, end = _range(dates)
        number = (end - begin) // step + 1
        if number > _MOST_PARTS:
            raise BadRequest(f"{_SPLIT.name}={length}: {number:,} parts of StudyDate={dates}, at most {_MOST_PARTS:,}")
        firsts = [begin + step * place for place in range(number)]
        self._parts = [(first, min(first + step - timedelta(days=1), end)) for first in firsts]

    def after(self, session: Session, position: str, limit: int) -> list[tuple[str, str]]:
        """Return the next parts."""
        del session
        behind = int(position or 0)
        ranges = [f"{low:%Y%m%d}-{high:%Y%m%d}" for low, high in self._parts[behind : behind + limit]]
        return [(str(behind + place), one) for place, one in enumerate(ranges, 1)]


def _days(length: str) -> timedelta:
    try:
        found = values.parse_duration(length)
    except ValueError:
        found = timedelta(0)
    if not found or found % timedelta(days=1):
        raise BadRequest(f"{_SPLIT.name}={length}: expected a number of days, for example P7D")
    return found


def _range(dates: str) -> tuple[date, date]:
    try:
        low, _, high = dates.partition("-")
        begin, end = (datetime.strptime(text, "%Y%m%d").date() for text in (low, high))  # noqa: DTZ007 - a date
        if begin > end:
            raise ValueError(dates)
    except ValueError:
        raise BadRequest(f"StudyDate={dates}: expected a range yyyyMMdd-yyyyMMdd, to be split") from None
    return begin, end
