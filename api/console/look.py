"""How values are written on our pages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from api.rest import times
from config import settings
from tasks.state import Status

#: Statuses in the order in which tasks live, each with its name on a button.
STATUSES = MappingProxyType(
    {
        Status.SCHEDULED: "Scheduled",
        Status.SCHEDULED_FOR_RETRY: "For retry",
        Status.IN_PROCESS: "In process",
        Status.COMPLETED: "Completed",
        Status.WARNING: "Warning",
        Status.FAILED: "Failed",
        Status.CANCELED: "Canceled",
    }
)

#: Classes of the badge of a status, Bootstrap's and Flower's.
_BADGES = MappingProxyType(
    {
        Status.SCHEDULED: "text-bg-secondary",
        Status.SCHEDULED_FOR_RETRY: "archive-retry",
        Status.IN_PROCESS: "task-state-started",
        Status.COMPLETED: "text-bg-success",
        Status.WARNING: "text-bg-warning",
        Status.FAILED: "text-bg-danger",
        Status.CANCELED: "archive-canceled",
    }
)

#: What ends a run or an object well.
_GOOD = frozenset({"completed", "sent"})
_DOUBTFUL = frozenset({"warning", "retry", "given back", "stopped", "withdrawn", "not reached"})


def badge(status: str) -> str:
    """Return the classes of the badge of a task's status."""
    return _BADGES[Status(status)]


def tone(ending: str | None) -> str:
    """Return the class of the text that says how a run or an object ended."""
    if ending is None:
        return "archive-open"
    return "archive-good" if ending in _GOOD else "archive-doubtful" if ending in _DOUBTFUL else "archive-bad"


def when(at: datetime | None) -> str:
    """Return a time to the second, on the clock of ARCFLEET_TIMEZONE; None: nothing."""
    return "" if at is None else times.written(at, settings.current().zone())[:19].replace("T", " ")


def zone() -> str:
    """Return the name of the time zone of all times."""
    return settings.current().timezone


def number(value: int) -> str:
    """Return a number with a comma at each thousand."""
    return f"{value:,}"


def of(value: int, thing: str) -> str:
    """Return how many of a thing: `1 task`, `2 tasks`."""
    return f"{number(value)} {thing if value == 1 else thing + 's'}"


def as_text(values: Mapping[str, object]) -> str:
    """Return a mapping for reading."""
    return json.dumps(dict(values), indent=2, ensure_ascii=False, sort_keys=True)
