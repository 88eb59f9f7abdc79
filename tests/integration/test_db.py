"""Connections that the server has ended are noticed before they are used."""

from __future__ import annotations

import os
import signal

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from archive import db
from tests.lab.waiting import wait_until


def session_of() -> int:
    with db.transaction() as session:
        return int(session.scalar(text("SELECT pg_backend_pid()")) or 0)


def end_all_sessions(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as other:
        others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
        other.execute(f"SELECT pg_terminate_backend(pid) {others}")
        wait_until(lambda: not other.execute(f"SELECT 1 {others}").fetchall(), "the sessions have ended")


def test_transaction_after_the_server_has_ended_the_session_gets_another(database: str) -> None:
    before = session_of()
    assert session_of() == before

    end_all_sessions(database)

    assert session_of() != before


def test_connection_that_lives_is_used_again(database: str) -> None:
    assert len({session_of() for _ in range(5)}) == 1


def test_server_that_is_frozen_is_given_up_and_its_connection_is_not_used_again(database: str) -> None:
    engine = db.make_engine(database, pool_size=1, answer_s=1)
    db.use(engine)
    frozen = session_of()
    os.kill(frozen, signal.SIGSTOP)
    try:
        with pytest.raises(OperationalError, match="no answer from the database within 1 s"):
            session_of()

        assert session_of() != frozen
    finally:
        os.kill(frozen, signal.SIGCONT)


def test_statement_that_takes_too_long_is_ended_by_the_server(database: str) -> None:
    db.use(db.make_engine(database, pool_size=1, answer_s=1))
    before = session_of()

    with pytest.raises(db.OUTAGES, match="statement timeout"), db.transaction() as session:
        session.execute(text("SELECT pg_sleep(60)"))

    assert session_of() == before


def test_connection_of_an_engine_that_was_replaced_is_closed_when_it_is_given_back(database: str) -> None:
    held = db.engine().connect()
    driver = held.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)

    db.use(None)
    while_held = driver.closed
    held.close()

    assert (while_held, driver.closed) == (False, True)
