"""The events feed: every transition once, in the order of commits, for followers that must miss nothing.

A sequence number alone would lose transitions: a transaction may take a low number and commit late. So a
row is delivered only when every transaction that began before it has ended, ordered by transaction; the
cursor names the life of the database too, because numbers begin anew after a restore.
"""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass

from sqlalchemy import ScalarResult, func, select, text
from sqlalchemy.orm import Session

from tasks import history
from tasks.control import ClusterIdentity
from tasks.errors import InvalidError, TaskError
from tasks.history import History, Transition

#: A number of a cursor; the database holds larger ones, and never gets there.
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)

#: Transitions in one page at most.
MOST = 1000


class CursorExpiredError(TaskError):
    """The cursor is of another life of the database; `first` is the first valid one."""

    def __init__(self, message: str, first: Cursor) -> None:
        super().__init__(message)
        self.first = first


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a follower is: behind this transition."""

    #: Which life of the database (cluster_identity.epoch).
    epoch: str
    xid: int = 0
    seq: int = 0
    #: How many tasks of that history row were delivered.
    delivered: int = 0

    def __str__(self) -> str:
        return f"{self.epoch}.{self.xid}.{self.seq}.{self.delivered}"

    @classmethod
    def parse(cls, given: str) -> Cursor:
        """Read a cursor as it was handed out.

        Raises:
            InvalidError: it is none.
        """
        epoch, *numbers = given.split(".")
        if len(numbers) != 3 or not all(_NUMBER.fullmatch(number) for number in numbers):
            raise InvalidError(f"after={given}: expected the cursor of an earlier answer")
        return cls(epoch, *(int(number) for number in numbers))


@dataclass(frozen=True, slots=True)
class Page:
    """Some transitions, and the cursor behind them."""

    transitions: list[Transition]
    cursor: Cursor
    #: The cursor behind each transition.
    places: list[Cursor]


def first(session: Session) -> Cursor:
    """Return the cursor before all transitions that are kept."""
    return Cursor(session.scalars(select(ClusterIdentity.epoch)).one())


def latest(session: Session) -> Cursor:
    """Return the cursor behind all that a follower could read now: for who begins to follow."""
    start = first(session)
    settled = text("history.xid < pg_snapshot_xmin(pg_current_snapshot())")
    number = func.coalesce(func.cardinality(History.task_ids), 1)
    newest = select(History.xid, History.seq, number).where(settled)
    row = session.execute(newest.order_by(History.xid.desc(), History.seq.desc()).limit(1)).one_or_none()
    return start if row is None else Cursor(start.epoch, int(row[0]), row[1], row[2])


def read(session: Session, after: Cursor | None, limit: int = MOST) -> Page:
    """Return the next transitions behind a cursor; none: nothing more has happened yet.

    Raises:
        CursorExpiredError: the database was restored since.
    """
    start = first(session)
    cursor = after or start
    if cursor.epoch != start.epoch:
        raise CursorExpiredError(f"cursor {cursor} is of another life of the database; start again at {start}", start)
    found: list[Transition] = []
    places: list[Cursor] = []
    # Closed in time: what is not read of a cursor stays open at the server.
    with closing(_settled(session, cursor, limit)) as rows:
        for row in rows:
            begun = cursor.delivered if row.seq == cursor.seq else 0
            some = list(history.expand(row))[begun : begun + limit - len(found)]
            found += some
            places += [Cursor(start.epoch, int(row.xid), row.seq, begun + number) for number in range(1, len(some) + 1)]
            cursor = places[-1] if some else cursor
            if len(found) >= limit:
                break
    return Page(found, cursor, places)


def _settled(session: Session, cursor: Cursor, limit: int) -> ScalarResult[History]:
    """Return rows from the cursor's own on whose transaction no running one can precede any more."""
    query = (
        select(History)
        .where(
            text("(history.xid, history.seq) >= (CAST(CAST(:xid AS text) AS xid8), :seq)"),
            text("history.xid < pg_snapshot_xmin(pg_current_snapshot())"),
        )
        .order_by(History.xid, History.seq)
        .limit(limit + 1)
        .params(xid=str(cursor.xid), seq=cursor.seq)
    )
    # A row may hold thousands of tasks, and a page is soon full.
    return session.scalars(query, execution_options={"yield_per": 20})
