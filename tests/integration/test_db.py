"""Connections that the server has ended are noticed before they are used."""

from __future__ import annotations

import psycopg
from sqlalchemy import text

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
