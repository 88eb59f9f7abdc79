"""What a misbehaving peer can do with an association or an object."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer an object with this status; or let it be accepted, for an association."""

    status: int = 0x0000
    comment: str = ""
    #: Added to the message id that it answers.
    id_offset: int = 0


@dataclass(frozen=True, slots=True)
class Reject:
    """Reject the association: result, source, reason. Source: PS3.8 9.3.4"""

    result: int = 1
    source: int = 1
    reason: int = 7


@dataclass(frozen=True, slots=True)
class Abort:
    """Send A-ABORT, and close. Source: PS3.8 9.3.8"""


@dataclass(frozen=True, slots=True)
class AbortDuring:
    """Send A-ABORT when the first bytes of the data set are there."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection without a word."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Let the connection be reset."""


@dataclass(frozen=True, slots=True)
class Release:
    """Ask for the release of the association instead of answering, and close."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Say nothing until the other one goes away."""


@dataclass(frozen=True, slots=True)
class StopReading:
    """Read no byte more of the data set than its first ones."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """Send what is no PDU."""


@dataclass(frozen=True, slots=True)
class Slowly:
    """Wait until the event is set, then answer with success."""

    until: threading.Event


Act = (
    Answer | Reject | Abort | AbortDuring | Close | Reset | Release | Hang | StopReading | Garbage | Slowly
)  # fmt: skip
