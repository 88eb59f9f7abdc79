"""What beat has done on each device: which jobs there are, when each is due, and the jobs themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta

import structlog
from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from archive import configuration, db, ledger
from archive.deletion import deleting, reports
from archive.storage import unlinking
from config.device import Cluster, Device, FileSystemGroup
from tasks import alarms, deletions, failover, jobs, purge, stored
from tasks.control import DEAD_AFTER, HousekeepingJob
from tasks.deletions import Asked
from tasks.errors import ConflictError, InvalidError
from tasks.jobs import Job
from tasks.slots import NOW
from tasks.store import By
from tasks.stored import SCHEDULE_DELETIONS
from workers.dispatch import Dispatcher
from workers.queues import HOUSEKEEPING, channel_of

_log = structlog.get_logger()

#: A job whose message was sent so long ago without being started is sent again.
LOST_AFTER = timedelta(seconds=60)

#: How often history, ended runs and accepted messages that are too old are removed.
_CLEAN_EVERY = timedelta(hours=1)

#: How often series are looked for that nobody sends to any more.
_CLOSE_EVERY = timedelta(seconds=30)

#: How often a device looks at its file systems; several times within `reports.COUNTS_FOR`.
_CHECK_EVERY = timedelta(seconds=30)

#: How often a device looks whether one is away whose tasks it gets.
_TAKE_OVER_EVERY = timedelta(seconds=5)

#: How often deletions are canceled whose study was used since.
_END_EVERY = timedelta(seconds=60)

#: How often waiting tasks are looked for that keep their study no more.
_TELL_EVERY = timedelta(minutes=10)

#: How often studies to delete are looked for where that is done when a series was stored.
_WITHOUT_INTERVAL = timedelta(days=1)

#: How often files are removed whose storing was never finished.
_CLEAR_EVERY = timedelta(minutes=10)

#: What a message says: device, file-system group ("" for none), job.
Key = tuple[str, str, str]


def run(device_name: str, file_system_group: str, job: str) -> None:
    """Celery's entrance on the housekeeping channel: do one job of one device."""
    device = configuration.current().devices.get(device_name)
    if device is not None and job == SCHEDULE_DELETIONS and file_system_group in device.file_system_groups:
        said = _schedule_deletions(device, device.file_system_groups[file_system_group])
    elif device is not None and job in JOBS:
        with jobs.recorded(Job(device_name, file_system_group, job)) as record:
            said = record.said = JOBS[job](device)
    else:
        _log.warning("housekeeping refused", job=job, device=device_name, known=sorted(JOBS))
        return
    _log.info("housekeeping", job=job, device=device_name, group=file_system_group, result=said)


def send_due(dispatcher: Dispatcher) -> None:
    """Send the jobs that are due, each once however many beats tick; called by the leader."""
    global _known
    now_wanted = wanted(configuration.current())
    is_known = now_wanted == _known
    with db.single_statements() if is_known else db.transaction() as session:
        if not is_known:
            _keep(session, now_wanted)
        due = _take_due(session)
    _known = now_wanted
    for device, group, job in due:
        dispatcher.send_job(channel_of(device, housekeeping=True), [device, group, job])


def is_to_be_kept() -> bool:
    """Tell whether the configuration asks for other jobs than this process has seen in the database."""
    return wanted(configuration.current()) != _known


def wanted(cluster: Cluster) -> dict[Key, float]:
    """Return which jobs the configuration asks for, with their interval in seconds."""
    return {key: every.total_seconds() for device in cluster.ours.values() for key, every in _of(device)}


def _of(device: Device) -> Iterator[tuple[Key, timedelta]]:
    if device.purge_interval is not None:
        yield (device.name, "", "purge_tasks"), device.purge_interval
    yield (device.name, "", "clean_records"), _CLEAN_EVERY
    yield (device.name, "", "clear_unfinished"), _CLEAR_EVERY
    yield (device.name, "", "close_silent_series"), _CLOSE_EVERY
    if failover.wards_of(device.name):
        yield (device.name, "", "take_over"), _TAKE_OVER_EVERY
    if device.file_system_groups:
        yield (device.name, "", "check_file_systems"), _CHECK_EVERY
        yield (device.name, "", "end_obsolete_deletions"), _END_EVERY
        yield (device.name, "", "tell_expired_pins"), _TELL_EVERY
    for group in device.file_system_groups.values():
        if group.schedule_interval is not None:
            yield (device.name, group.id, SCHEDULE_DELETIONS), group.schedule_interval
        elif group.schedule_on_series_stored:
            yield (device.name, group.id, SCHEDULE_DELETIONS), _WITHOUT_INTERVAL


#: What this process has seen to be in the database.
_known: dict[Key, float] = {}


def _keep(session: Session, now_wanted: Mapping[Key, float]) -> None:
    """Make the rows what the configuration says; a changed interval counts from the last run."""
    existing = {(r.device, r.file_system_group, r.job): r for r in session.scalars(select(HousekeepingJob))}
    for key, row in existing.items():
        if key not in now_wanted and row.interval_s != jobs.BY_REQUEST_S:
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


def _take_due(session: Session) -> list[Key]:
    rows = session.execute(_TAKE, {"lost": LOST_AFTER, "housekeeping": HOUSEKEEPING, "dead_after": DEAD_AFTER}).all()
    return [(row.device, row.file_system_group, row.job) for row in rows]


def _clear_unfinished(device: Device) -> str:
    cleared = unlinking.clear_unfinished(device.name)
    with db.transaction() as session:
        deleting.finish(session, device.name)
    return str(cleared)


def _close_silent_series(device: Device) -> str:
    del device  # whoever received them: a device whose worker is away has its series closed too
    with db.transaction() as session:
        closed = ledger.close_silent_series(session)
    if closed:
        for name in configuration.current().ours:
            stored.series_stored(name)
    return f"{closed} series stored"


def _check_file_systems(device: Device) -> str:
    found = reports.look(device.name)
    problems = [problem for problem in found.values() if problem is not None]
    for problem in problems:
        _log.warning("file system is not healthy", device=device.name, problem=problem)
    return "; ".join([f"{len(found) - len(problems)} of {len(found)} file systems are healthy", *problems])


def _end_obsolete_deletions(device: Device) -> str:
    return f"{deletions.end_obsolete(device)} tasks canceled whose mark was gone"


def _schedule_deletions(device: Device, group: FileSystemGroup) -> str:
    asked = Asked(By(f"beat of {device.name}"))
    try:
        # What is not healthy now is not marked.
        return deletions.schedule_studies(device, group, asked, lambda: reports.look(device.name))
    except (ConflictError, InvalidError) as error:
        return str(error)


#: Jobs by name; each returns one line on what it did.
JOBS: dict[str, Callable[[Device], str]] = {
    "clear_unfinished": _clear_unfinished,
    "close_silent_series": _close_silent_series,
    "check_file_systems": _check_file_systems,
    "end_obsolete_deletions": _end_obsolete_deletions,
    "take_over": failover.take_over,
    "tell_expired_pins": alarms.tell_expired_pins,
    "purge_tasks": purge.purge_tasks,
    "clean_records": purge.clean_records,
}
