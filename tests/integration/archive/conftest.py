"""A home with the file systems of one device."""

from __future__ import annotations

from pathlib import Path

import pytest
from archive_agreement import archive_a

from archive import db, model
from archive.storage import file_systems
from archive.storage.choosing import Chooser


@pytest.fixture
def home(database: str, tmp_path: Path) -> Path:
    """A home whose file systems of archive-a are made."""
    with db.transaction() as session:
        file_systems.ensure(session, archive_a(), tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def online(home: Path) -> model.FileSystem:
    """The file system that new objects go to."""
    return Chooser("archive-a", archive_a().file_system_groups["ONLINE_STORAGE"]).current()
