"""Workers: whether each device has them, of which version, with which clock; and what is paused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from api.doctor.case import Case, this_host
from api.doctor.database import skew
from api.doctor.finding import Finding, Subject
from api.words import some, span
from archive import db
from tasks import deletion_task, pausing, slots
from tasks.control import DEAD_AFTER, WorkerNode
from tasks.registry import load_kinds
from workers.queues import INTAKE, channel_of
from workers.version import VERSION

SAY = Subject("workers")

#: How long a worker that ended without a word is spoken of.
_SPOKEN_OF = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Nodes:
    """The worker nodes that live, and those that ended without a word a while ago."""

    now: datetime
    alive: Sequence[WorkerNode]
    silent: Sequence[WorkerNode]

    @classmethod
    def read(cls, session: Session) -> Nodes:
        """Read them."""
        now = slots.database_time(session)
        not_stopped = or_(WorkerNode.stopped_at.is_(None), WorkerNode.stopped_at > now)
        rows = session.scalars(
            select(WorkerNode).where(not_stopped, WorkerNode.seen_at > now - _SPOKEN_OF).order_by(WorkerNode.name)
        ).all()
        is_alive = {row.id: row.seen_at > now - DEAD_AFTER for row in rows}
        return cls(now, [r for r in rows if is_alive[r.id]], [r for r in rows if not is_alive[r.id]])

    def of(self, channel: str) -> list[WorkerNode]:
        """Return those that live and serve a channel."""
        return [row for row in self.alive if row.channel == channel]


def alive(case: Case) -> Iterator[Finding]:
    """See that each device has a worker for its tasks, and one for its upkeep."""
    found = _read()
    seen = (*found.alive, *found.silent)
    case.here = frozenset(row.device for row in seen if row.host == this_host())
    for device in case.devices():
        for housekeeping in (False, True):
            channel = channel_of(device.name, housekeeping=housekeeping)
            yield _served(channel, device.name, found)
    for row in found.silent:
        if case.is_meant(row.device) and found.of(row.channel):
            said = f"{row.name} (process {row.pid}) was not heard of for {_ago(found, row)} and did not say goodbye"
            do = "see its log; its runs were rescued"
            yield SAY.note("ended", said, do=do, device=row.device)
    if case.wishes.device is None:
        yield from _intake(found)
    strange = sorted({row.device for row in found.alive if row.device} - set(case.known.ours))
    if strange:
        do = "end them, or put the device back into the configuration"
        yield SAY.warning("strangers", f"workers of {some(strange)}", "devices of the configuration", do)


def alike(case: Case) -> Iterator[Finding]:
    """See that all workers are of our version."""
    rows = [row for row in _read().alive if case.is_meant(row.device)]
    other = [row for row in rows if row.version != VERSION]
    for row in other:
        do = "update and restart it, or update arcfleet here"
        yield SAY.warning("version", f"{row.name} is arcfleet {row.version}", VERSION, do, device=row.device or None)
    if rows and not other:
        yield SAY.ok("version", f"{VERSION} on {len(rows)} nodes")


def clocks(case: Case) -> Iterator[Finding]:
    """Compare the clocks of the workers' machines with the database's, as their heartbeats tell them."""
    by_host: dict[str, WorkerNode] = {}
    for row in _read().alive:
        if row.clock_ahead_s is not None and case.is_meant(row.device):
            known = by_host.setdefault(row.host, row)
            if abs(row.clock_ahead_s) < abs(known.clock_ahead_s or 0.0):
                by_host[row.host] = row  # the one whose statement was on its way for the shortest time
    for host, row in sorted(by_host.items()):
        yield skew(f"clock of {host}", row.clock_ahead_s or 0.0, row.name, SAY)


def pauses(case: Case) -> Iterator[Finding]:
    """List devices and queues that take nothing new because somebody wants it so."""
    with db.transaction() as session:
        now, rows = slots.database_time(session), pausing.pauses(session)
    for row in rows:
        if not case.is_meant(row.device):
            continue
        what = f"queue {row.queue}" if row.queue else "all queues"
        because = f": {row.why}" if row.why else ""
        until = f", until {row.until:%Y-%m-%d %H:%M:%S %Z}" if row.until is not None else ""
        how = "drained" if row.draining else "paused"
        found = f"{how} by {row.who} since {span((now - row.since).total_seconds())}{until}{because}"
        option = f" --queue {row.queue}" if row.queue else ""
        do = f"arcfleet device resume {row.device}{option}"
        if row.until is not None:
            yield SAY.note(f"{what} of {row.device}", found, do=do, device=row.device)
        else:
            yield SAY.warning(f"{what} of {row.device}", found, "resumed when the work is done", do, device=row.device)


def queues(case: Case) -> Iterator[Finding]:
    """List queues to which no task of this version goes."""
    of_kinds = {kind.queue for kind in load_kinds().values()}
    for device in case.devices():
        used = of_kinds | {exporter.queue for exporter in device.exporters.values()}
        idle = sorted(set(device.queues) - used)
        if idle:
            found = f"no kind of task and no exporter uses {some(idle)}"
            yield SAY.note(f"queues of {device.name}", found, device=device.name)
        if deletion_task.QUEUE not in device.queues and device.file_system_groups:
            found = f"{device.name} has file systems, and no queue {deletion_task.QUEUE}"
            do = f"add dcmQueueName={deletion_task.QUEUE}, or no study is ever deleted"
            yield SAY.warning(f"queues of {device.name}", found, deletion_task.QUEUE, do, device=device.name)


def _served(channel: str, device: str, found: Nodes) -> Finding:
    what = f"channel {channel}"
    alive = found.of(channel)
    if alive:
        said = some(f"{row.name} ({row.concurrency} processes, seen {_ago(found, row)} ago)" for row in alive)
        return SAY.ok(what, said, device=device)
    last = max((row for row in found.silent if row.channel == channel), key=lambda row: row.seen_at, default=None)
    said = "no worker" if last is None else f"no worker; {last.name} was seen {_ago(found, last)} ago"
    return SAY.error(what, said, "one that lives", f"arcfleet worker --device {device}", device=device)


def _intake(found: Nodes) -> Iterator[Finding]:
    """Say whether somebody takes the jobs that other services send."""
    what, alive = f"channel {INTAKE}", found.of(INTAKE)
    if alive:
        yield SAY.ok(what, some(f"{row.name} (seen {_ago(found, row)} ago)" for row in alive))
    elif any(row.channel == INTAKE for row in found.silent):
        found_ = "no `arcfleet intake` lives: jobs of other services wait"
        yield SAY.warning(what, found_, "one that lives", "arcfleet intake")
    else:
        yield SAY.note(what, "no `arcfleet intake` was seen: jobs of other services wait", do="arcfleet intake")


def _ago(found: Nodes, row: WorkerNode) -> str:
    return span(max(0.0, (found.now - row.seen_at).total_seconds()))


def _read() -> Nodes:
    with db.transaction() as session:
        return Nodes.read(session)
