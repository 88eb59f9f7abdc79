"""The record of a housekeeping job: when it ran, what it did, and when it runs next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import Update, text, update
from sqlalchemy.orm import Session

from archive import db
from tasks.control import HousekeepingJob
from tasks.errors import TaskError
from tasks.slots import NOW


class Job(NamedTuple):
    """A job of a device; `group` is "" where it is for the device as a whole."""

    device: str
    group: str
    name: str


@dataclass(slots=True)
class Record:
    """What the job says of itself in one line."""

    said: str = "ended by an error: see the log of the worker"


@contextmanager
def recorded(job: Job) -> Iterator[Record]:
    """Note begin, end and result of the job that the block does."""
    with db.transaction() as session:
        session.execute(_this(job).values(started_at=NOW))
    record = Record()
    try:
        yield record
    except TaskError as error:
        record.said = str(error)
        raise
    finally:
        with db.transaction() as session:
            session.execute(_this(job).values(ended_at=NOW, result=record.said))


_WAKE = text(
    """
    UPDATE housekeeping_job SET next_run_at =
        LEAST(next_run_at, GREATEST(clock_timestamp(), coalesce(sent_at, '-infinity') + :pause))
    WHERE device = :device AND file_system_group = ANY(:groups) AND job = :job
    """
)


def wake(session: Session, device: str, groups: list[str], name: str, pause: timedelta) -> None:
    """Let a job run now, but not before `pause` has passed since it was last sent."""
    session.execute(_WAKE, {"device": device, "groups": groups, "job": name, "pause": pause})


def last(session: Session, job: Job) -> HousekeepingJob | None:
    """Return what is known of a job; None: it is not configured, or beat has not seen it yet."""
    return session.get(HousekeepingJob, job)


def _this(job: Job) -> Update:
    return update(HousekeepingJob).where(
        HousekeepingJob.device == job.device,
        HousekeepingJob.file_system_group == job.group,
        HousekeepingJob.job == job.name,
    )
