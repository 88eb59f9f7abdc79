"""`/intake`: what became of the messages that other services sent."""

from __future__ import annotations

from datetime import tzinfo
from typing import Any

from fastapi import APIRouter, Request, Response

from api import answers
from api.answers import NotFound, Route
from api.rest import documents, parameters, times
from api.rest.documents import TEXT, thing
from api.rest.parameters import Parameter
from api.security import Reader
from config import settings
from tasks import intake
from tasks.intake import Answer

router = APIRouter(prefix="/intake", tags=["intake"], route_class=Route)

#: So many refusals are listed unless asked otherwise, and at most.
_LISTED, _MOST = 100, 1000

_LIMIT = Parameter("limit", "How many.", {"type": "integer", "minimum": 1, "maximum": _MOST, "default": _LISTED})


_MESSAGE = thing(
    {"messageID": TEXT, "time": documents.TIME, "status": {"type": "string", "enum": ["accepted", "refused"]}},
    {"taskIDs": documents.array(documents.NUMBER), "reason": TEXT},
)


@router.get("", operation_id="refused_messages", **documents.of(_LIMIT, answer=documents.array(_MESSAGE)))
def refused(request: Request, _caller: Reader) -> Response:
    """List the messages that were refused last, newest first."""
    given = parameters.read(request, (_LIMIT,))
    zone = settings.current().zone()
    limit = given.number("limit", 1, _MOST) or _LISTED
    return answers.as_json([_wire(one, zone) for one in intake.last_refused(limit)], warnings=given.warnings)


@router.get("/{messageId:path}", operation_id="message", **documents.of(answer=_MESSAGE))
def message(request: Request, _caller: Reader, messageId: str) -> Response:  # noqa: N803
    """Say what became of a message: accepted or refused; 404 while it is unknown."""
    given = parameters.read(request, ())
    found = intake.answer_to(messageId) if messageId.isprintable() else None
    if found is None:
        raise NotFound(f"No such message: {messageId}; it was not delivered yet, or more than 30 days ago")
    return answers.as_json(_wire(found, settings.current().zone()), warnings=given.warnings)


def _wire(answer: Answer, zone: tzinfo) -> dict[str, Any]:
    told: dict[str, Any] = {"messageID": answer.message_id, "time": times.written(answer.at, zone)}
    if answer.refused is None:
        return {**told, "status": "accepted", "taskIDs": list(answer.task_ids)}
    return {**told, "status": "refused", "reason": answer.refused}
