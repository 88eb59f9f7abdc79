"""The application on a fresh database, with a small cluster and a fixed time zone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from api.app import create_app
from archive import configuration, db
from config import settings
from config.device import ApplicationEntity, Device, Exporter, NetworkConnection
from tests import factories
from tests.integration.api.wire import Wire
from workers.embedded.postgres import EmbeddedPostgres

#: Exporters of the cluster: `OnlyB` is at archive-b alone, `Lost` names a queue that there is not.
EXPORTERS = {
    "Noop": Exporter("Noop", "noop:", "Export", description="Sends nothing"),
    "Lost": Exporter("Lost", "noop:", "Nowhere"),
    "Strange": Exporter("Strange", "wado:X", "Export"),
}
ONLY_B = Exporter("OnlyB", "noop:", "Export")


#: Besides those about tasks.
_TABLES = ("audit", "api_token")


@pytest.fixture(scope="session")
def api_database(postgres: EmbeddedPostgres) -> str:
    """The URL of a database with our schema, emptied before each test: far faster than a fresh one."""
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE test_of_api TEMPLATE template_arcfleet STRATEGY file_copy")
    return postgres.url_of("test_of_api")


@pytest.fixture
def cluster(api_database: str, tmp_path: Path) -> Iterator[None]:
    before = dict(os.environ)
    db.use(db.make_engine(api_database, pool_size=20))
    factories.empty()
    for table in _TABLES:
        factories.sql(f"DELETE FROM {table}")
    settings.override(home=tmp_path, timezone="Europe/Vienna")
    factories.use_cluster(
        factories.device(
            exporters=EXPORTERS, description="First", software_versions=("1.0",),
            connections={"http": NetworkConnection("http", "127.0.0.1", 8081, "HTTP")},
        ),
        factories.device("archive-b", exporters={**EXPORTERS, "OnlyB": ONLY_B}, time_zone="Asia/Tokyo"),
        factories.device("asleep", installed=False),
        Device("other-house", is_archive=True, installed=True),
        Device("pacs", aes={"PACS": ApplicationEntity("PACS")}),
    )  # fmt: skip
    yield
    os.environ.clear()
    os.environ.update(before)
    settings.reload()
    configuration.reset()
    db.use(None)


@pytest.fixture
def wire(cluster: None) -> Iterator[Wire]:
    """A client on loopback, where nobody has a token."""
    with Wire(create_app()) as client:
        yield client
