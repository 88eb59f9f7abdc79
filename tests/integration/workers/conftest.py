"""One database for all tests of this folder, emptied before each: far faster than a fresh one."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from archive import configuration, db
from config.device import Cluster
from tests import factories
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
def cluster(workers_database: str) -> Iterator[Cluster]:
    """An empty database as this process's, and the devices archive-a and archive-b as its configuration."""
    db.use(db.make_engine(workers_database, pool_size=20))
    factories.empty()
    yield factories.use_cluster()
    configuration.reset()
    db.use(None)
