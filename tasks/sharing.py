"""Which of several devices gets a new task: one that lives, with the least waiting."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from archive import db
from config.device import Device
from tasks import query as queries
from tasks import slots
from tasks.control import DEAD_AFTER, WorkerNode

#: Whoever has more waiting than this has a lot, and need not be counted further.
_COUNTED = 10_000


def least_waiting(devices: Sequence[Device]) -> Device:
    """Return the device for one task."""
    if len(devices) == 1:
        return devices[0]
    with db.transaction() as session:
        return shared(session, devices, 1)[0]


def shared(session: Session, devices: Sequence[Device], number: int) -> list[Device]:
    """Return a device for each of so many tasks, so that what waits is level in the end.

    A device without a live worker gets something only if none has one.
    """
    if len(devices) == 1:
        return [devices[0]] * number
    alive = _alive(session)
    able = [device for device in devices if device.name in alive] or list(devices)
    loads = [
        (queries.count_waiting(session, device.name, at_most=_COUNTED), device.name, place)
        for place, device in enumerate(able)
    ]
    heapq.heapify(loads)
    chosen = []
    for _ in range(number):
        load, name, place = loads[0]
        chosen.append(able[place])
        heapq.heapreplace(loads, (load + 1, name, place))
    return chosen


def _alive(session: Session) -> set[str]:
    seen = WorkerNode.seen_at > slots.NOW - DEAD_AFTER
    return set(session.scalars(select(WorkerNode.device).where(WorkerNode.stopped_at.is_(None), seen)))
