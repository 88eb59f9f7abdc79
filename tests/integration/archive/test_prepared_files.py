"""Where many objects of a series come, the file of the next one is begun while its sender is busy; it is never left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_agreement import count_of, disagreements, unlink_list
from offering import made, reception
from sqlalchemy import select, update

from archive import db, model
from archive.receiving.reception import Reception
from archive.storage import files
from archive.storage.ingest import Ending

pytestmark = pytest.mark.usefixtures("home")

MANY = 8


@pytest.fixture
def prepared(tmp_path: Path) -> Iterator[Reception]:
    """A reception that has prepared the file of its next object."""
    now = reception()
    for number in range(MANY):
        assert parts(tmp_path) == []
        now.store(made(tmp_path, number=number).offered())
        now.prepare()
    yield now
    now.close()
    assert parts(tmp_path) == []
    assert (unlink_list(), disagreements()) == ([], [])


def parts(folder: Path) -> list[Path]:
    return sorted((folder / "home").rglob("*" + files.PART))


def file_system_of(sop_uid: str) -> str:
    with db.transaction() as session:
        return session.scalars(
            select(model.FileSystem.path)
            .join(model.File, model.File.file_system_id == model.FileSystem.id)
            .join(model.Instance, model.Instance.id == model.File.instance_id)
            .where(model.Instance.sop_uid == sop_uid)
        ).one()


def test_next_object_of_the_series_gets_the_file(prepared: Reception, tmp_path: Path) -> None:
    [part] = parts(tmp_path)
    prepared.prepare()
    assert parts(tmp_path) == [part]

    assert prepared.store(made(tmp_path, number=MANY).offered()).ending is Ending.STORED

    assert part.with_name(part.name.removesuffix(files.PART)).exists()
    assert parts(tmp_path) == []


def test_object_of_another_series_does_not(prepared: Reception, tmp_path: Path) -> None:
    assert prepared.store(made(tmp_path, series=2).offered()).ending is Ending.STORED

    assert parts(tmp_path) == []
    prepared.prepare()
    assert parts(tmp_path) == []


def test_end_takes_the_file_off_the_disk(prepared: Reception, tmp_path: Path) -> None:
    prepared.close()

    assert parts(tmp_path) == []
    assert count_of(model.Unlink) == 0


def test_object_goes_to_the_file_system_that_is_current_when_it_comes(prepared: Reception, tmp_path: Path) -> None:
    sent = made(tmp_path, number=MANY)
    with db.transaction() as session:
        rows = {row.status: row for row in session.scalars(select(model.FileSystem).where(
            model.FileSystem.group_id == "ONLINE_STORAGE"))}  # fmt: skip
        old, new = rows[model.FileSystemStatus.CURRENT], rows[model.FileSystemStatus.WRITABLE]
        for row, status in ((old, model.FileSystemStatus.READ_ONLY), (new, model.FileSystemStatus.CURRENT)):
            session.execute(update(model.FileSystem).where(model.FileSystem.id == row.id).values(status=status))
            session.flush()
        expected = new.path
    prepared._chooser.forget()

    assert prepared.store(sent.offered()).ending is Ending.STORED

    assert file_system_of(sent.sop_uid) == expected
    assert parts(tmp_path) == []
