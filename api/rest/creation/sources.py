"""Where the entities of many tasks come from: the index, or a list that somebody else gave."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from sqlalchemy.orm import Session

from archive import matching
from archive.matching import Matching
from archive.query import Entity

#: Between the UIDs of a position: sorts before every character of them.
_BETWEEN = "/"


class Matches:
    """What a query of the index matches; objects that come while tasks are made are not meant."""

    def __init__(self, wanted: Matching) -> None:
        self._wanted = wanted
        self._highest: int | None = None

    def after(self, session: Session, position: str, limit: int) -> list[tuple[str, Entity]]:
        """Return the next matches."""
        if self._highest is None:
            self._highest = matching.highest(session, self._wanted.level)
        found = matching.find(session, self._wanted, after=int(position or 0), limit=limit)
        return [(str(match.number), match.entity) for match in found if match.number <= self._highest]


class Listed:
    """Entities that are known, for example answers to a C-FIND; each counts once."""

    def __init__(self, entities: Iterable[Entity]) -> None:
        named = {_BETWEEN.join(uid for uid in entity if uid): entity for entity in entities}
        self._entities = dict(sorted(named.items()))
        self._positions = list(self._entities)

    def __len__(self) -> int:
        return len(self._positions)

    def after(self, session: Session, position: str, limit: int) -> list[tuple[str, Entity]]:
        """Return the next entities."""
        del session
        begin = bisect_right(self._positions, position)
        return [(key, self._entities[key]) for key in self._positions[begin : begin + limit]]


class Whole:
    """One task, about no entity of its own."""

    def after(self, session: Session, position: str, limit: int) -> list[tuple[str, None]]:
        """Return it, if it was not yet."""
        del session, limit
        return [] if position else [("1", None)]
