"""One database for all tests of this folder, emptied before each; a broker and an application of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from celery import Celery

from archive import configuration, db
from config import settings
from config.device import Cluster
from tests import factories
from workers import housekeeping
from workers.app import make_app
from workers.embedded.postgres import EmbeddedPostgres


@pytest.fixture(scope="session")
def workers_database(postgres: EmbeddedPostgres) -> str:
    """The URL of a database with our schema."""
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE test_of_workers TEMPLATE template_arcfleet STRATEGY file_copy")
        # A test that waits for a lock that nobody gives up fails soon.
        connection.execute("ALTER DATABASE test_of_workers SET lock_timeout = '20s'")
    return postgres.url_of("test_of_workers")


@pytest.fixture
def cluster(workers_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """An empty database as this process's, and the devices archive-a and archive-b as its configuration."""
    db.use(db.make_engine(workers_database, pool_size=20))
    factories.empty()
    monkeypatch.setattr(housekeeping, "_known", {})
    yield factories.use_cluster()
    configuration.reset()
    db.use(None)


@pytest.fixture
def app(broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """The Celery application, with an empty Valkey."""
    monkeypatch.setenv("ARCFLEET_BROKER_URL", broker)
    settings.reload()
    yield make_app()
    monkeypatch.undo()
    settings.reload()
