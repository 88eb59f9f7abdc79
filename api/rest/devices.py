"""`/devices`: those of the directory, which of them live, and pausing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api import answers
from api.answers import Route
from api.rest import documents, parameters, times
from api.rest.documents import TEXT, TIME, TRUTH, nullable, thing
from api.rest.parameters import Given, Parameter, flag
from api.security import Reader
from archive import configuration, db
from config import archive_service, settings
from config.device import Device
from tasks import failover, pausing, slots
from tasks.control import DEAD_AFTER, Pause, WorkerNode
from tasks.failover import Failover

router = APIRouter(prefix="/devices", tags=["devices"], route_class=Route)

_LIST = (
    Parameter("dicomDeviceName", "Name of the device."),
    flag("hasArcDevExt", "Archive devices only, or others only."),
    flag("dicomInstalled", "Installed devices only, or others only."),
)
#: Workers that were seen for the last time longer ago are not listed, but for the last one of a device.
_RECENT = timedelta(days=1)
_MOST_WORKERS = 20

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
