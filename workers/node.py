"""A worker node as the database knows it: its row, given out numbers, and signs of life."""

from __future__ import annotations

import os
import platform
import threading
import time
from dataclasses import dataclass

import structlog
from sqlalchemy import Engine, Select, func, insert, select, update
from sqlalchemy.orm import Session

from archive import db
from config import settings
from tasks.control import DEAD_AFTER, WorkerNode
from workers import version
from workers.execute import Node

_log = structlog.get_logger()

#: Seconds between two signs of life.
SEEN_EVERY_S = 5.0

#: Seconds between two looks for a database that is away at the start.
_SCHEMA_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Place:
    """What a node serves, and where."""

    #: Name of the device; empty: it serves the whole cluster.
    device: str
    channel: str
    #: Empty: this machine.
    host: str = ""
    #: What it shall be called before the @; None: the channel with the first free number.
    name: str | None = None


def await_schema() -> None:
    """Return when the database has our schema; a database that is away is waited for.

    Raises:
        SystemExit: its schema is of another version.
    """
    # Imported here: the processes of a pool import this module too, and need no migrations.
    from archive import schema

    while True:
        try:
            return schema.check(settings.current().database())
        except (schema.SchemaTooOldError, schema.SchemaTooNewError) as error:
            raise SystemExit(f"arcfleet: {error}") from error
        except schema.SchemaError as error:
            _log.warning("database away, waiting for it", error=str(error))
            time.sleep(_SCHEMA_AGAIN_S)


def register(place: Place, concurrency: int) -> Node:
    """Insert the row of a node that starts now, again and again while the database is away."""
    host = place.host or platform.node()

    def insert_row(session: Session) -> Node:
        # Numbers are given out one at a time.
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"node of {place.channel}", 0))))
        taken = set(session.scalars(alive()))
        numbered = (f"{place.channel}.{number}@{host}" for number in range(1, len(taken) + 2))
        chosen = f"{place.name}@{host}" if place.name else next(full for full in numbered if full not in taken)
        made = insert(WorkerNode).values(
            name=chosen, device=place.device, channel=place.channel, host=host, pid=os.getpid(),
            version=version.VERSION, concurrency=concurrency,
        )  # fmt: skip
        return Node(session.scalars(made.returning(WorkerNode.id)).one(), chosen)

    return db.insist(insert_row)


def alive(channel: str | None = None) -> Select[str]:
    """Return what selects the names of the nodes that live, all or those of a channel."""
    seen = WorkerNode.seen_at > func.clock_timestamp() - DEAD_AFTER
    found = select(WorkerNode.name).where(WorkerNode.stopped_at.is_(None), seen)
    return found if channel is None else found.where(WorkerNode.channel == channel)


def own_engine() -> Engine:
    """Return an engine with one connection, for the signs of life alone."""
    return db.make_engine(settings.current().database(), pool_size=1, application_name="arcfleet heartbeat")


def say_seen(session: Session, node: Node) -> None:
    """Write that the node lives."""
    session.execute(update(WorkerNode).where(WorkerNode.id == node.id).values(seen_at=func.clock_timestamp()))


def say_goodbye(engine: Engine, node: Node) -> None:
    """Write that the node has ended; a database that is away finds out by its silence."""
    try:
        with Session(engine) as session, session.begin():
            gone = update(WorkerNode).where(WorkerNode.id == node.id)
            session.execute(gone.values(stopped_at=func.clock_timestamp()))
    except db.OUTAGES as outage:
        _log.warning("database away, could not say goodbye", error=db.first_line(outage))


class SignsOfLife(threading.Thread):
    """Writes that a node lives, for one that holds no runs."""

    def __init__(self, node: Node) -> None:
        super().__init__(name="signs of life", daemon=True)
        self._node = node
        self._engine = own_engine()
        self._ending = threading.Event()

    def end(self) -> None:
        """Say that the node is gone, and stop."""
        self._ending.set()
        self.join(2)

    def run(self) -> None:
        """Write until the end; the database may be away for any time."""
        while not self._ending.wait(SEEN_EVERY_S):
            try:
                with Session(self._engine) as session, session.begin():
                    say_seen(session, self._node)
            except db.OUTAGES as outage:
                _log.warning("database away, no sign of life", error=db.first_line(outage))
        say_goodbye(self._engine, self._node)
