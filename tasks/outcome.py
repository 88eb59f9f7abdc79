"""How a run ended, and how each object of it ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tasks.state import Status


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a handler hands back: COMPLETED, WARNING or FAILED, and one line for the operator."""

    status: Status
    message: str

    def __post_init__(self) -> None:
        if self.status not in (Status.COMPLETED, Status.WARNING, Status.FAILED):
            raise ValueError(f"an outcome is COMPLETED, WARNING or FAILED, not {self.status}")


class ObjectResult(StrEnum):
    """How one object of a run ended."""

    #: The destination has confirmed it.
    SENT = "sent"
    #: The destination has it, with a remark.
    WARNING = "warning"
    #: The destination does not want it.
    REFUSED = "refused"
    #: We cannot read it.
    UNREADABLE = "unreadable"
    #: The run ended before its turn.
    NOT_REACHED = "not reached"


#: Results that need not be sent again.
CONFIRMED = frozenset({ObjectResult.SENT, ObjectResult.WARNING})


@dataclass(frozen=True, slots=True)
class ObjectOutcome:
    """How one object ended in one run."""

    sop_uid: str
    result: ObjectResult
    #: DIMSE or HTTP status, None where the destination has none.
    status_code: int | None = None
    text: str | None = None
    began_at: datetime | None = None
    #: Of the file that was sent; an object that was replaced since has another one.
    sha256: str | None = None
