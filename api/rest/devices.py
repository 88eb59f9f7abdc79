"""`/devices`: those of the directory, which of them live, and pausing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api import answers, audit
from api.answers import BadRequest, Route
from api.rest import documents, parameters, times
from api.rest.changes import SCHEDULED_TIME
from api.rest.documents import TEXT, TIME, TRUTH, nullable, thing
from api.rest.parameters import Given, Parameter, flag
from api.security import Caller, Operator, Reader
from archive import configuration, db
from config import archive_service, settings
from config.device import Device
from tasks import circumstances, failover, pausing, slots
from tasks.control import DEAD_AFTER, Pause, WorkerNode
from tasks.failover import Failover
from tasks.operations import our_device
from tasks.pausing import Wish

router = APIRouter(prefix="/devices", tags=["devices"], route_class=Route)

_LIST = (
    Parameter("dicomDeviceName", "Name of the device."),
    flag("hasArcDevExt", "Archive devices only, or others only."),
    flag("dicomInstalled", "Installed devices only, or others only."),
)
#: Workers that were seen for the last time longer ago are not listed, but for the last one of a device.
_RECENT = timedelta(days=1)
_MOST_WORKERS = 20

_QUEUE = Parameter("dcmQueueName", "One queue of the device; absent: all.")
_PAUSE = (
    _QUEUE,
    Parameter("why", "Shown to whoever wonders."),
    Parameter("until", "End of the pause, yyyyMMddHHmmss in the device's time zone.", SCHEDULED_TIME.schema),
)


_PAUSED = thing(
    {"queue": TEXT, "draining": TRUTH, "who": TEXT, "why": nullable(TEXT), "since": TIME, "until": nullable(TIME)}
)
_DEVICE = thing(
    {"dicomDeviceName": TEXT, "dicomInstalled": TRUTH, "hasArcDevExt": TRUTH, "foreign": TRUTH},
    {
        **dict.fromkeys(
            ("dicomDescription", "dicomManufacturer", "dicomManufacturerModelName", "dicomStationName"), TEXT
        ),
        **dict.fromkeys(("dicomSoftwareVersion", "dicomPrimaryDeviceType"), documents.array(TEXT)),
        "liveWorkers": documents.COUNT, "lastHeartbeat": TIME, "paused": documents.array(_PAUSED), "url": TEXT,
        "workers": documents.array(
            thing({"name": TEXT, "queue": TEXT, "state": TEXT, "since": TIME, "lastHeartbeat": TIME})
        ),
        "failover": documents.ANYTHING,
    },
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the database knows of the devices."""

    #: Those that live, or were seen in the last day, by device, the last one seen first.
    workers: dict[str, list[WorkerNode]]
    pauses: Sequence[Pause]
    failovers: dict[str, Failover]
    now: datetime


@router.get(
    "",
    operation_id="devices",
    **documents.of(*_LIST, answer=documents.array(_DEVICE)),
)
def devices(request: Request, _caller: Reader) -> Response:
    """List the devices of the directory, with what lives of them."""
    given = parameters.read(request, _LIST)
    found = [device for _, device in sorted(configuration.current().devices.items()) if _is_meant(device, given)]
    with db.transaction() as session:
        seen = _seen(session)
    zone = settings.current().zone()
    return answers.as_json([_listed(device, seen, zone) for device in found], warnings=given.warnings)


@router.post("/{name}/pause", operation_id="pause_device", **documents.of(*_PAUSE, status=204))
def pause(request: Request, caller: Operator, name: str) -> Response:
    """Let a device, or one queue of it, take nothing new."""
    return _pause(request, caller, name, draining=False)


@router.post("/{name}/drain", operation_id="drain_device", **documents.of(*_PAUSE, status=204))
def drain(request: Request, caller: Operator, name: str) -> Response:
    """Let a device finish what runs and take nothing new; waiting tasks stay until they are moved."""
    return _pause(request, caller, name, draining=True)


@router.post("/{name}/resume", operation_id="resume_device", **documents.of(_QUEUE, status=204))
def resume(request: Request, caller: Operator, name: str) -> Response:
    """End the pauses of a device, or of one queue of it."""
    given = parameters.read(request, (_QUEUE,))
    device = our_device(name)
    queue = given.one("dcmQueueName")
    with audit.recorded(caller, "ResumeDevice", _named(device, queue)) as entry, db.transaction() as session:
        entry.count = pausing.resume(session, device, queue)
    return answers.empty(given.warnings)


