"""What every request for tasks says: when, how urgently, in which batch, under which key."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fastapi import Request

from api import answers
from api.answers import BadRequest
from api.rest import parameters, times
from api.rest.changes import PRIORITY, SCHEDULED_TIME
from api.rest.creation.recipe import Path, Recipe
from api.rest.parameters import Given, Parameter, flag
from api.security import Caller
from archive.query import Entity
from config import settings
from config.device import Device
from tasks import job_messages
from tasks.creating import Subject
from tasks.idempotency import Once
from tasks.record import DEFAULT_PRIORITY, HIGHEST_PRIORITY, NewTask

_UID = re.compile(job_messages.UID)
_LEVELS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")

COMMON = (
    Parameter("batchID", "Batch that the tasks belong to."),
    SCHEDULED_TIME,
    PRIORITY,
    Parameter("dicomDeviceName", "Which device of the AE title; absent: the one with the least waiting."),
    flag("allowDuplicate", "Make a task also if an equal one still waits."),
)

DRY_RUN = flag("dryrun", "Answer how many tasks would be made, per device; make none.")

KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A repeated request with the same key makes no second task.",
    "schema": {"type": "string", "maxLength": job_messages.LONGEST_KEY},
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for tasks of one kind, whatever they are about."""

    recipe: Recipe
    request: Request
    caller: Caller
    path: Path
    given: Given
    devices: tuple[Device, ...]

    @property
    def uri(self) -> str:
        """Path and query as they were sent, but for an access token."""
        query = answers.without_token(self.request)
        return self.request.url.path + (f"?{query}" if query else "")

    @property
    def allow_duplicate(self) -> bool:
        """Tell whether a task shall be made also if an equal one is there."""
        return self.given.is_true("allowDuplicate")

    def maker(self) -> Callable[[Subject, Device], NewTask]:
        """Return what makes the task of an entity for a device.

        Raises:
            BadRequest: a parameter has a value that cannot be used.
        """
        priority = self.given.number("taskPriority", 0, HIGHEST_PRIORITY)
        at = self.given.one("scheduledTime")
        start = None if at is None else times.scheduled(at, settings.current().zone())
        uri, batch_id = self.uri, self.given.one("batchID")

        def make(subject: Subject, device: Device) -> NewTask:
            study_uid, series_uid, sop_uid = subject if isinstance(subject, Entity) else (None, None, None)
            return NewTask(
                kind=self.recipe.kind,
                device=device.name,
                priority=DEFAULT_PRIORITY if priority is None else priority,
                scheduled_time=start,
                batch_id=batch_id,
                study_uid=study_uid,
                series_uid=series_uid,
                sop_uid=sop_uid,
                requester_user=self.caller.name,
                requester_host=self.caller.host,
                request_uri=uri,
                **self.recipe.fields(self.path, self.given, subject, device),
            )

        return make

    def once(self, digest: str = "") -> Once | None:
        """Return the key that the client gave.

        Args:
            digest: of the body, where that says what is wanted.

        Raises:
            BadRequest: it cannot be used as one.
        """
        key = self.request.headers.get("idempotency-key")
        if key is None:
            return None
        if not 0 < len(key) <= job_messages.LONGEST_KEY or not key.isprintable():
            raise BadRequest(f"Idempotency-Key: expected 1 to {job_messages.LONGEST_KEY} printable characters")
        return Once(key, self.caller.name, " ".join(filter(None, (self.request.method, self.uri, digest))))


def read(recipe: Recipe, request: Request, caller: Caller, more: Sequence[Parameter] = ()) -> Asked:
    """Return what a request asks for.

    Args:
        recipe: of the kind of its tasks.
        request: with path and parameters.
        caller: who makes it.
        more: parameters of this service besides those of the kind.

    Raises:
        BadRequest: a parameter is unknown or cannot be used.
        NotFound: no device could run it.
    """
    # Whatever the method: a parameter that is not understood must not widen what tasks are made of.
    known = (*more, *COMMON, *recipe.parameters)
    given = parameters.take(request.query_params.multi_items(), known, changing=True, in_vain=IN_VAIN)
    path: Mapping[str, str] = request.path_params
    return Asked(recipe, request, caller, path, given, tuple(recipe.devices(path, given)))


#: The original's pages send what they would send with a query for a list.
IN_VAIN = parameters.IN_VAIN | {"includefield"}


def entity_of(path: Path) -> Entity:
    """Return the study, series or object that a path names.

    Raises:
        BadRequest: a UID is none.
    """
    named = [path.get(name) for name in ("study", "series", "sop")]
    for level, uid in zip(_LEVELS, named, strict=True):
        if uid is not None:
            check_uid(level, uid)
    assert named[0] is not None  # noqa: S101 - such a path names a study
    return Entity(named[0], named[1], named[2])


def check_uid(name: str, uid: str) -> None:
    """Refuse what is no UID.

    Raises:
        BadRequest: it is none; the text names it.
    """
    if not is_uid(uid):
        raise BadRequest(
            f"{name}={uid}: expected a UID, digits and dots, at most {job_messages.LONGEST_UID} characters"
        )


def is_uid(text: str) -> bool:
    """Tell whether this is a UID (PS3.5 9.1), zeros before a number included."""
    return len(text) <= job_messages.LONGEST_UID and _UID.fullmatch(text) is not None
