"""What a request for a reschedule says: where, when, as what."""

from __future__ import annotations

from datetime import tzinfo

from api.answers import BadRequest
from api.rest import times
from api.rest.parameters import Given, Parameter, flag
from api.rest.scope import Scope
from config import settings
from tasks.moving import Change
from tasks.record import HIGHEST_PRIORITY

PRIORITY = Parameter(
    "taskPriority",
    "0 to 9, higher first; absent: 4 for a new task, unchanged for one that there is.",
    {"type": "integer", "minimum": 0, "maximum": HIGHEST_PRIORITY},
)
SCHEDULED_TIME = Parameter(
    "scheduledTime", "Earliest start, yyyyMMddHHmmss in the server's time zone; absent: now.",
    {"type": "string", "pattern": r"^\d{14}$"},
)  # fmt: skip

RESCHEDULE = (
    Parameter("newDeviceName", "Device that shall run the task; several take turns.", repeatable=True),
    SCHEDULED_TIME,
    PRIORITY,
    flag("keepScheduledTime", "Move only: keep scheduled time, failures and messages."),
    Parameter("newLocalAET", "AE title that the tasks shall work as; also their destination, if the old one was it."),
)
_NEW_QUEUE = Parameter("newQueueName", "Queue that the tasks shall be in; it must be one of the device.")


def of_scope(scope: Scope) -> tuple[Parameter, ...]:
    """Return what a reschedule of these tasks takes."""
    return (*RESCHEDULE, _NEW_QUEUE) if scope.has_queue else RESCHEDULE


def change(given: Given, exporter_id: str | None) -> Change:
    """Return what a reschedule shall change.

    Args:
        given: the query parameters.
        exporter_id: the new exporter, from the path.

    Raises:
        BadRequest: a value cannot be used, or two contradict each other.
    """
    devices = tuple(dict.fromkeys(given.all("newDeviceName", commas=True)))
    at = given.one("scheduledTime")
    keep = given.is_true("keepScheduledTime")
    if at is not None and keep:
        raise BadRequest(f"scheduledTime={at} and keepScheduledTime=true: expected one of them")
    if keep and not devices:
        raise BadRequest("keepScheduledTime=true: expected newDeviceName with it, it is for moves")
    return Change(
        devices=devices,
        exporter_id=exporter_id,
        queue=given.one("newQueueName"),
        local_aet=given.one("newLocalAET"),
        scheduled_time=None if at is None else times.scheduled(at, settings.current().zone()),
        keep_scheduled_time=keep,
        priority=given.number("taskPriority", 0, HIGHEST_PRIORITY),
    )


def parameters_of(change: Change, zone: tzinfo) -> list[tuple[str, str]]:
    """Return what `change` reads as this change; the exporter is in the path.

    Args:
        change: what shall be changed.
        zone: on whose clock the scheduled time is written.
    """
    found = [("newDeviceName", name) for name in change.devices]
    at = change.scheduled_time
    found += [("scheduledTime", f"{at.astimezone(zone):%Y%m%d%H%M%S}")] if at is not None else []
    found += [("newQueueName", change.queue)] if change.queue is not None else []
    found += [("newLocalAET", change.local_aet)] if change.local_aet is not None else []
    found += [("keepScheduledTime", "true")] if change.keep_scheduled_time else []
    return found + ([("taskPriority", str(change.priority))] if change.priority is not None else [])
