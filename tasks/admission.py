"""Pure: may this task run now, and if not, why not? Used by dispatch, by the claim and by `explain`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from config.device import Cluster, Device, Queue
from tasks.state import Status


class Why(StrEnum):
    """Why a task does not run."""

    NOT_WAITING = "not waiting"
    UNKNOWN_DEVICE = "unknown device"
    FOREIGN = "foreign device"
    NOT_INSTALLED = "not installed"
    UNKNOWN_QUEUE = "unknown queue"
    PAUSED = "paused"
    DRAINING = "draining"
    OUTSIDE_WINDOW = "outside processing window"
    NOT_DUE = "not due"
    HELD = "destination held"
    BREAKER_OPEN = "destination failing"
    DESTINATION_FULL = "destination full"
    STILL_ENDING = "earlier run still open"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason why a task does not run, in words, and until when where that is known."""

    why: Why
    text: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class PauseState:
    """A pause that somebody set, see `tasks.control.Pause`."""

    queue: str
    draining: bool
    who: str
    why: str | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class DestinationState:
    """What is known of a destination, see `tasks.control.Destination`."""

    name: str
    cap: int | None = None
    running: int = 0
    held_by: str | None = None
    held_why: str | None = None
    held_until: datetime | None = None
    #: Failures in a row, and what the last one said.
    failures: int = 0
    last_failure: str | None = None
    open_until: datetime | None = None
    #: Runs that may go at once after failures; None: what `cap` says.
    gentle_cap: int | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """What admission looks at in a task."""

    status: Status
    device: str
    queue: str
    scheduled_time: datetime
    destination: DestinationState | None = None
    #: An earlier run of the task has not ended.
    has_open_run: bool = False


def admissible(
    task: Candidate, cluster: Cluster, pauses: list[PauseState], zone: ZoneInfo, now: datetime
) -> list[Refusal]:
    """Return every reason why the task may not run now; none means that it may.

    Args:
        task: the task.
        cluster: the configuration.
        pauses: those of the task's device.
        zone: the time zone of the device, for its processing windows.
        now: the time of the database.
    """
    return [*queue_refusals(cluster, task.device, task.queue, pauses, zone, now), *_row_refusals(task, now)]


def queue_refusals(
    cluster: Cluster, device_name: str, queue_name: str, pauses: list[PauseState], zone: ZoneInfo, now: datetime
) -> list[Refusal]:
    """Return every reason why nothing of this queue of this device may start now."""
    device = cluster.devices.get(device_name)
    if device is None:
        return [Refusal(Why.UNKNOWN_DEVICE, f"Device {device_name} is not in the configuration")]
    queue = device.queues.get(queue_name)
    if queue is None:
        return [Refusal(Why.UNKNOWN_QUEUE, f"Device {device_name} has no queue {queue_name}")]
    return [*_configured(device, queue), *_paused(device, queue, pauses, now), *_window(queue, zone, now)]


def _configured(device: Device, queue: Queue) -> Iterator[Refusal]:
    if not device.is_ours:
        yield Refusal(Why.FOREIGN, f"Device {device.name} is not run by arcfleet")
    if not device.installed:
        yield Refusal(Why.NOT_INSTALLED, f"Device {device.name} has dicomInstalled=FALSE")
    if not queue.installed:
        yield Refusal(Why.NOT_INSTALLED, f"Queue {queue.name} of device {device.name} has dicomInstalled=FALSE")


def _paused(device: Device, queue: Queue, pauses: list[PauseState], now: datetime) -> Iterator[Refusal]:
    for pause in pauses:
        if pause.queue not in ("", queue.name) or (pause.until is not None and pause.until <= now):
            continue
        what = f"Queue {pause.queue} of device {device.name}" if pause.queue else f"Device {device.name}"
        how = "drained" if pause.draining else "paused"
        because = f": {pause.why}" if pause.why else ""
        yield Refusal(
            Why.DRAINING if pause.draining else Why.PAUSED, f"{what} is {how} by {pause.who}{because}", pause.until
        )


def _window(queue: Queue, zone: ZoneInfo, now: datetime) -> Iterator[Refusal]:
    local = now.astimezone(zone)
    if queue.schedules and not any(schedule.contains(local) for schedule in queue.schedules):
        windows = "; ".join(str(schedule) for schedule in queue.schedules)
        opens = min(schedule.next_open(local) for schedule in queue.schedules)
        yield Refusal(Why.OUTSIDE_WINDOW, f"Queue {queue.name} runs only at {windows} ({zone.key})", opens)


def _row_refusals(task: Candidate, now: datetime) -> Iterator[Refusal]:
    if not task.status.is_waiting:
        yield Refusal(Why.NOT_WAITING, f"the task is {task.status}")
    if task.scheduled_time > now:
        yield Refusal(Why.NOT_DUE, f"scheduled for {task.scheduled_time.isoformat()}", task.scheduled_time)
    if task.has_open_run:
        yield Refusal(Why.STILL_ENDING, "an earlier run of the task has not ended yet")
    if task.destination is not None:
        yield from destination_refusals(task.destination, now)


def destination_refusals(destination: DestinationState, now: datetime) -> Iterator[Refusal]:
    """Yield every reason why nothing may go to this destination now."""
    if destination.held_by is not None and (destination.held_until is None or destination.held_until > now):
        because = f": {destination.held_why}" if destination.held_why else ""
        text = f"Destination {destination.name} is held by {destination.held_by}{because}"
        yield Refusal(Why.HELD, text, destination.held_until)
    if destination.open_until is not None and destination.open_until > now:
        because = f": {destination.last_failure}" if destination.last_failure else ""
        text = f"Destination {destination.name} is left alone after {destination.failures} failures in a row{because}"
        yield Refusal(Why.BREAKER_OPEN, text, destination.open_until)
    yield from _full(destination)


def _full(destination: DestinationState) -> Iterator[Refusal]:
    allowed = [cap for cap in (destination.cap, destination.gentle_cap) if cap is not None]
    if not allowed or destination.running < min(allowed):
        return
    text = f"Destination {destination.name} has {destination.running} of {min(allowed)} runs"
    is_gentle = destination.gentle_cap == min(allowed) != destination.cap
    because = ": it has failed, each run that succeeds lets one more go" if is_gentle else ""
    yield Refusal(Why.DESTINATION_FULL, f"{text}{because}")
