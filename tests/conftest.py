"""Real servers for the tests: one PostgreSQL and one Valkey per test process, a fresh database per test."""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import structlog

from archive import db, schema
from workers.embedded.postgres import EmbeddedPostgres
from workers.embedded.valkey import EmbeddedValkey

_TEMPLATE = "template_arcfleet"
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _logs() -> None:
    """Send log lines where every process of ours sends them: away from what a command prints."""
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=sys.__stderr__))


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """A short folder (a socket's path has at most 100 bytes) that is gone after the run."""
    folder = Path(tempfile.mkdtemp(prefix="arcfleet-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(servers_folder: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL whose database `template_arcfleet` holds the newest schema."""
    unsafe_but_fast = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    server = EmbeddedPostgres(servers_folder / "postgres", servers_folder / "pg", settings=unsafe_but_fast)
    server.start()
    try:
        with psycopg.connect(server.url_of("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {_TEMPLATE}")
        schema.upgrade(server.url_of(_TEMPLATE))
        yield server
    finally:
        server.stop()


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a fresh database with our schema, which is also this process's engine."""
    name = f"test_{next(_numbers)}"
    admin = postgres.url_of("postgres")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY file_copy")
    url = postgres.url_of(name)
    db.use(db.make_engine(url))
    yield url
    db.use(None)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def valkey(servers_folder: Path) -> Iterator[EmbeddedValkey]:
    """A Valkey of this test process."""
    server = EmbeddedValkey(servers_folder / "valkey", servers_folder / "vk")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def broker(valkey: EmbeddedValkey) -> str:
    """The URL of an empty Valkey."""
    with valkey.client() as client:
        client.flushall()
    return valkey.url
