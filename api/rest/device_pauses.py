"""Pausing, draining and resuming a device: `/devices/{name}/pause` and the others."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from api import answers, audit
from api.answers import BadRequest, Route
from api.rest import bulk, documents, parameters, times
from api.rest.bulk import DRY_RUN
from api.rest.changes import SCHEDULED_TIME
from api.rest.parameters import Given, Parameter
from api.security import Caller, Operator
from archive import db
from config import settings
from config.device import Device
from tasks import pausing, wish
from tasks.moving import Change
from tasks.operations import our_device
from tasks.pausing import Wish as Pausing
from tasks.query import TaskQuery
from tasks.state import WAITING
from tasks.wish import Action, Wish

router = APIRouter(prefix="/devices", tags=["devices"], route_class=Route)

_QUEUE = Parameter("dcmQueueName", "One queue of the device; absent: all.")
_PAUSE = (
    _QUEUE,
    Parameter("why", "Shown to whoever wonders."),
    Parameter("until", "End of the pause, yyyyMMddHHmmss in the server's time zone.", SCHEDULED_TIME.schema),
)
_MOVE_TO = Parameter(
    "newDeviceName", "Device that the waiting tasks move to, with their times; several take turns.", repeatable=True
)
_DRAIN = (*_PAUSE, _MOVE_TO, DRY_RUN)

#: Of a drain that moves.
_MOVED: dict[str, Any] = {
    "status": 204,
    "more": {
        200: ("The waiting tasks were moved, or would be.", {"anyOf": [documents.BULK_DONE, documents.PREVIEW]}),
        202: ("Some stay; or they are moved by an operation.",
              {"anyOf": [documents.SOME_REFUSED, documents.OPERATION]}),
        409: ("All stay.", documents.ALL_REFUSED),
    },
    "extra": (bulk.PREFER,),
}  # fmt: skip


@router.post("/{name}/pause", operation_id="pause_device", **documents.of(*_PAUSE, status=204))
def pause(request: Request, caller: Operator, name: str) -> Response:
    """Let a device, or one queue of it, take nothing new."""
    given = parameters.read(request, _PAUSE)
    device = our_device(name)
    _pause(caller, device, _wanted(given, caller, draining=False))
    return answers.empty(given.warnings)


@router.post("/{name}/drain", operation_id="drain_device", **documents.of(*_DRAIN, **_MOVED))
def drain(request: Request, caller: Operator, name: str) -> Response:
    """Let a device finish what runs and take nothing new; waiting tasks stay, or move to other devices."""
    given = parameters.read(request, _DRAIN)
    device = our_device(name)
    wanted = _wanted(given, caller, draining=True)
    move = _move(given, device)
    if given.is_true(DRY_RUN.name):
        if move is None:
            raise BadRequest("dryrun=true: expected newDeviceName with it, it is for moves")
        made = answers.preview(wish.carry_out(move, caller.by, dry_run=True))
        return answers.warned(made, given.warnings)
    if move is not None:
        # Before anything is done.
        wish.check(move)
    _pause(caller, device, wanted)
    made = answers.empty() if move is None else bulk.carried_out(request, caller, move)
    return answers.warned(made, given.warnings)


@router.post("/{name}/resume", operation_id="resume_device", **documents.of(_QUEUE, status=204))
def resume(request: Request, caller: Operator, name: str) -> Response:
    """End the pauses of a device, or of one queue of it."""
    given = parameters.read(request, (_QUEUE,))
    device = our_device(name)
    queue = given.one("dcmQueueName")
    with audit.recorded(caller, "ResumeDevice", _named(device, queue)) as entry, db.transaction() as session:
        entry.count = pausing.resume(session, device, queue)
    return answers.empty(given.warnings)


def _move(given: Given, device: Device) -> Wish | None:
    """Return which tasks move and where; None: they stay."""
    targets = tuple(dict.fromkeys(given.all(_MOVE_TO.name, commas=True)))
    if not targets:
        return None
    if device.name in targets:
        raise BadRequest(f"newDeviceName={device.name}: it is the device that is drained, expected others")
    queue = given.one("dcmQueueName")
    waiting = TaskQuery(
        devices=(device.name,), queues=() if queue is None else (queue,), statuses=tuple(sorted(WAITING))
    )
    return Wish(Action.RESCHEDULE, waiting, Change(devices=targets, keep_scheduled_time=True))


def _wanted(given: Given, caller: Caller, *, draining: bool) -> Pausing:
    until = given.one("until")
    wanted = Pausing(
        who=caller.by.actor,
        why=given.one("why"),
        until=None if until is None else times.scheduled(until, settings.current().zone(), "until"),
        queue=given.one("dcmQueueName"),
        draining=draining,
    )
    if wanted.until is not None and wanted.until <= datetime.now(UTC):
        raise BadRequest(f"until={until}: expected a time that is still to come")
    return wanted


def _pause(caller: Caller, device: Device, wanted: Pausing) -> None:
    action = "DrainDevice" if wanted.draining else "PauseDevice"
    with audit.recorded(caller, action, _named(device, wanted.queue)) as entry, db.transaction() as session:
        pausing.pause(session, device, wanted)
        entry.count = 1


def _named(device: Device, queue: str | None) -> str:
    return device.name if queue is None else f"{device.name}, queue {queue}"
