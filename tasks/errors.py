"""What can go wrong with a task, named by what the caller does about it."""

from __future__ import annotations

from archive.errors import Permanent


class TaskError(Exception):
    """The base of all errors about tasks."""


class NotFoundError(TaskError):
    """The task, or what it names, does not exist."""


class ConflictError(TaskError):
    """The task is in a status, or its target in a state, that does not allow this."""


class InvalidError(TaskError):
    """A parameter has a value that cannot be used; the message names it and what was expected.

    Where clients know the message by heart, what was expected is the hint.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UnknownKindError(InvalidError):
    """No kind of task has this name."""


class PermanentError(TaskError, Permanent):
    """The run failed in a way that running it again cannot help."""


class DestinationError(TaskError):
    """The destination cannot be reached or has no room: its other tasks better wait."""


class ObsoleteError(TaskError):
    """What the task was for is not wanted any more; the text says why. It ends as CANCELED."""


class StoppedError(TaskError):
    """The run was asked to stop, or its lease is over; the reason says which."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"stopped: {reason}")
        self.reason = reason
