"""A home with the file systems of one device."""

from __future__ import annotations

from pathlib import Path

import pytest
from archive_agreement import archive_a

from archive import db, model
from archive.storage import file_systems


@pytest.fixture
def home(database: str, tmp_path: Path) -> Path:
    """A home whose file systems of archive-a are made."""
    with db.transaction() as session:
        file_systems.ensure(session, archive_a(), tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def online(home: Path) -> model.FileSystem:
    """The file system that new objects go to."""
    with db.transaction() as session:
        return file_systems.writable(session, "archive-a", "ONLINE_STORAGE")
