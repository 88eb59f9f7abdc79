"""Look through the studies of a group that nobody has used for long, oldest access first."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from archive import db, model
from archive.deletion import marking, remembering, reports, rules
from archive.deletion.gathering import Disks
from archive.deletion.marking import Candidate
from archive.deletion.remembering import Premise
from archive.deletion.rules import Reason, Trigger
from config.device import Device, FileSystemGroup
from tasks import judging, pins
from tasks.judging import Asked, Look, Order

#: Seconds after which a look has the disks looked at again; several times within `reports.COUNTS_FOR`.
_REFRESH_EVERY_S = 30.0


def look(device: Device, group: FileSystemGroup, asked: Asked, refresh: Callable[[], object] | None) -> Look | None:
    """Mark the studies of a group that nobody used for long and that no rule keeps; None: it has no such rule.

    Args:
        device: the owner of the group.
        group: whose rules hold.
        asked: who wants it.
        refresh: looks at the disks of the device; called before and now and then.
    """
    terms = rules.terms_of(group, device.name, Trigger.AGE)
    if terms.not_accessed_for is None:
        return None
    found, order, refreshed = Look(), Order(device, group, terms, asked), _Refreshed(refresh)
    refreshed.before_page()
    with db.transaction() as session:
        # Later ones wait for the next look, so that this one has an end.
        before: datetime = session.scalars(select(func.now() - terms.not_accessed_for)).one()
        systems = _healthy(session, order, before, found)
        view = _view(session, order)
    remembering.forget(view.premise, systems)
    with db.transaction() as session:
        remembering.forget_marked(session, systems, pins.mark_counts())
        _count_remembered(session, systems, found)
    after = None
    while True:
        refreshed.before_page()
        with db.transaction() as session:
            page = marking.candidates(session, systems, before, after, group.schedule_batch_size)
            if page:
                _judge(session, order, page, found)
        if len(page) < group.schedule_batch_size:
            return found
        after = page[-1]


@dataclass(frozen=True, slots=True)
class _View:
    """The disks as they are reported, and what verdicts rest on that are found with them."""

    disks: Disks
    premise: Premise


def _view(session: Session, order: Order) -> _View:
    systems = session.scalars(select(model.FileSystem)).all()
    disks = judging.disks_of(session, systems, order.device)
    premise = remembering.premise_of(order.device.name, order.group.id, order.terms, systems, disks)
    return _View(disks, premise)


def _healthy(session: Session, order: Order, before: datetime, look: Look) -> list[int]:
    """Return the file systems of a group that can be deleted from; of others the studies are only counted."""
    systems = session.scalars(_writable(order.device, order.group)).all()
    problems = reports.problems(session, systems)
    for one in systems:
        number = marking.count(session, one.id, before, remembering.MOST_COUNTED) if problems[one.id] else 0
        if number:
            look.keeps([rules.HEALTHY], number)
            look.reasons.append(Reason(rules.HEALTHY, f"{number} studies are kept: {problems[one.id]}"))
    return [one.id for one in systems if problems[one.id] is None]


def _count_remembered(session: Session, systems: Sequence[int], look: Look) -> None:
    counted = remembering.count(session, systems)
    for because, number in counted.items():
        look.keeps(because, number)
    look.is_cut = sum(counted.values()) >= remembering.MOST_COUNTED


def _judge(session: Session, order: Order, chosen: Sequence[Candidate], look: Look) -> None:
    """Mark those that no rule keeps, and remember the others; in this order: lock, read, judge, write."""
    locked = remembering.lock(session, [one.study_id for one in chosen])
    view = _view(session, order)
    found = judging.judge(session, order, chosen, look, view.disks)
    sure = [one for one in found if one.place.study_id in locked]
    if sure:
        remembering.remember(session, remembering.number_of(session, view.premise), sure)


def _writable(device: Device, group: FileSystemGroup) -> Select[model.FileSystem]:
    # What is RO or PENDING is never cleaned by itself.
    return (
        select(model.FileSystem)
        .where(
            model.FileSystem.owner_device == device.name,
            model.FileSystem.group_id == group.id,
            model.FileSystem.status.in_([model.FileSystemStatus.CURRENT, model.FileSystemStatus.WRITABLE]),
        )
        .order_by(model.FileSystem.id)
    )


class _Refreshed:
    """Keeps the reports of the disks from going stale during a long look."""

    def __init__(self, refresh: Callable[[], object] | None) -> None:
        self._refresh = refresh
        self._last_s: float | None = None

    def before_page(self) -> None:
        now_s = time.monotonic()
        if self._refresh is not None and (self._last_s is None or now_s - self._last_s >= _REFRESH_EVERY_S):
            self._refresh()
            self._last_s = now_s
