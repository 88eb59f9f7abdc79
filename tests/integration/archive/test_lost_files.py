"""Copies that are gone from disk, or cut, do not count: the object is taken again, and the row tells what was found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from archive_agreement import archive_a, count_of, incoming, unlink_list, write_object
from offering import Sendable, made, reception, stored_data_sets
from sqlalchemy import select, update

from archive import db, model, query
from archive.model import FileStatus
from archive.storage import ingest
from archive.storage.choosing import Chooser
from archive.storage.copies import Copier
from archive.storage.ingest import Ending

pytestmark = pytest.mark.usefixtures("home")

NEARLINE = "NEARLINE_STORAGE"


def receive(sent: Sendable, source: str = "CT_1", policy: str = "NEVER") -> Ending:
    now = reception(source, device=replace(archive_a(), overwrite_policy=policy))
    ending = now.store(sent.offered()).ending
    now.close()
    return ending


def files_of() -> list[tuple[Path, FileStatus]]:
    """Return path and status of all file rows, oldest first."""
    found = select(model.FileSystem.path, model.File.path, model.File.status)
    found = found.join(model.File, model.File.file_system_id == model.FileSystem.id).order_by(model.File.id)
    with db.transaction() as session:
        return [(Path(root, relative), status) for root, relative, status in session.execute(found)]


def lose(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


LOSSES = pytest.mark.parametrize(("damage", "status"), [(lose, FileStatus.MISSING), (empty, FileStatus.DIFFERS)])


def put_away(group: str) -> None:
    """Take away the markers of a group, as if its disks were not mounted."""
    with db.transaction() as session:
        for root in session.scalars(select(model.FileSystem.path).where(model.FileSystem.group_id == group)):
            Path(root, ".arcfleet-fs").rename(Path(root, "marker"))


@LOSSES
@pytest.mark.parametrize("source", ["CT_1", "CT_2"])
def test_object_whose_file_is_lost_is_received_again(tmp_path: Path, damage, status, source: str) -> None:  # type: ignore[no-untyped-def]
    sent = made(tmp_path)
    receive(sent, "CT_1")
    [(path, _)] = files_of()
    damage(path)

    assert receive(sent, source) is Ending.STORED

    (_, first), (kept, second) = files_of()
    assert (first, second) == (status, FileStatus.DEFAULT)
    assert kept.read_bytes().endswith(sent.data_set)
    assert (count_of(model.Instance), unlink_list()) == (1, [])
    assert receive(sent, source) is Ending.DUPLICATE


def test_lost_file_makes_place_for_other_content_too(tmp_path: Path) -> None:
    receive(made(tmp_path / "1"))
    lose(files_of()[0][0])

    assert receive(made(tmp_path / "2", PatientComments="corrected")) is Ending.STORED


@LOSSES
def test_object_whose_file_is_lost_is_imported_again(online: model.FileSystem, tmp_path: Path, damage, status) -> None:  # type: ignore[no-untyped-def]
    offered = incoming(write_object(tmp_path / "1"))
    ingest.store(online, [offered])
    damage(files_of()[0][0])

    assert [one.ending for one in ingest.store(online, [offered])] == [Ending.STORED]

    assert [found for _, found in files_of()] == [status, FileStatus.DEFAULT]
    assert [one.ending for one in ingest.store(online, [offered])] == [Ending.DUPLICATE]


def test_file_of_a_disk_that_is_not_mounted_counts_as_before(tmp_path: Path) -> None:
    sent = made(tmp_path)
    receive(sent)
    copy_to_nearline()
    lose(files_of()[0][0])
    path = files_of()[1][0]
    path.rename(tmp_path / "elsewhere")
    put_away(NEARLINE)

    assert receive(sent) is Ending.DUPLICATE

    assert [status for _, status in files_of()] == [FileStatus.MISSING, FileStatus.DEFAULT]


def test_file_that_another_device_keeps_for_itself_counts_as_before(tmp_path: Path) -> None:
    sent = made(tmp_path)
    receive(sent)
    lose(files_of()[0][0])
    with db.transaction() as session:
        other = model.File.file_system_id == model.FileSystem.id
        moved = update(model.FileSystem).where(other).values(owner_device="archive-c", shared_with=[])
        session.execute(moved.values(group_id="OTHER", status=model.FileSystemStatus.WRITABLE))

    assert receive(sent) is Ending.DUPLICATE

    assert [status for _, status in files_of()] == [FileStatus.DEFAULT]


def copy_to_nearline() -> list[bool]:
    with db.transaction() as session:
        items = query.objects_of(session, "1.2.1", device_name="archive-a")
    with Copier(Chooser("archive-a", archive_a().file_system_groups[NEARLINE])) as copier:
        return [copier.copy(item) for item in items]


@LOSSES
def test_copy_that_is_lost_is_made_anew(tmp_path: Path, damage, status) -> None:  # type: ignore[no-untyped-def]
    sent = made(tmp_path)
    receive(sent)
    assert copy_to_nearline() == [True]
    damage(files_of()[1][0])

    assert copy_to_nearline() == [True]
    assert copy_to_nearline() == [False]

    assert [found for _, found in files_of()] == [FileStatus.DEFAULT, status, FileStatus.DEFAULT]
    assert files_of()[2][0].read_bytes().endswith(sent.data_set)
    assert unlink_list() == []


@pytest.mark.parametrize("policy", ["ALWAYS", "EVEN_WITH_EQUAL_DIGEST"])
def test_policies_that_always_replace_replace(tmp_path: Path, policy: str) -> None:
    receive(made(tmp_path / "1"))
    second = made(tmp_path / "2", PatientComments="corrected")

    assert receive(second, "CT_2", policy) is Ending.STORED

    assert stored_data_sets() == {second.sop_uid: [second.data_set]}
    assert receive(second, "CT_2", policy) is Ending.DUPLICATE
