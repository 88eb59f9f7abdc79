"""What the cluster consists of: AE titles, exporters, queues; and who answers here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import select

from api import answers
from api.answers import Route
from api.rest import documents, parameters, times
from api.rest.documents import TEXT, array, thing
from api.rest.parameters import Given, Parameter, flag
from api.security import Reader
from archive import configuration, db
from config import settings
from config.device import Device
from tasks import slots
from tasks.control import ClusterIdentity
from workers.version import VERSION

router = APIRouter(tags=["cluster"], route_class=Route)

DEVICE = Parameter("dicomDeviceName", "Only of this device; absent: of the whole cluster.")
_WITH_EXPORTERS = flag("includeExporters", "Only queues of exporters, and with the exporters' ids.")


_AET = thing(
    {"dicomAETitle": TEXT, "dicomDeviceName": TEXT}, {"dicomDescription": TEXT, "dcmOtherAETitle": array(TEXT)}
)  # fmt: skip
_EXPORTER = thing({"id": TEXT}, {"description": TEXT})
_QUEUE = thing({"name": TEXT}, {"description": TEXT, "exporterIDs": array(TEXT)})
_VERSION = thing({"product": TEXT, "version": TEXT, "clusterID": documents.nullable(TEXT)})


@router.get("/aets", operation_id="aets", **documents.of(DEVICE, answer=array(_AET)))
def aets(request: Request, _caller: Reader) -> Response:
    """List the AE titles of the cluster."""
    given = parameters.read(request, (DEVICE,))
    found = [
        {
            "dicomAETitle": ae.title,
            **({"dicomDescription": ae.description} if ae.description else {}),
            **({"dcmOtherAETitle": list(ae.other_titles)} if ae.other_titles else {}),
            "dicomDeviceName": device.name,
        }
        for device in _devices(given)
        for ae in device.aes.values()
        if ae.installed is not False and device.installed
    ]
    return answers.as_json(sorted(found, key=lambda one: str(one["dicomAETitle"])), warnings=given.warnings)


@router.get("/export", operation_id="exporters", **documents.of(DEVICE, answer=array(_EXPORTER)))
def exporters(request: Request, _caller: Reader) -> Response:
    """List the exporters of the cluster."""
    given = parameters.read(request, (DEVICE,))
    found: dict[str, str | None] = {}
    for device in _devices(given):
        for exporter in device.exporters.values():
            found[exporter.id] = found.get(exporter.id) or exporter.description
    return answers.as_json([_described("id", *item) for item in sorted(found.items())], warnings=given.warnings)


@router.get("/queue", operation_id="queues", **documents.of(DEVICE, _WITH_EXPORTERS, answer=array(_QUEUE)))
def queues(request: Request, _caller: Reader) -> Response:
    """List the queues of the cluster."""
    given = parameters.read(request, (DEVICE, _WITH_EXPORTERS))
    found: dict[str, str | None] = {}
    of_queue: dict[str, set[str]] = {}
    for device in _devices(given):
        for queue in device.queues.values():
            found[queue.name] = found.get(queue.name) or queue.description
        for exporter in device.exporters.values():
            of_queue.setdefault(exporter.queue, set()).add(exporter.id)
    if not given.is_true("includeExporters"):
        listed = [_described("name", *item) for item in sorted(found.items())]
    else:
        listed = [
            {**_described("name", name, found.get(name)), "exporterIDs": sorted(of_queue[name])}
            for name in sorted(of_queue)
        ]
    return answers.as_json(listed, warnings=given.warnings)


@router.get("/version", operation_id="version", **documents.of(answer=_VERSION))
def version(request: Request, _caller: Reader) -> Response:
    """Say which product answers, and for which cluster."""
    given = parameters.read(request, ())
    with db.transaction() as session:
        cluster_id = session.scalar(select(ClusterIdentity.id))
    return answers.as_json(
        {"product": "arcfleet", "version": VERSION, "clusterID": cluster_id}, warnings=given.warnings
    )


@router.get(
    "/monitor/serverTime",
    operation_id="serverTime",
    **documents.of(answer=thing({"serverTimeWithTimezone": documents.TIME})),
)
def server_time(request: Request, _caller: Reader) -> Response:
    """Say what time it is, by the clock of the database, by which all tasks go."""
    given = parameters.read(request, ())
    now = times.written(_now(), settings.current().zone())
    return answers.as_json({"serverTimeWithTimezone": now}, warnings=given.warnings)


@router.get(
    "/monitor/serverTimeZone",
    operation_id="serverTimeZone",
    **documents.of(answer=thing({"timeZone": TEXT, "offset": documents.NUMBER})),
)
def server_time_zone(request: Request, _caller: Reader) -> Response:
    """Say in which time zone times are written."""
    given = parameters.read(request, ())
    offset = _now().astimezone(settings.current().zone()).utcoffset()
    milliseconds = int(offset.total_seconds() * 1000) if offset else 0
    zone = {"timeZone": settings.current().timezone, "offset": milliseconds}
    return answers.as_json(zone, warnings=given.warnings)


def _now() -> datetime:
    with db.transaction() as session:
        return slots.database_time(session)


def _devices(given: Given) -> Iterator[Device]:
    name = given.one("dicomDeviceName")
    yield from (device for device in configuration.current().ours.values() if name in (None, "*", device.name))


def _described(key: str, name: str, description: str | None) -> dict[str, Any]:
    return {key: name, **({"description": description} if description else {})}
