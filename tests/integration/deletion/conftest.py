"""One database for all tests of this folder, emptied before each, and a home with the disks of archive-a."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from archive import configuration, db
from config import settings
from tests.lab import deletable
from tests.lab.deletable import House
from workers.embedded.postgres import EmbeddedPostgres


@pytest.fixture(scope="session")
def deletions_database(postgres: EmbeddedPostgres) -> str:
    """The URL of a database with our schema."""
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE test_of_deletions TEMPLATE template_arcfleet STRATEGY file_copy")
        # A test that waits for a lock that nobody gives up fails soon.
        connection.execute("ALTER DATABASE test_of_deletions SET lock_timeout = '20s'")
    return postgres.url_of("test_of_deletions")


@pytest.fixture
def house(deletions_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Empty disks of archive-a."""
    monkeypatch.setenv("ARCFLEET_HOME", str(tmp_path / "home"))
    settings.reload()
    db.use(db.make_engine(deletions_database, pool_size=20))
    with deletable.opened(tmp_path / "home") as made:
        yield made
    configuration.reset()
    db.use(None)
    monkeypatch.undo()
    settings.reload()
