"""Pure: when a destination is left alone because it fails, and how it is tried again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

#: So many failures in a row open the breaker.
OPENS_AFTER = 3
#: How long it is open the first time; each further failure doubles it.
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=10)
#: A destination without a cap is trusted again when so many of its runs may go at once.
TRUSTED_AT = 16


class Phase(StrEnum):
    """What a breaker lets through."""

    #: All that the cap allows.
    CLOSED = "closed"
    #: Nothing.
    OPEN = "open"
    #: One run, to try.
    HALF_OPEN = "half-open"
    #: One run more with each that succeeds.
    GENTLE = "gentle"


@dataclass(frozen=True, slots=True)
class Breaker:
    """What is remembered of a destination's failures."""

    #: In a row.
    failures: int = 0
    #: Nothing goes before this; None: it has not been open since the last success.
    open_until: datetime | None = None
    #: Runs that may go at once while it is not trusted; None: it is.
    gentle_cap: int | None = None

    def phase(self, now: datetime) -> Phase:
        """Return what it lets through now."""
        if self.open_until is not None:
            return Phase.OPEN if self.open_until > now else Phase.HALF_OPEN
        return Phase.CLOSED if self.gentle_cap is None else Phase.GENTLE


def after_failure(breaker: Breaker, began: datetime, now: datetime) -> Breaker:
    """Return the breaker after a run that could not reach the destination, or found no room there.

    Args:
        breaker: before.
        began: when the run began; one from before the last opening says nothing new.
        now: when it failed.
    """
    if breaker.open_until is not None and began < breaker.open_until:
        return breaker
    failures = breaker.failures + 1
    if failures < OPENS_AFTER:
        return replace(breaker, failures=failures)
    return Breaker(failures, now + pause(failures), gentle_cap=1)


def after_success(breaker: Breaker, cap: int | None) -> Breaker:
    """Return the breaker after a run that the destination has answered to the end.

    A run more for each success: those that go at once double from round to round, until the cap is reached.
    """
    if breaker.gentle_cap is None:
        return Breaker()
    more = breaker.gentle_cap + 1
    return Breaker(gentle_cap=None if more >= (TRUSTED_AT if cap is None else cap) else more)


def pause(failures: int) -> timedelta:
    """Return how long the breaker stays open after the failure with this number."""
    doublings = min(failures - OPENS_AFTER, 10)  # far beyond the longest pause
    return min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)
