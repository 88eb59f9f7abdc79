"""Beat: whether one leads, and whether the jobs that it sends are done."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import select

from api.doctor.case import Case
from api.doctor.finding import Finding, Subject
from api.words import span
from archive import db
from tasks import jobs as jobs_of_devices
from tasks import slots
from tasks.control import HousekeepingJob, Leader
from workers.beat import NO_LEADER_FOR_S

SAY = Subject("beat")

#: How late a job may be: it waits for beat, for the broker, and for a process.
_LATE = timedelta(minutes=2)


def leads(_case: Case) -> Iterator[Finding]:
    """See that one beat leads."""
    with db.transaction() as session:
        now = slots.database_time(session)
        row = session.scalars(select(Leader).where(Leader.role == "beat")).one_or_none()
    if row is not None and row.until > now:
        left = (row.until - now).total_seconds()
        yield SAY.ok("leader", f"{row.holder}, its lease lasts {left:.0f} s more")
        return
    found = "nobody leads"
    if row is not None:
        found += f"; {row.holder} did until {span((now - row.until).total_seconds())} ago"
    found += f"; after {NO_LEADER_FOR_S} s workers help themselves"
    yield SAY.error("leader", found, "one beat", "arcfleet beat")


def jobs(case: Case) -> Iterator[Finding]:
    """See that housekeeping jobs are sent, started and done."""
    with db.transaction() as session:
        now = slots.database_time(session)
        rows = session.scalars(select(HousekeepingJob)).all()
    wanted = {device.name for device in case.devices()}
    troubled = 0
    for row in rows:
        if row.device not in wanted:
            continue
        name = "/".join(part for part in (row.device, row.file_system_group, row.job) if part)
        late = now - row.next_run_at
        if late > _LATE:
            troubled += 1
            do = "see the worker with --housekeeping, and beat"
            found = f"due since {span(late.total_seconds())}"
            yield SAY.warning(f"job {name}", found, f"every {span(row.interval_s)}", do, device=row.device)
        if row.result == jobs_of_devices.ENDED_BY_AN_ERROR:
            troubled += 1
            do = "see the log of the worker with --housekeeping"
            yield SAY.warning(f"job {name}", str(row.result), "no error", do, device=row.device)
    if rows and not troubled:
        yield SAY.ok("jobs", f"{sum(row.device in wanted for row in rows)} in time")
