"""The record of a housekeeping job: when it ran, what it did, and when it runs next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import Update, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from archive import db
from tasks.control import HousekeepingJob
from tasks.errors import ConflictError, TaskError
from tasks.slots import NOW

#: Interval of a job that only runs when somebody asks for it.
BY_REQUEST_S = 0.0
#: When such a job runs next, in as good as never.
_NEVER = timedelta(days=365 * 100)


class Job(NamedTuple):
    """A job of a device; `group` is "" where it is for the device as a whole."""

    device: str
    group: str
    name: str


#: What is recorded of a job that raised something which is none of our errors.
ENDED_BY_AN_ERROR = "ended by an error: see the log of the worker"


@dataclass(slots=True)
class Record:
    """What the job says of itself in one line."""

    said: str = ENDED_BY_AN_ERROR


@contextmanager
def alone(job: Job, doing: str) -> Iterator[None]:
    """Let one at a time do this job; the lock is gone with the process that holds it.

    Raises:
        ConflictError: somebody does it just now; the text says what, by `doing`, and since when.
    """
    key = func.hashtextextended("/".join(job), 2)
    with db.engine().connect() as connection:
        has_it = connection.scalar(select(func.pg_try_advisory_lock(key)))
        connection.commit()
        if not has_it:
            with db.transaction() as session:
                row = last(session, job)
            since = f" since {row.started_at:%Y-%m-%d %H:%M:%S %Z}" if row is not None and row.started_at else ""
            raise ConflictError(f"Group {job.group} of device {job.device}: {doing}{since}")
        try:
            yield
        finally:
            connection.scalar(select(func.pg_advisory_unlock(key)))
            connection.commit()


@contextmanager
def recorded(job: Job) -> Iterator[Record]:
    """Note begin, end and result of the job that the block does; also of one that beat does not know."""
    row = insert(HousekeepingJob).values(
        device=job.device, file_system_group=job.group, job=job.name, interval_s=BY_REQUEST_S,
        next_run_at=NOW + _NEVER, started_at=NOW,
    )  # fmt: skip
    with db.single_statements() as session:
        session.execute(
            row.on_conflict_do_update(index_elements=["device", "file_system_group", "job"], set_={"started_at": NOW})
        )
    record = Record()
    try:
        yield record
    except TaskError as error:
        record.said = str(error)
        raise
    finally:
        with db.single_statements() as session:
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
    """Return what is known of a job; None: it never ran, and beat has not seen it yet."""
    return session.get(HousekeepingJob, job)


def _this(job: Job) -> Update:
    return update(HousekeepingJob).where(
        HousekeepingJob.device == job.device,
        HousekeepingJob.file_system_group == job.group,
        HousekeepingJob.job == job.name,
    )
