"""RETRIEVE tasks: another archive is asked to send studies to a destination (C-MOVE).

Source: the retrieve services of dcm4chee-arc-light.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from api.rest.creation import asking, remote, routes, services, waiting
from api.rest.creation.asking import Asked
from api.rest.creation.recipe import Path, Recipe
from api.rest.creation.sources import Listed
from api.rest.parameters import Given, Parameter
from api.security import Caller, Submitter
from archive.matching import Level
from config.device import Device
from tasks import placing
from tasks.creating import Subject

_SUFFIX = "/export/dicom:{dest}"
_PARAMETERS = (
    Parameter("dcmQueueName", "Queue of the tasks; absent: the usual one, and the answer to one task is its end."),
    Parameter("priority", "Of the C-MOVE: 0 medium, 1 high, 2 low.", {"type": "integer", "minimum": 0, "maximum": 2}),
)


def _devices(path: Path, given: Given) -> Sequence[Device]:
    for title in ("movescp", "findscp"):
        if title in path:
            remote.check_title(path[title])
    return placing.queueing(path["aet"], _queue(given), given.one("dicomDeviceName"))


def _fields(path: Path, given: Given, subject: Subject, device: Device) -> Mapping[str, Any]:
    del subject, device
    priority = given.number("priority", 0, 2)
    params: dict[str, Any] = {"findSCP": path["findscp"]} if "findscp" in path else {}
    return {
        "queue": _queue(given),
        "local_aet": path["aet"],
        "remote_aet": path["movescp"],
        "destination_aet": path["dest"],
        "params": params if priority is None else {**params, "priority": priority},
    }


def _queue(given: Given) -> str:
    return given.one("dcmQueueName") or RECIPE.queue


RECIPE = Recipe("RETRIEVE", "RetrieveTask", _PARAMETERS, _devices, _fields)


def router() -> APIRouter:
    """Return the routes."""
    made = routes.router(RECIPE, "/aets/{aet}/dimse/{movescp}")
    routes.uploading(made, RECIPE, "retrieve", _SUFFIX, only=("studies_of_csv",))
    keys = (*services.documented(Level.STUDY), *asking.COMMON, *RECIPE.parameters)
    for name, path in (("retrieve_studies", "/studies"), ("retrieve_found_studies", "/query:{findscp}/studies")):
        summary = "Make a task for each study that the other archive finds"
        routes.add(made, name, path + _SUFFIX, (_matching, keys), summary, routes.many(413, 502))
    waiting.one(made, RECIPE, "retrieve", _SUFFIX, waiting.transfer(_is_queued))
    return made


def _matching(request: Request, caller: Submitter) -> Response:
    return found_there(request, caller)


def found_there(request: Request, caller: Caller) -> Response:
    """Make a task for each study that the other archive finds: 202 with the count."""
    asked = asking.read(RECIPE, request, caller, services.query_parameters(Level.STUDY))
    keys = services.remote_keys(asked.given)
    services.refuse_all(asked.given, is_filtered=bool(keys))
    called = asked.path.get("findscp", asked.path["movescp"])
    found = Listed(remote.find(asked.devices[0], asked.path["aet"], called, keys))
    services.refuse_too_many(asked, len(found))
    return services.make_many(asked, found, nothing=None)


def _is_queued(asked: Asked) -> bool:
    return asked.given.one("dcmQueueName") is not None
