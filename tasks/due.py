"""What has to be sent: queues with a due task, and whether beat has anything to do at all."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from tasks.control import DEAD_AFTER

_DUE_QUEUES = """
    SELECT d.device, d.queue, due.kind
    FROM unnest(CAST(:devices AS text[]), CAST(:queues AS text[])) AS d (device, queue) CROSS JOIN LATERAL (
        SELECT t.kind FROM generate_series(0, 9) AS p CROSS JOIN LATERAL (
            SELECT kind FROM task WHERE task.device = d.device AND task.queue = d.queue AND priority = p
              AND status IN ('SCHEDULED', 'SCHEDULED FOR RETRY') AND scheduled_time <= now()
            ORDER BY scheduled_time, id LIMIT 1) AS t
        LIMIT 1) AS due
    WHERE EXISTS (
        SELECT 1 FROM worker_node AS w WHERE w.device = d.device AND w.stopped_at IS NULL
           AND w.seen_at > clock_timestamp() - :dead_after)
    """

_GLANCE = text(
    f"""
    SELECT EXISTS (SELECT 1 FROM run WHERE ended_at IS NULL),
           ARRAY(SELECT DISTINCT device FROM ({_DUE_QUEUES}) AS due),
           EXISTS (SELECT 1 FROM housekeeping_job WHERE next_run_at <= clock_timestamp()
                   OR (sent_at < clock_timestamp() - :lost AND (started_at IS NULL OR started_at < sent_at)))
    """  # noqa: S608 - both are ours
)

_LOOK = text(
    f"""
    SELECT clock_timestamp(), ARRAY(SELECT queue FROM ({_DUE_QUEUES}) AS due WHERE kind = ANY(:kinds) ORDER BY queue),
           (SELECT count(*) FROM run WHERE run.device = :device AND ended_at IS NULL AND claimed_at IS NULL
            AND kind = ANY(:kinds)),
           EXISTS (SELECT 1 FROM worker_node AS w WHERE w.device = :device AND w.stopped_at IS NULL
                   AND w.seen_at > clock_timestamp() - :dead_after)
    """  # noqa: S608 - both are ours
)


@dataclass(frozen=True, slots=True)
class Glance:
    """What beat sees each second, in one statement: mostly that there is nothing to be done."""

    #: A run has not ended.
    is_run_open: bool
    #: Devices with a due task and a worker that lives.
    devices: list[str]
    #: A job of housekeeping may have to be sent, if somebody is there to take it.
    is_job_due: bool


@dataclass(frozen=True, slots=True)
class Look:
    """What a dispatcher sees of a device in one glance."""

    now: datetime
    #: Queues with a due task of these kinds, while a worker of the device lives.
    due: list[str]
    #: Reservations that wait to be claimed.
    unclaimed: int
    #: A worker of the device lives.
    is_alive: bool


def glance(session: Session, queues: Collection[tuple[str, str]], lost_after: timedelta) -> Glance:
    """Return whether beat has anything to do.

    Args:
        session: the transaction.
        queues: device and queue of all there are.
        lost_after: how long a job of housekeeping may be sent and not started.
    """
    pairs = sorted(queues)
    values = {
        "devices": [device for device, _ in pairs], "queues": [queue for _, queue in pairs],
        "dead_after": DEAD_AFTER, "lost": lost_after,
    }  # fmt: skip
    return Glance(*session.execute(_GLANCE, values).one())


def look(session: Session, device: str, queues: Collection[str], kinds: Collection[str]) -> Look:
    """Return what may have to be sent for a device.

    Args:
        session: the transaction.
        device: the device.
        queues: its queues.
        kinds: of one channel: whose due tasks are looked for, and whose unclaimed reservations are counted.
    """
    values = {
        "devices": [device] * len(queues), "queues": sorted(queues), "dead_after": DEAD_AFTER, "device": device,
        "kinds": list(kinds),
    }  # fmt: skip
    return Look(*session.execute(_LOOK, values).one())
