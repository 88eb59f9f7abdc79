"""What may become of a task: its statuses, the events that change them, and the table of arrows."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """The status of a task; the values are dcm4chee's names on the wire."""

    #: -> IN PROCESS, CANCELED
    SCHEDULED = "SCHEDULED"
    #: Failed or lost before, waiting for its next attempt. -> IN PROCESS, CANCELED
    SCHEDULED_FOR_RETRY = "SCHEDULED FOR RETRY"
    #: A worker runs it. -> any other
    IN_PROCESS = "IN PROCESS"
    #: Done. -> SCHEDULED by reschedule
    COMPLETED = "COMPLETED"
    #: Done, with something to look at. -> SCHEDULED by reschedule
    WARNING = "WARNING"
    #: Given up. -> SCHEDULED by reschedule
    FAILED = "FAILED"
    #: Stopped by somebody, or what it was for is not wanted any more. -> SCHEDULED by reschedule
    CANCELED = "CANCELED"

    @property
    def is_done(self) -> bool:
        """Tell whether nothing happens to the task any more unless somebody asks for it."""
        return self in DONE

    @property
    def is_waiting(self) -> bool:
        """Tell whether the task waits for a run."""
        return self in WAITING


WAITING = frozenset({Status.SCHEDULED, Status.SCHEDULED_FOR_RETRY})
DONE = frozenset({Status.COMPLETED, Status.WARNING, Status.FAILED, Status.CANCELED})


class Event(StrEnum):
    """What can happen to a task."""

    #: A row is made.
    CREATE = "create"
    #: A worker takes it for one run.
    CLAIM = "claim"
    #: The run ended well.
    SUCCEED = "succeed"
    #: The run ended with a warning that is final.
    WARN = "warn"
    #: The run failed and no attempt is left, or another one cannot help.
    FAIL = "fail"
    #: The run failed and another attempt follows.
    RETRY = "retry"
    #: The run found that its task is not wanted any more.
    DROP = "drop"
    #: The lease of the run ended, or its process died.
    LOSE = "lose"
    #: The worker stops in order and hands the task back.
    GIVE_BACK = "give back"
    #: Somebody does not want it any more.
    CANCEL = "cancel"
    #: Somebody wants it to run again, here or on another device.
    RESCHEDULE = "reschedule"
    #: Somebody removes the row, or it is purged.
    DELETE = "delete"


#: Reports of a run: they change a task only while that run is the task's own.
REPORTS = frozenset({Event.SUCCEED, Event.WARN, Event.FAIL, Event.RETRY, Event.DROP, Event.LOSE, Event.GIVE_BACK})

#: The arrows. DELETE leads to no status; GIVE_BACK leads to the status that the run came from.
TRANSITIONS: dict[tuple[Status, Event], Status | None] = {
    **{(status, Event.CLAIM): Status.IN_PROCESS for status in WAITING},
    (Status.IN_PROCESS, Event.SUCCEED): Status.COMPLETED,
    (Status.IN_PROCESS, Event.WARN): Status.WARNING,
    (Status.IN_PROCESS, Event.FAIL): Status.FAILED,
    (Status.IN_PROCESS, Event.RETRY): Status.SCHEDULED_FOR_RETRY,
    (Status.IN_PROCESS, Event.DROP): Status.CANCELED,
    (Status.IN_PROCESS, Event.LOSE): Status.SCHEDULED_FOR_RETRY,
    (Status.IN_PROCESS, Event.GIVE_BACK): Status.SCHEDULED,
    **{(status, Event.CANCEL): Status.CANCELED for status in Status if status not in DONE},
    **{(status, Event.RESCHEDULE): Status.SCHEDULED for status in Status},
    **{(status, Event.DELETE): None for status in Status},
}


def may(status: Status, event: Event) -> bool:
    """Tell whether the table has an arrow for the event from this status."""
    return (status, event) in TRANSITIONS


def next_status(status: Status, event: Event, *, came_from: Status | None = None) -> Status | None:
    """Return the status after the event; None means that the row is gone.

    Args:
        status: the status before.
        event: what happens.
        came_from: for GIVE_BACK, the status that the run was claimed from.

    Raises:
        KeyError: the table has no such arrow; callers ask `may` first.
    """
    after = TRANSITIONS[status, event]
    if event is Event.GIVE_BACK and came_from is not None:
        return came_from
    return after
