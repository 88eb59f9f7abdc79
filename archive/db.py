"""The database: one engine per process, sessions that commit at their end, and what the schema is named."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
import structlog
from sqlalchemy import Engine, MetaData, create_engine, event
from sqlalchemy.exc import DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import ConnectionPoolEntry

from archive.answering import Connection
from config import settings

#: One rule per kind of constraint, so that migrations can name what they drop.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """The base of every mapped class."""

    metadata = MetaData(naming_convention=NAMING)


#: What a database that is away, starting, or overloaded raises; running the transaction again may help.
OUTAGES = (OperationalError, InterfaceError, PoolTimeoutError)

#: Parameters of libpq. A server whose machine is gone is noticed within 30 s: `tcp_user_timeout` (ms) while something
#: is on its way there, else by the probes. Local sockets have neither, and no machine in between.
_CONNECTING = {
    "connect_timeout": 5,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}

#: Connections that an engine keeps, unless it is told otherwise; twice as many may be open.
POOL_SIZE = 5

#: Seconds between two tries of a transaction while the database is away.
_RETRY_EVERY_S = 0.5

T = TypeVar("T")

_log = structlog.get_logger()

_engine: Engine | None = None


def engine() -> Engine:
    """Return this process's engine, made at first use from the settings.

    Raises:
        SettingsError: no database URL is set and no `arcfleet up` runs in the home.
    """
    global _engine
    if _engine is None:
        _engine = make_engine(settings.current().database())
    return _engine


def make_engine(
    url: str,
    *,
    pool_size: int = POOL_SIZE,
    application_name: str = "arcfleet",
    pre_ping: bool = True,
    answer_s: float | None = None,
) -> Engine:
    """Return an engine for a `postgresql://` URL; every session speaks UTC and times out on a dead server.

    Args:
        url: of the database.
        pool_size: connections that are kept; twice as many may be open.
        application_name: as the server shows it.
        pre_ping: look whether a connection still lives before each use; who insists anyway does without.
        answer_s: how long a statement may take, a server that is frozen included; None: any time.
    """
    # What waits for a lock reads what was committed meanwhile, whatever the database's default is.
    options = "-c timezone=UTC -c default_transaction_isolation=read\\ committed"
    if answer_s is not None:
        # The server gives up first; it can say so, and the connection lives on.
        options += f" -c statement_timeout={int(answer_s * 1000 * 0.9)}"
    made = create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=10,
        isolation_level="READ COMMITTED",
        connect_args={**_CONNECTING, "application_name": application_name, "options": options},
    )

    @event.listens_for(made, "do_connect")
    def _connect(_dialect: Any, _record: Any, arguments: Any, named: Any) -> psycopg.Connection[Any]:
        connection = Connection.connect(*arguments, **named)
        connection.answer_s = answer_s
        return connection

    @event.listens_for(made, "connect")
    def _tune(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.prepare_threshold = 2

    @event.listens_for(made, "checkout")
    def _look(dbapi_connection: Any, _record: Any, _proxy: Any) -> None:
        if pre_ping and _has_ended(dbapi_connection):
            raise DisconnectionError

    return made


def _has_ended(connection: psycopg.Connection[Any]) -> bool:
    """Tell whether the server has ended a connection that nobody used: only then does it have something to say.

    Costs a few microseconds; asking the server costs as much as a small statement.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    try:
        for _ in range(2):
            if not poll.poll(0):
                return False
            # What it had to say may be harmless; the end of the connection can still be read behind it.
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        pass
    return True


def use(new_engine: Engine | None) -> None:
    """Replace this process's engine (tests; a worker child after it started); None: make it anew at next use."""
    global _engine
    if _engine is not None and _engine is not new_engine:
        # What another thread still has it gives back to a pool that nobody disposes of any more.
        event.listen(_engine, "checkin", _close)
        _engine.dispose()
    _engine = new_engine


def _close(_connection: object, entry: ConnectionPoolEntry) -> None:
    entry.invalidate()


@contextmanager
def transaction() -> Iterator[Session]:
    """Open a session, commit it at the end of the block, roll back on any exception."""
    with Session(engine(), expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def single_statements(of: Engine | None = None) -> Iterator[Session]:
    """Open a session whose statements are each a transaction of their own: a third of the traffic for a single one.

    What hangs on a commit of the session, as waking a device does, does not happen.

    Args:
        of: an engine; None: this process's.
    """
    with (of or engine()).connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        with Session(connection, expire_on_commit=False) as session:
            yield session


def insist(work: Callable[[Session], T], *, for_s: float | None = None) -> T:
    """Run the work in a transaction of its own, again and again while the database is away.

    The work must be safe to run twice: a commit whose answer was lost may have happened.

    Args:
        work: what to do with the session.
        for_s: seconds after which the outage is raised; None: never.
    """
    began = time.monotonic()
    while True:
        try:
            with transaction() as session:
                return work(session)
        except OUTAGES as outage:
            waited = time.monotonic() - began
            if for_s is not None and waited >= for_s:
                raise
            _log.warning("database away, trying again", waited_s=round(waited, 1), error=first_line(outage))
            time.sleep(_RETRY_EVERY_S)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, without the statement and its parameters."""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__
