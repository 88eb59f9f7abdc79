"""A database, a broker and a home without any process; all ports are ones on which nobody listens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from archive import configuration, db
from config import settings
from config.ldif_source import LdifSource
from tests.lab import ldif
from tests.lab.cluster import free_port

#: The connections of the sample, each with the device that listens there.
CONNECTIONS = (
    ("cn=dicom", "archive-a"), ("cn=http", "archive-a"), ("cn=dicom", "archive-b"), ("cn=http", "archive-b"),
    ("cn=dicom", "pacs"),
)  # fmt: skip


@pytest.fixture
def ports() -> dict[tuple[str, str], int]:
    """The port of each connection of the configuration."""
    found: set[int] = set()
    while len(found) < len(CONNECTIONS):
        found.add(free_port())
    return dict(zip(CONNECTIONS, sorted(found), strict=True))


@pytest.fixture
def home(
    database: str, broker: str, tmp_path: Path, ports: dict[tuple[str, str], int], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The home of a real deployment: the environment names both servers, the sample is the configuration."""
    folder = tmp_path / "home"
    moved = [ldif.Change(rdn, {"dicomPort": str(port)}, (device,)) for (rdn, device), port in ports.items()]
    ldif.make(folder / "config.ldif", moved)
    monkeypatch.setenv("ARCFLEET_HOME", str(folder))
    monkeypatch.setenv("ARCFLEET_DATABASE_URL", database)
    monkeypatch.setenv("ARCFLEET_BROKER_URL", broker)
    monkeypatch.setenv("ARCFLEET_API_PORT", str(free_port()))
    monkeypatch.setenv("ARCFLEET_FLOWER_PORT", str(free_port()))
    monkeypatch.setenv("ARCFLEET_TIMEZONE", "UTC")
    settings.reload()
    configuration.reset()
    yield folder
    db.use(None)
    monkeypatch.undo()
    settings.reload()
    configuration.reset()


@pytest.fixture
def source(home: Path) -> LdifSource:
    """The configuration, to be changed."""
    return LdifSource(home / "config.ldif")
