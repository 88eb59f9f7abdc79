"""Programs side by side: each in turn, round after round, compared by their medians."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def in_turn(contenders: Sequence[T], number: int) -> list[T]:
    """Return the contenders of a round; each is first in one of them."""
    first = number % len(contenders)
    return [*contenders[first:], *contenders[:first]]


def report(what: str, seconds: Mapping[str, Sequence[float]], *, objects: int, reference: str) -> None:
    """Print objects per second of each, and the ratio to one of them."""
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    print(what)
    for name, taken in seconds.items():
        per_s = [objects / one for one in (medians[name], max(taken), min(taken))]
        ratio = medians[reference] / medians[name]
        print("  {:14} {:6.0f}/s ({:.0f} to {:.0f})".format(name, *per_s) + f", {ratio:.2f} of {reference}")
