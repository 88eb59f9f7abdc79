"""`/destinations`: where tasks send to, as the whole cluster sees it; holding, releasing and capping them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from api import answers, audit
from api.answers import BadRequest, Route
from api.rest import documents, parameters, times
from api.rest.changes import SCHEDULED_TIME
from api.rest.documents import TEXT, TIME, nullable, thing
from api.rest.parameters import Parameter
from api.security import Operator, Reader
from archive import configuration, db
from config import settings
from tasks import destinations as known
from tasks import slots
from tasks.breaker import Breaker, Phase
from tasks.control import Destination
from tasks.destinations import Hold, Seen
from tasks.exporters import registry

router = APIRouter(prefix="/destinations", tags=["destinations"], route_class=Route)

#: Runs at once that a cap may allow.
_MOST_RUNS = 10_000

#: In words that do not mean the opposite of a breaker's: an open one lets nothing through.
_STATES = {Phase.CLOSED: "ready", Phase.OPEN: "failing", Phase.HALF_OPEN: "tried again", Phase.GENTLE: "tried again"}

_HOLD = (
    Parameter("why", "Shown to whoever wonders."),
    Parameter("until", "End of the hold, yyyyMMddHHmmss in ARCFLEET_TIMEZONE.", SCHEDULED_TIME.schema),
)
_CAP = (
    Parameter(
        "cap", "Runs of the whole cluster that may go there at once; absent: any number.",
        {"type": "integer", "minimum": 0, "maximum": _MOST_RUNS},
    ),
)  # fmt: skip


_DESTINATION = thing(
    {"destination": TEXT, "state": {"type": "string", "enum": sorted({*_STATES.values(), "held"})}},
    {
        **dict.fromkeys(("running", "waiting", "cap"), documents.COUNT),
        "held": thing({"who": TEXT, "why": nullable(TEXT), "since": nullable(TIME), "until": nullable(TIME)}),
        "breaker": thing(
            {
                "phase": TEXT, "failures": documents.COUNT, "lastFailure": nullable(TEXT), "failedAt": nullable(TIME),
                "openUntil": nullable(TIME), "runsAtOnce": nullable(documents.COUNT),
            }
        ),
        "exporters": documents.array(TEXT),
    },
)  # fmt: skip


@router.get("", operation_id="destinations", **documents.of(answer=documents.array(_DESTINATION)))
def destinations(request: Request, _caller: Reader) -> Response:
    """List the destinations: what runs and waits, caps, holds, and whether they answer."""
    given = parameters.read(request, ())
    leading = registry.destinations(configuration.current())
    with db.transaction() as session:
        now = slots.database_time(session)
        found = known.listed(session, leading)
    listed = [_listed(one, leading.get(one.name, []), now) for one in found]
    return answers.as_json(listed, warnings=given.warnings)


@router.post("/{name:path}/hold", operation_id="hold_destination", **documents.of(*_HOLD, status=204))
def hold(request: Request, caller: Operator, name: str) -> Response:
    """Let nothing new go to a destination; runs that go on are left alone."""
    given = parameters.read(request, _HOLD)
    until = given.one("until")
    wish = Hold(
        caller.by.actor,
        given.one("why"),
        None if until is None else times.scheduled(until, settings.current().zone(), "until"),
    )
    if wish.until is not None and wish.until <= datetime.now(UTC):
        raise BadRequest(f"until={until}: expected a time that is still to come")
    with audit.recorded(caller, "HoldDestination", name) as entry, db.transaction() as session:
        known.check_known(session, name, registry.destinations(configuration.current()))
        known.hold(session, name, wish)
        entry.count = 1
    return answers.empty(given.warnings)


@router.post("/{name:path}/release", operation_id="release_destination", **documents.of(status=204))
def release(request: Request, caller: Operator, name: str) -> Response:
    """End a hold; of a destination that fails, try it now."""
    given = parameters.read(request, ())
    with audit.recorded(caller, "ReleaseDestination", name) as entry, db.transaction() as session:
        known.check_known(session, name, registry.destinations(configuration.current()))
        entry.count = int(known.release(session, name))
    return answers.empty(given.warnings)


@router.post("/{name:path}/cap", operation_id="cap_destination", **documents.of(*_CAP, status=204))
def cap(request: Request, caller: Operator, name: str) -> Response:
    """Let at most so many runs of the cluster go to a destination at once."""
    given = parameters.read(request, _CAP)
    runs = given.number("cap", 0, _MOST_RUNS)
    what = f"{name} {'without cap' if runs is None else f'cap {runs}'}"
    with audit.recorded(caller, "CapDestination", what) as entry, db.transaction() as session:
        known.check_known(session, name, registry.destinations(configuration.current()))
        known.cap(session, name, runs)
        entry.count = 1
    return answers.empty(given.warnings)


def _listed(one: Seen, exporters: list[str], now: datetime) -> dict[str, Any]:
    row = one.row
    values = {
        "destination": one.name,
        "state": _state(one, now),
        "running": one.running,
        "waiting": one.waiting,
        "cap": row.cap if row is not None else None,
        "held": _held(row) if row is not None and _is_held(row, now) else None,
        "breaker": _breaker(row, one.breaker, now) if row is not None and one.breaker != Breaker() else None,
        "exporters": sorted(exporters) or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _state(one: Seen, now: datetime) -> str:
    if one.row is not None and _is_held(one.row, now):
        return "held"
    return _STATES[one.breaker.phase(now)]


def _is_held(row: Destination, now: datetime) -> bool:
    return row.held_by is not None and (row.held_until is None or row.held_until > now)


def _held(row: Destination) -> dict[str, Any]:
    return {"who": row.held_by, "why": row.held_why, "since": _time(row.held_since), "until": _time(row.held_until)}


def _breaker(row: Destination, breaker: Breaker, now: datetime) -> dict[str, Any]:
    return {
        "phase": breaker.phase(now).value,
        "failures": breaker.failures,
        "lastFailure": row.last_failure,
        "failedAt": _time(row.failed_at),
        "openUntil": _time(breaker.open_until),
        "runsAtOnce": breaker.gentle_cap,
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else times.written(at, settings.current().zone())
