"""What beat has done on each device: which jobs there are, when each is due, and the jobs themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta

import structlog
from sqlalchemy import Update, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from archive import configuration, db
from archive.storage import unlinking
from config.device import Cluster, Device
from tasks import purge
from tasks.control import DEAD_AFTER, HousekeepingJob
from tasks.slots import NOW
from workers.dispatch import Dispatcher
from workers.queues import HOUSEKEEPING, channel_of

_log = structlog.get_logger()

#: A job whose message was sent so long ago without being started is sent again.
_LOST_AFTER = timedelta(seconds=60)

#: How often history, ended runs and accepted messages that are too old are removed.
_CLEAN_EVERY = timedelta(hours=1)

#: How often files are removed whose storing was never finished.
_CLEAR_EVERY = timedelta(minutes=10)

#: What a message says: job and file-system group ("" for none), on this device.
Job = tuple[str, str, str]


def run(device_name: str, file_system_group: str, job: str) -> None:
    """Celery's entrance on the housekeeping channel: do one job of one device."""
    found = JOBS.get(job)
    device = configuration.current().devices.get(device_name)
    if found is None or device is None:
        _log.warning("housekeeping refused", job=job, device=device_name, known=sorted(JOBS))
        return
    key = (device_name, file_system_group, job)
    with db.transaction() as session:
        session.execute(_this(key).values(started_at=NOW))
    said = "ended by an error: see the log of the worker"
    try:
        said = found(device)
    finally:
        with db.transaction() as session:
            session.execute(_this(key).values(ended_at=NOW, result=said))
    _log.info("housekeeping", job=job, device=device_name, result=said)


def send_due(dispatcher: Dispatcher) -> None:
    """Send the jobs that are due, each once however many beats tick; called by the leader."""
    global _known
    now_wanted = wanted(configuration.current())
    with db.transaction() as session:
        if now_wanted != _known:
            _keep(session, now_wanted)
        due = _take_due(session)
    _known = now_wanted
    for device, group, job in due:
        dispatcher.send_job(channel_of(device, housekeeping=True), [device, group, job])


def wanted(cluster: Cluster) -> dict[Job, float]:
    """Return which jobs the configuration asks for, with their interval in seconds."""
    return {key: every.total_seconds() for device in cluster.ours.values() for key, every in _of(device)}


def _of(device: Device) -> Iterator[tuple[Job, timedelta]]:
    if device.purge_interval is not None:
        yield (device.name, "", "purge_tasks"), device.purge_interval
    yield (device.name, "", "clean_records"), _CLEAN_EVERY
    yield (device.name, "", "clear_unfinished"), _CLEAR_EVERY


#: What this process has seen to be in the database.
_known: dict[Job, float] = {}


def _keep(session: Session, now_wanted: Mapping[Job, float]) -> None:
    """Make the rows what the configuration says; a changed interval counts from the last run."""
    existing = {(r.device, r.file_system_group, r.job): r for r in session.scalars(select(HousekeepingJob))}
    for key, row in existing.items():
        if key not in now_wanted:
            session.delete(row)
    for key, every_s in now_wanted.items():
        device, group, job = key
        new = insert(HousekeepingJob).values(
            device=device, file_system_group=group, job=job, interval_s=every_s,
            next_run_at=NOW + timedelta(seconds=every_s),
        )  # fmt: skip
        session.execute(
            new.on_conflict_do_update(
                index_elements=["device", "file_system_group", "job"],
                set_={
                    "interval_s": every_s,
                    "next_run_at": func.least(
                        HousekeepingJob.next_run_at,
                        func.coalesce(HousekeepingJob.sent_at, NOW) + timedelta(seconds=every_s),
                    ),
                },
            )
        )


# Only where somebody takes it: what is due for a device that is away is made up once when it is back.
_TAKE = text(
    """
    UPDATE housekeeping_job SET sent_at = clock_timestamp(),
           next_run_at = CASE WHEN next_run_at <= clock_timestamp()
                              THEN clock_timestamp() + make_interval(secs => interval_s) ELSE next_run_at END
    WHERE (device, file_system_group, job) IN (
        SELECT device, file_system_group, job FROM housekeeping_job AS j
        WHERE (next_run_at <= clock_timestamp()
               OR (sent_at < clock_timestamp() - :lost AND (started_at IS NULL OR started_at < sent_at)))
          AND EXISTS (SELECT 1 FROM worker_node AS w WHERE w.channel = j.device || :housekeeping
                      AND w.stopped_at IS NULL AND w.seen_at > clock_timestamp() - :dead_after)
        FOR UPDATE SKIP LOCKED)
    RETURNING device, file_system_group, job
    """
)


def _take_due(session: Session) -> list[Job]:
    rows = session.execute(_TAKE, {"lost": _LOST_AFTER, "housekeeping": HOUSEKEEPING, "dead_after": DEAD_AFTER}).all()
    return [(row.device, row.file_system_group, row.job) for row in rows]


def _this(key: Job) -> Update:
    device, group, job = key
    return update(HousekeepingJob).where(
        HousekeepingJob.device == device,
        HousekeepingJob.file_system_group == group,
        HousekeepingJob.job == job,
    )


def _clear_unfinished(device: Device) -> str:
    return str(unlinking.clear_unfinished(device.name))


#: Jobs by name; each returns one line on what it did.
JOBS: dict[str, Callable[[Device], str]] = {
    "clear_unfinished": _clear_unfinished,
    "purge_tasks": purge.purge_tasks,
    "clean_records": purge.clean_records,
}
