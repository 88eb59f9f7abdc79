"""STGVER tasks: files of studies are held against the index.

Source: the storage verification services of dcm4chee-arc-light.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter

from api.answers import BadRequest
from api.rest import documents
from api.rest.creation import routes, waiting
from api.rest.creation.asking import Asked
from api.rest.creation.recipe import Path, Recipe
from api.rest.parameters import Given, Parameter, flag
from archive.storage.verifying import Policy
from config.device import Device
from tasks import placing
from tasks.creating import Subject
from tasks.record import TaskView
from tasks.state import Status

_POLICY = Parameter("storageVerificationPolicy", "How files are looked at.", {"type": "string", "enum": [*Policy]})
_UPDATE = flag("storageVerificationUpdateLocationStatus", "Note in the index what was found.")
_STORAGES = Parameter("storageVerificationStorageID", "Only files of this storage.", repeatable=True)


def _devices(path: Path, given: Given) -> Sequence[Device]:
    return placing.queueing(path["aet"], RECIPE.queue, given.one("dicomDeviceName"))


def _fields(path: Path, given: Given, subject: Subject, device: Device) -> Mapping[str, Any]:
    del subject, device
    params: dict[str, Any] = {}
    policy = given.one(_POLICY.name)
    if policy is not None:
        if policy.upper() not in list(Policy):
            raise BadRequest(f"{_POLICY.name}={policy}: expected one of {', '.join(Policy)}")
        params["policy"] = policy.upper()
    if given.one(_UPDATE.name) is not None:
        params["updateLocationStatus"] = given.is_true(_UPDATE.name)
    storages = given.all(_STORAGES.name, commas=True)
    if storages:
        params["storageIDs"] = sorted(set(storages))
    return {"queue": RECIPE.queue, "local_aet": path["aet"], "params": params}


RECIPE = Recipe("STGVER", "VerifyTask", (_POLICY, _UPDATE, _STORAGES), _devices, _fields)


def router() -> APIRouter:
    """Return the routes."""
    made = routes.router(RECIPE, "/aets/{aet}/rs")
    routes.uploading(made, RECIPE, "verify", "/stgver")
    routes.matching(made, RECIPE, "verify", "/stgver")
    meant = {202: "Some files are not as they should be.", 409: "No file is as it should be."}
    waiting.one(made, RECIPE, "verify", "/stgver", waiting.Ending(_is_queued, _answer, documents.VERIFIED, meant))
    return made


def _is_queued(asked: Asked) -> bool:
    del asked
    return False


def _answer(task: TaskView) -> tuple[int, dict[str, Any]]:
    """Return what the service answers that waits: 200, 202 if some files are not as they should be, 409 if all."""
    numbers = waiting.numbers_of(task, "completed", "failed")
    match task.status:
        case Status.COMPLETED:
            return 200, numbers
        case Status.WARNING:
            said = {} if numbers["failed"] else {"errorMessage": waiting.why_not(task)}
            return 202 if numbers["completed"] else 409, {**numbers, **said}
        case _:
            return 409, {**numbers, "errorMessage": waiting.why_not(task)}
