"""Copies in another group are whole, known to the index and the ledger, and made once."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from archive_agreement import archive_a, count_of, disagreements, sweep_at_once, unlink_list
from offering import Sendable, made, reception, stored_data_sets
from small_disk import small_disk
from sqlalchemy import delete, func, select, update

from archive import db, errors, model, query
from archive.query import StoredObject
from archive.storage import files
from archive.storage.choosing import Chooser
from archive.storage.copies import Copier
from archive.storage.copying import SourceGone

pytestmark = pytest.mark.usefixtures("home")

STUDY = "1.2.1"
ONLINE = "ONLINE_STORAGE"


@pytest.fixture
def sent(tmp_path: Path) -> list[Sendable]:
    """Three objects, stored in ONLINE_STORAGE."""
    objects = [made(tmp_path, number=n) for n in (1, 2)] + [made(tmp_path, series=2)]
    now = reception("CT_1")
    for one in objects:
        now.store(one.offered())
    now.close()
    return objects


def items() -> list[StoredObject]:
    with db.transaction() as session:
        return query.objects_of(session, STUDY, device_name="archive-a")


def chooser(group: str = "NEARLINE_STORAGE") -> Chooser:
    return Chooser("archive-a", archive_a().file_system_groups[group])


def copy_all(to: Chooser | None = None, *, after_step: files.Step = files.no_step) -> list[bool]:
    with Copier(to or chooser(), after_step=after_step) as copier:
        return [copier.copy(item) for item in items()]


def file_system(group: str) -> model.FileSystem:
    with db.transaction() as session:
        return session.scalars(
            select(model.FileSystem).where(model.FileSystem.group_id == group).order_by(model.FileSystem.id)
        ).all()[0]


def test_copies_have_the_bytes_the_rows_and_the_ledger_of_their_originals(sent: list[Sendable]) -> None:
    assert copy_all() == [True, True, True]

    assert stored_data_sets() == {one.sop_uid: [one.data_set] * 2 for one in sent}
    with db.transaction() as session:
        rows = session.scalars(select(model.File).order_by(model.File.instance_id, model.File.id)).all()
        ledger = session.scalars(select(model.StudyOnFileSystem.file_system_id)).all()
    for original, copy in zip(rows[::2], rows[1::2], strict=True):
        assert (copy.sha256, copy.size_bytes, copy.source) == (original.sha256, original.size_bytes, "CT_1")
        assert copy.file_system_id == file_system("NEARLINE_STORAGE").id
    assert set(ledger) == {file_system(ONLINE).id, file_system("NEARLINE_STORAGE").id}
    assert (unlink_list(), disagreements()) == ([], [])


def test_copies_are_not_counted_as_received_and_leave_series_alone(sent: list[Sendable]) -> None:
    copy_all()

    with db.transaction() as session:
        assert session.scalars(select(model.BytesReceived.num_objects)).one() == len(sent)
        assert set(session.scalars(select(model.Series.state))) == {model.SeriesState.STORED}


def test_second_run_copies_what_is_missing(sent: list[Sendable]) -> None:
    with Copier(chooser()) as copier:
        assert copier.copy(items()[0]) is True

    assert copy_all() == [False, True, True]
    assert copy_all() == [False, False, False]
    assert copy_all(chooser(ONLINE)) == [False, False, False]
    assert (count_of(model.File), unlink_list(), disagreements()) == (6, [], [])


def test_copy_that_is_not_good_any_more_is_made_anew(sent: list[Sendable]) -> None:
    copy_all()
    with db.transaction() as session:
        session.execute(
            update(model.File)
            .where(model.File.file_system_id == file_system("NEARLINE_STORAGE").id)
            .values(status=model.FileStatus.MISSING)
        )

    assert copy_all() == [True, True, True]


def test_two_copiers_of_one_study_copy_each_object_once(sent: list[Sendable]) -> None:
    with ThreadPoolExecutor(4) as pool:
        copied = [running.result() for running in [pool.submit(copy_all) for _ in range(4)]]

    assert [sum(of_object) for of_object in zip(*copied, strict=True)] == [1, 1, 1]
    assert (count_of(model.File), unlink_list(), disagreements()) == (6, [], [])


def test_damaged_file_is_never_copied(sent: list[Sendable]) -> None:
    item = items()[0]
    assert item.path is not None
    content = item.path.read_bytes()
    item.path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    with Copier(chooser()) as copier, pytest.raises(errors.SourceError, match="is not what was stored"):
        copier.copy(item)

    assert (count_of(model.File), unlink_list()) == (3, [])


def test_file_that_is_gone_cannot_be_copied(sent: list[Sendable]) -> None:
    item = items()[0]
    assert item.path is not None
    item.path.unlink()

    with Copier(chooser()) as copier, pytest.raises(SourceGone):
        copier.copy(item)

    assert (count_of(model.File), unlink_list()) == (3, [])


def test_object_that_is_deleted_while_it_is_copied_gets_no_copy(sent: list[Sendable]) -> None:
    item = items()[0]

    def delete_it(step: str) -> None:
        if step == "part":
            with db.transaction() as session:
                session.execute(delete(model.File).where(model.File.id == item.file_id))

    with (
        Copier(chooser(), after_step=delete_it) as copier,
        pytest.raises(errors.SourceError, match="was deleted or replaced while it was copied"),
    ):
        copier.copy(item)

    assert unlink_list() == []
    with db.transaction() as session:
        assert session.scalar(select(func.count()).select_from(model.StudyOnFileSystem)) == 1


@pytest.mark.parametrize("step", ["listed", "part", "renamed", "synced", "indexing"])
def test_copier_that_dies_after_a_step_leaves_nothing_unaccounted(
    database: str, sent: list[Sendable], step: str
) -> None:
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parents[2]), str(here)])}
    command = [sys.executable, str(here / "copy_process.py"), database, STUDY, step]
    assert subprocess.run(command, env=environment, check=False).returncode == 9

    assert disagreements() == []
    sweep_at_once("archive-a")
    assert (unlink_list(), disagreements(), count_of(model.File)) == ([], [], 3)
    assert copy_all() == [True, True, True]


def test_full_group_refuses_by_name(sent: list[Sendable]) -> None:
    with small_disk(file_system("NEARLINE_STORAGE").path, "64k,nr_inodes=3"):
        with pytest.raises(errors.NoPlace, match="Group NEARLINE_STORAGE of device archive-a has no place"):
            copy_all()

        assert (unlink_list(), disagreements()) == ([], [])
