"""Make many tasks at once: one for each study, series or object that a request means.

Cut into transactions of a thousand, as every bulk work is: each is atomic, the request is not. A request that
carries an idempotency key keeps how far it has come in the transaction that made the tasks, so that its
repetition goes on there, be it after a crash or while the first one still runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol
from uuid import uuid4

from sqlalchemy.orm import Session

from archive import db
from archive.query import Entity
from config.device import Device
from tasks import equality, idempotency, pins, sharing, store
from tasks.idempotency import Once
from tasks.record import NewTask
from tasks.registry import kind_of
from tasks.store import By

#: Tasks that one transaction makes.
CHUNK = 1000

#: The place of a subject in a source; "" is before the first.
Position = str
#: What a task is about: a study, series or object, or the part of something larger that its kind knows.
Subject = Entity | str | None


class Source(Protocol):
    """Where the subjects come from, in an order that stays."""

    def after(self, session: Session, position: Position, limit: int) -> Sequence[tuple[Position, Subject]]:
        """Return the next subjects behind a position, each with its own."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for."""

    source: Source
    #: Makes the task of a subject for a device.
    task: Callable[[Subject, Device], NewTask]
    #: Where the tasks could run: they are shared among those that live.
    devices: tuple[Device, ...]
    #: Make a task also if an equal one is there.
    allow_duplicate: bool = False


@dataclass(slots=True)
class Created:
    """What was made, or would be."""

    #: Tasks that were made.
    count: int = 0
    #: Subjects of which an equal task was there already.
    existed: int = 0
    by_device: dict[str, int] = field(default_factory=dict)
    #: Behind the last subject that was looked at.
    position: Position = ""
    complete: bool = False
    #: The request was answered before, under the same key.
    repeated: bool = False


def create(order: Order, by: By, *, once: Once | None = None, dry_run: bool = False) -> Created:
    """Make a task for each subject.

    Args:
        order: what is asked for.
        by: who asks.
        once: a key that the client gave.
        dry_run: count only.

    Raises:
        InvalidError: a parameter cannot be used by one of the devices.
        ConflictError: the key was used for another request.
    """
    operation = By(by.actor, by.reason, by.operation_id or str(uuid4()))
    key = None if dry_run else once
    done, steps = Created(), 0
    while not done.complete:
        with db.transaction() as session:
            before = None if key is None else idempotency.progress(session, key)
            if before is not None:
                done = Created(**before)
            if done.complete:
                return replace(done, repeated=steps == 0)
            _step(session, order, operation, done, dry_run=dry_run)
            if key is not None:
                idempotency.note(session, key, asdict(done))
        steps += 1
    return done


def _step(session: Session, order: Order, by: By, done: Created, *, dry_run: bool) -> None:
    found = order.source.after(session, done.position, CHUNK)
    if found:
        new, existed = _new(session, order, [subject for _, subject in found], dry_run=dry_run)
        if not dry_run:
            pins.give_back_marks(session, store.insert_tasks(session, new, by))
        done.count += len(new)
        done.existed += existed
        done.by_device = dict(Counter(done.by_device) + Counter(task.device for task in new))
        done.position = found[-1][0]
    done.complete = len(found) < CHUNK


def _new(session: Session, order: Order, subjects: Sequence[Subject], *, dry_run: bool) -> tuple[list[NewTask], int]:
    """Return the tasks to make, and of how many subjects there is one already."""
    wanted = subjects if order.allow_duplicate else list(dict.fromkeys(subjects))
    if not order.allow_duplicate:
        sample = [_task(order, subject, order.devices[0]) for subject in wanted]
        there = equality.many(session, sample, [device.name for device in order.devices], dry_run=dry_run)
        wanted = [subject for subject in wanted if subject not in there]
    devices = sharing.shared(session, order.devices, len(wanted))
    made = [_task(order, subject, device) for subject, device in zip(wanted, devices, strict=True)]
    return made, len(subjects) - len(made)


def _task(order: Order, subject: Subject, device: Device) -> NewTask:
    new = order.task(subject, device)
    return kind_of(new.kind).validate(new, device)
