"""A statement that the server works on while its caller does something else; committed at the end of that.

The driver's own pipeline waits for the server at its begin and asks several times at its end. One exchange does:
what is sent up to a Sync message is one transaction, which the Sync commits.
Source: PostgreSQL documentation, chapter Frontend/Backend Protocol, Pipelining; libpq, Pipeline Mode.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from psycopg import pq
from psycopg.waiting import Ready, Wait
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import PoolProxiedConnection

from archive import db
from archive.answering import Connection

#: Errors of a database that is there.
_RACES = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)

_Exchange = Generator[Wait, Ready, Any]


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that returns one row of one column."""

    #: Under which a connection has it prepared.
    name: str
    #: With $1, $2 ... for its values.
    text: str


def nothing() -> None:
    """Do nothing meanwhile."""


def run(statement: Statement, values: Sequence[str | None], meanwhile: Callable[[], None] = nothing) -> str:
    """Run a statement on a connection of the pool, in a transaction that is committed when `meanwhile` has returned.

    Args:
        statement: is prepared at its first use on a connection.
        values: as PostgreSQL reads them.
        meanwhile: runs while the server works, twice if the connection has lost what was prepared; what it raises
            goes through, and nothing is committed then.

    Returns:
        The value, as PostgreSQL writes it.

    Raises:
        OperationalError: of SQLAlchemy; the server gave it up for that of another, and nothing was committed, or it is
            away, and whether it has committed is not known.
        psycopg.Error: anything else that the server says; nothing was committed.
    """
    with closing(_pooled()) as pooled:
        connection = cast("Connection", pooled.driver_connection)
        try:
            try:
                return run_on(connection, statement, values, meanwhile)
            except psycopg.errors.InvalidSqlStatementName:
                return run_on(connection, statement, values, meanwhile)
        except (psycopg.OperationalError, psycopg.InterfaceError) as exc:
            if not isinstance(exc, _RACES):
                pooled.invalidate(exc)
            raise OperationalError(None, None, exc) from exc
        finally:
            if connection.closed:
                pooled.invalidate()


def _pooled() -> PoolProxiedConnection:
    """Take a connection of the pool; what the driver says of a database that is away is told as elsewhere."""
    try:
        return db.engine().raw_connection()
    except (psycopg.OperationalError, psycopg.InterfaceError) as exc:
        raise OperationalError(None, None, exc) from exc


def run_on(
    connection: Connection, statement: Statement, values: Sequence[str | None], meanwhile: Callable[[], None]
) -> str:
    """Do what `run` does on a connection that is in no transaction.

    Raises:
        psycopg.Error: as the server says; nothing was committed.
        psycopg.OperationalError: the server is away; whether it has committed is not known.
    """
    _prepare(connection, statement)
    encoded = [_encoded(value) for value in values]
    pgconn = connection.pgconn
    pgconn.enter_pipeline_mode()
    is_over = False
    try:
        pgconn.send_query_prepared(statement.name.encode(), encoded)
        _send(connection)
        meanwhile()
        pgconn.pipeline_sync()
        _send(connection)
        results: list[pq.abc.PGresult] = connection.wait(_results(pgconn))
        pgconn.exit_pipeline_mode()
        is_over = True
    finally:
        if not is_over:
            # The server has not seen the end of the transaction: it undoes it.
            connection.close()
    try:
        return _value(results[0])
    except psycopg.errors.InvalidSqlStatementName:
        connection.prepared.discard(statement.name)
        raise


def _prepare(connection: Connection, statement: Statement) -> None:
    if statement.name in connection.prepared:
        return
    # The driver drops what is prepared with some errors and leaves it with others.
    known = connection.execute("SELECT FROM pg_prepared_statements WHERE name = %s", [statement.name])
    if not known.fetchall():
        connection.execute(f"PREPARE {statement.name} AS {statement.text}")
    connection.commit()
    connection.prepared.add(statement.name)


def _encoded(value: str | None) -> bytes | None:
    if value is None:
        return None
    if "\0" in value:
        raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")  # it would end there
    return value.encode()


def _send(connection: Connection) -> None:
    if connection.pgconn.flush():
        connection.wait(_flushed(connection.pgconn))


def _flushed(pgconn: pq.abc.PGconn) -> _Exchange:
    while pgconn.flush():
        if (yield Wait.RW) & Ready.R:
            pgconn.consume_input()


def _results(pgconn: pq.abc.PGconn) -> _Exchange:
    """Return what the server says up to the Sync."""
    results: list[pq.abc.PGresult] = []
    while True:
        while pgconn.is_busy():
            yield Wait.R
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            continue  # stands behind what each statement says
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            return results
        results.append(result)


def _value(result: pq.abc.PGresult) -> str:
    if result.status != pq.ExecStatus.TUPLES_OK:
        state = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
        text = result.get_error_message()
        try:
            raise psycopg.errors.lookup(state.decode())(text)
        except KeyError:
            raise psycopg.DatabaseError(text) from None
    value = result.get_value(0, 0)
    if value is None:
        raise psycopg.DataError("a statement that returns a value returned NULL")
    return value.decode()
