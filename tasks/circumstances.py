"""What admission needs to know, read from the database and the configuration."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from archive import configuration
from config import settings
from config.device import Device
from tasks import admission
from tasks.admission import Candidate, DestinationState, PauseState, Refusal
from tasks.control import Destination, Pause
from tasks.run import Run
from tasks.state import Status


def queue_refusals(session: Session, device: Device, queue: str, now: datetime) -> list[Refusal]:
    """Return why nothing of this queue may start now; none: it may."""
    cluster = configuration.current()
    return admission.queue_refusals(cluster, device.name, queue, pauses_of(session, device.name), zone_of(device), now)


def run_refusals(session: Session, run: Run, now: datetime) -> list[Refusal]:
    """Return why a reserved run may not start any more: paused, closed or held since its message was sent."""
    cluster = configuration.current()
    device = cluster.devices.get(run.device)
    candidate = Candidate(
        status=Status(run.came_from),
        device=run.device,
        queue=run.queue,
        # It was due when it was reserved; a new time withdraws the reservation.
        scheduled_time=now,
        destination=destination_of(session, run.destination, besides=run.id),
    )
    return admission.admissible(candidate, cluster, pauses_of(session, run.device), zone_of(device), now)


def pauses_of(session: Session, device: str) -> list[PauseState]:
    """Return the pauses that operators set for this device."""
    rows = session.scalars(select(Pause).where(Pause.device == device)).all()
    return [PauseState(row.queue, row.draining, row.who, row.why, row.until) for row in rows]


def zone_of(device: Device | None) -> ZoneInfo:
    """Return the time zone of a device's processing windows."""
    return ZoneInfo((device.time_zone if device else None) or settings.current().timezone)


def destination_of(session: Session, name: str | None, *, besides: int | None = None) -> DestinationState | None:
    """Return what is known of a destination, None if nothing is.

    Args:
        session: the transaction.
        name: as in the task.
        besides: a run that does not count as running there.
    """
    row = session.get(Destination, name) if name is not None else None
    if row is None:
        return None
    going = select(func.count()).where(Run.destination == row.name, Run.ended_at.is_(None))
    running = session.scalar(going if besides is None else going.where(Run.id != besides))
    return DestinationState(
        row.name, row.cap, running or 0, row.held_by, row.held_why, row.held_until,
        row.failures, row.last_failure, row.open_until, row.gentle_cap,
    )  # fmt: skip
