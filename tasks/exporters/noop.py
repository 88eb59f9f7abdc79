"""`noop:` sends nothing. With dcmProperty `duration` (seconds) it holds its slot that long, for load tests.

With `operations` it spends that time in so many sub-operations, as a run that sends objects does.
"""

from __future__ import annotations

from archive.query import StoredObject
from config.device import Device, Exporter
from tasks.errors import InvalidError
from tasks.outcome import Outcome
from tasks.state import Status
from tasks.work import Work

#: dcmProperty of the exporter: seconds to hold the slot.
DURATION = "duration"

#: dcmProperty of the exporter: number of sub-operations that the time is spent in.
OPERATIONS = "operations"

#: What stands for the object in the trace of a run that sends none.
_NOTHING = "noop"


class Noop:
    """Sends nothing and is content. Source: exporter `noop` of dcm4chee-arc-light."""

    reads_files = False

    def check(self, exporter: Exporter, device: Device) -> None:
        """Refuse a duration that is not a number of seconds, and a number of operations that is none."""
        del device
        _duration_s(exporter)
        _operations(exporter)

    def destination(self, exporter: Exporter) -> str | None:
        """Return None: nothing is reached."""
        del exporter
        return None

    def send(self, exporter: Exporter, objects: list[StoredObject], work: Work) -> Outcome:
        """Hold the slot for the configured time."""
        del objects
        operations = _operations(exporter)
        for _ in range(operations):
            work.begin(_NOTHING)
            work.wait(_duration_s(exporter) / operations)
            work.trace("end", _NOTHING)
        return Outcome(Status.COMPLETED, "NOOP")


def _duration_s(exporter: Exporter) -> float:
    given = exporter.properties.get(DURATION, "0")
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InvalidError(
            f"Exporter {exporter.id} has dcmProperty {DURATION}={given}, expected a number of seconds, 0 or more"
        )
    return seconds


def _operations(exporter: Exporter) -> int:
    given = exporter.properties.get(OPERATIONS, "1")
    if not given.isdecimal() or int(given) < 1:
        raise InvalidError(
            f"Exporter {exporter.id} has dcmProperty {OPERATIONS}={given}, expected a whole number, 1 or more"
        )
    return int(given)
