"""Destinations that fail, are held, or are limited."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from api.doctor.case import Case
from api.doctor.finding import Finding, Subject
from api.words import span
from archive import db
from tasks import destinations as known
from tasks import slots
from tasks.breaker import Phase
from tasks.destinations import Seen
from tasks.exporters import registry

SAY = Subject("destinations")


def states(case: Case) -> Iterator[Finding]:
    """List destinations that are left alone because they fail, and those that somebody holds."""
    with db.transaction() as session:
        now = slots.database_time(session)
        found = known.listed(session, registry.destinations(case.known))
    troubled = [finding for one in found for finding in _states(one, now)]
    yield from troubled
    if not troubled:
        yield SAY.ok("destinations", f"{len(found)}, none fails and none is held")


def _states(one: Seen, now: datetime) -> Iterator[Finding]:
    row = one.row
    if row is None:
        return
    waiting = f"; {one.waiting} tasks wait" if one.waiting else ""
    if one.breaker.phase(now) in (Phase.OPEN, Phase.HALF_OPEN):
        until = f" until {row.open_until:%Y-%m-%d %H:%M:%S %Z}" if row.open_until and row.open_until > now else ""
        found = f"left alone{until} after {row.failures} failures in a row: {row.last_failure}{waiting}"
        do = f"mend it, then arcfleet destination release {one.name}"
        yield SAY.warning(one.name, found, "one that answers", do)
    if row.held_by is not None and (row.held_until is None or row.held_until > now):
        since = f" since {span((now - row.held_since).total_seconds())}" if row.held_since else ""
        until = f", until {row.held_until:%Y-%m-%d %H:%M:%S %Z}" if row.held_until else ""
        because = f": {row.held_why}" if row.held_why else ""
        found, do = f"held by {row.held_by}{since}{until}{because}{waiting}", f"arcfleet destination release {one.name}"
        if row.held_until is None:
            yield SAY.warning(one.name, found, "released when the work is done", do)
        else:
            yield SAY.note(one.name, found, do=do)
