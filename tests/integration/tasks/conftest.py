"""One database for all tests of this folder, emptied before each: far faster than a fresh one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from archive import configuration, db
from config import settings
from config.device import Cluster
from tests import factories, stored_study
from workers.embedded.postgres import EmbeddedPostgres


@pytest.fixture(scope="session")
def tasks_database(postgres: EmbeddedPostgres) -> str:
    """The URL of a database with our schema."""
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE test_of_tasks TEMPLATE template_arcfleet STRATEGY file_copy")
        # A test that waits for a lock that nobody gives up fails soon.
        connection.execute("ALTER DATABASE test_of_tasks SET lock_timeout = '20s'")
    return postgres.url_of("test_of_tasks")


@pytest.fixture
def cluster(tasks_database: str) -> Iterator[Cluster]:
    """An empty database as this process's, and the devices archive-a and archive-b as its configuration."""
    db.use(db.make_engine(tasks_database, pool_size=20))
    factories.empty()
    yield factories.use_cluster()
    configuration.reset()
    db.use(None)


@pytest.fixture
def archive(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[stored_study.Archive]:
    """A study of three objects, stored in a home of its own."""
    monkeypatch.setenv("ARCFLEET_HOME", str(tmp_path / "home"))
    settings.reload()
    yield from stored_study.stored(tmp_path)
    monkeypatch.undo()
    settings.reload()
