"""Processing windows: hours of the day and days of the week, in a device's wall clock."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

EXPECTED = "hour=[0-23] and/or dayOfWeek=[0-6] (0 = Sunday), each a list of numbers and ranges like 18-6,12"

#: Key in the text -> how many values its circle has.
_CIRCLES = {"hour": 24, "dayOfWeek": 7}
_RANGE = re.compile(r"(\d{1,2})(?:-(\d{1,2}))?")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Hours and days at which work may start; both must hold, each by itself.

    `hour=18-6 dayOfWeek=1-5` is open on Friday until midnight and on Monday from 00:00, as in the original: a
    range that wraps names hours, not one long night. Hour 6 lasts until 06:59:59.

    Source: dcmSchedule.
    """

    hours: frozenset[int] = frozenset(range(24))
    #: 0 = Sunday.
    days: frozenset[int] = frozenset(range(7))

    def __post_init__(self) -> None:
        if not self.hours or not self.days:
            raise ValueError(EXPECTED)
        if not self.hours <= set(range(24)) or not self.days <= set(range(7)):
            raise ValueError(EXPECTED)

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Read the text of dcmSchedule.

        Raises:
            ValueError: not in the grammar; its message says what is.
        """
        found: dict[str, frozenset[int]] = {}
        for word in text.split():
            key, equals, members = word.partition("=")
            if key not in _CIRCLES or not equals or key in found:
                raise ValueError(EXPECTED)
            found[key] = frozenset(_members(members, _CIRCLES[key]))
        if not found:
            raise ValueError(EXPECTED)
        return cls(
            hours=found.get("hour", frozenset(range(24))),
            days=found.get("dayOfWeek", frozenset(range(7))),
        )

    def __str__(self) -> str:
        words = []
        if len(self.hours) < 24 or len(self.days) == 7:
            words.append(f"hour={_ranges(self.hours, 24)}")
        if len(self.days) < 7:
            words.append(f"dayOfWeek={_ranges(self.days, 7)}")
        return " ".join(words)

    def contains(self, local: datetime) -> bool:
        """Tell whether the window is open at that wall clock time of the device."""
        return local.hour in self.hours and local.isoweekday() % 7 in self.days

    def next_open(self, local: datetime) -> datetime:
        """Return `local` if the window is open then, else the full hour at which it opens next."""
        if self.contains(local):
            return local
        hour = local.replace(minute=0, second=0, microsecond=0, fold=0)
        # Two weeks: the only open hour of a week may be the one that a change of the clock leaves out.
        for ahead in range(1, 2 * 7 * 24 + 1):
            wall = _existing(hour + timedelta(hours=ahead))
            if self.contains(wall):
                return wall
        raise AssertionError(f"a schedule without an open hour: {self}")


def _members(text: str, circle: int) -> Iterable[int]:
    for item in text.split(","):
        match = _RANGE.fullmatch(item)
        if match is None:
            raise ValueError(EXPECTED)
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        if first >= circle or last >= circle:
            raise ValueError(EXPECTED)
        yield from ((first + step) % circle for step in range((last - first) % circle + 1))


def _ranges(members: frozenset[int], circle: int) -> str:
    """Write the members as runs on the circle: {22, 23, 0} of 24 is `22-0`."""
    if len(members) == circle:
        return f"0-{circle - 1}"
    firsts = sorted(m for m in members if (m - 1) % circle not in members)
    runs = []
    for first in firsts:
        last = first
        while (last + 1) % circle in members:
            last = (last + 1) % circle
        runs.append(str(first) if last == first else f"{first}-{last}")
    return ",".join(runs)


def _existing(wall: datetime) -> datetime:
    """Return the wall clock time as clocks show it: an hour that a change of the clock skips moves on."""
    return wall if wall.tzinfo is None else wall.astimezone(UTC).astimezone(wall.tzinfo)
