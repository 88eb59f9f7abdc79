"""One server for all tests of the wire: a process of its own, with the shipped sample as its configuration."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from archive import db
from tests import factories
from tests.acceptance.wire.client import Archive
from tests.lab.cluster import free_port
from tests.lab.waiting import wait_until
from workers.embedded.postgres import EmbeddedPostgres
from workers.embedded.valkey import EmbeddedValkey

_NAME = "test_of_wire"


@pytest.fixture(scope="session")
def wire_database(postgres: EmbeddedPostgres) -> str:
    """The URL of a database with our schema."""
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {_NAME} TEMPLATE template_arcfleet STRATEGY file_copy")
    return postgres.url_of(_NAME)


@contextmanager
def running_api(database: str, valkey: EmbeddedValkey) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run `arcfleet api`; no worker runs, so that tasks stay as they are put. Yields its URL and the process."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ARCFLEET_")}
    with tempfile.TemporaryDirectory(prefix="arcfleet-wire-") as home:
        port = free_port()
        environment = {
            **plain, "ARCFLEET_HOME": home, "ARCFLEET_DATABASE_URL": database,
            "ARCFLEET_BROKER_URL": valkey.url, "ARCFLEET_API_PORT": str(port), "ARCFLEET_TIMEZONE": "Europe/Vienna",
        }  # fmt: skip
        log = Path(home) / "api.log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "api.cli.main", "api", "--offset", str(port % 20_000 + 1000)],
                env=environment, stderr=errors, stdout=errors,
            )  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: _is_ready(url), "the API is ready", say=log.read_text)
            yield url, process
        finally:
            process.terminate()
            process.wait(timeout=60)
        assert "Traceback" not in log.read_text()


@pytest.fixture(scope="session")
def server(wire_database: str, valkey: EmbeddedValkey) -> Iterator[str]:
    """The URL of an API process that all tests share."""
    with running_api(wire_database, valkey) as (url, _):
        yield url


@pytest.fixture
def archive(server: str, wire_database: str) -> Iterator[Archive]:
    """A client of the server; the tables of tasks are empty, and this process can put rows there."""
    db.use(db.make_engine(wire_database))
    factories.empty()
    client = Archive(server)
    yield client
    client.close()
    db.use(None)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
