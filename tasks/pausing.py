"""Pause, drain and resume devices or single queues of them: rows, so that it works without LDAP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from config.device import Device
from tasks import slots
from tasks.control import Pause
from tasks.errors import NotFoundError


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants of a device."""

    who: str
    why: str | None = None
    #: None: until somebody resumes it.
    until: datetime | None = None
    #: None: all queues.
    queue: str | None = None
    #: Finish what runs, then stay empty.
    draining: bool = False


def pause(session: Session, device: Device, wish: Wish) -> None:
    """Let the device, or one queue of it, take nothing new; a second wish replaces the first.

    Raises:
        NotFoundError: the device has no such queue.
    """
    values = {
        "draining": wish.draining,
        "who": wish.who,
        "why": wish.why,
        "since": func.now(),
        "until": wish.until,
    }
    key = {"device": device.name, "queue": _queue(device, wish.queue)}
    statement = insert(Pause).values(**key, **values)
    session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=values))


def resume(session: Session, device: Device, queue: str | None) -> int:
    """Take pauses away, of one queue or all of the device's; return how many there were.

    Raises:
        NotFoundError: the device has no such queue.
    """
    of_queue = Pause.queue == _queue(device, queue) if queue is not None else Pause.queue.is_not(None)
    gone = session.scalars(delete(Pause).where(Pause.device == device.name, of_queue).returning(Pause.queue)).all()
    slots.wake(session, {device.name})
    return len(gone)


def pauses(session: Session) -> Sequence[Pause]:
    """Return all pauses that are not over."""
    not_over = or_(Pause.until.is_(None), Pause.until > func.now())
    return session.scalars(select(Pause).where(not_over).order_by(Pause.device, Pause.queue)).all()


def _queue(device: Device, name: str | None) -> str:
    if name is not None and name not in device.queues:
        raise NotFoundError(
            f"No Queue configured with name:{name} at Device{{name={device.name}}}, "
            f"expected one of {', '.join(sorted(device.queues))}"
        )
    return name or ""