def _pause(request: Request, caller: Caller, name: str, *, draining: bool) -> Response:
    given = parameters.read(request, _PAUSE)
    device = our_device(name)
    until = given.one("until")
    wish = Wish(
        who=caller.by.actor,
        why=given.one("why"),
        until=None if until is None else times.scheduled(until, circumstances.zone_of(device), "until"),
        queue=given.one("dcmQueueName"),
        draining=draining,
    )
    if wish.until is not None and wish.until <= datetime.now(UTC):
        raise BadRequest(f"until={until}: expected a time that is still to come")
    action = "DrainDevice" if draining else "PauseDevice"
    with audit.recorded(caller, action, _named(device, wish.queue)) as entry, db.transaction() as session:
        pausing.pause(session, device, wish)
        entry.count = 1
    return answers.empty(given.warnings)


def _named(device: Device, queue: str | None) -> str:
    return device.name if queue is None else f"{device.name}, queue {queue}"


def _is_meant(device: Device, given: Given) -> bool:
    wanted = {"hasArcDevExt": device.is_archive, "dicomInstalled": device.installed}
    fits = all(given.one(name) is None or given.is_true(name) == value for name, value in wanted.items())
    return fits and given.one("dicomDeviceName") in (None, "*", device.name)


def _seen(session: Session) -> _Seen:
    recent = WorkerNode.seen_at > slots.NOW - _RECENT
    # Of a device that is away for longer the last worker is worth knowing too.
    newest = select(func.max(WorkerNode.id)).group_by(WorkerNode.device)
    rows = session.scalars(
        select(WorkerNode).where(recent | WorkerNode.id.in_(newest)).order_by(WorkerNode.seen_at.desc(), WorkerNode.id)
    )
    workers: dict[str, list[WorkerNode]] = {}
    for row in rows:
        workers.setdefault(row.device, []).append(row)
    found = _Seen(workers, pausing.pauses(session), failover.of_devices(session), slots.database_time(session))
    session.expunge_all()
    return found


def _listed(device: Device, seen: _Seen, zone: tzinfo) -> dict[str, Any]:
    values = {
        "dicomDeviceName": device.name,
        "dicomDescription": device.description,
        "dicomManufacturer": device.manufacturer,
        "dicomManufacturerModelName": device.model_name,
        "dicomSoftwareVersion": list(device.software_versions) or None,
        "dicomStationName": device.station_name,
        "dicomPrimaryDeviceType": list(device.primary_device_types) or None,
        "dicomInstalled": device.installed,
        "hasArcDevExt": device.is_archive,
        "foreign": device.is_archive and not device.is_ours,
        "url": archive_service.url_of(device),
        **(_life(device, seen, zone) if device.is_ours else {}),
    }
    return {name: value for name, value in values.items() if value is not None}


def _life(device: Device, seen: _Seen, zone: tzinfo) -> dict[str, Any]:
    workers = seen.workers.get(device.name, [])
    pauses = [
        {
            "queue": pause.queue or "*",
            "draining": pause.draining,
            "who": pause.who,
            "why": pause.why,
            "since": times.written(pause.since, zone),
            "until": None if pause.until is None else times.written(pause.until, zone),
        }
        for pause in seen.pauses
        if pause.device == device.name
    ]
    return {
        "liveWorkers": sum(_lives(worker, seen.now) for worker in workers),
        "lastHeartbeat": times.written(workers[0].seen_at, zone) if workers else None,
        "workers": [_worker(worker, seen.now, zone) for worker in workers[:_MOST_WORKERS]] or None,
        "paused": pauses or None,
        "failover": _failover(device, seen.failovers.get(device.name), zone),
    }


def _lives(worker: WorkerNode, now: datetime) -> bool:
    return worker.stopped_at is None and worker.seen_at > now - DEAD_AFTER


def _worker(worker: WorkerNode, now: datetime, zone: tzinfo) -> dict[str, Any]:
    return {
        "name": worker.name,
        "queue": worker.channel,
        "state": "live" if _lives(worker, now) else "stopped" if worker.stopped_at is not None else "dead",
        "since": times.written(worker.started_at, zone),
        "lastHeartbeat": times.written(worker.seen_at, zone),
    }


def _failover(device: Device, row: Failover | None, zone: tzinfo) -> dict[str, Any] | None:
    """Return where the tasks of a device go when it is away, and what became of them the last time."""
    configured = {
        "devices": list(device.failover_devices) or None,
        "afterSeconds": None if device.failover_after is None else device.failover_after.total_seconds(),
    }
    happened = {} if row is None else {
        "awaySince": times.written(row.since, zone),
        "backSince": None if row.back_at is None else times.written(row.back_at, zone),
        "moved": row.moved,
        "stay": row.stays,
        "reasons": [{"reason": reason, "count": number} for reason, number in row.reasons] or None,
    }  # fmt: skip
    told = {name: value for name, value in {**configured, **happened}.items() if value is not None}
    return told or None
