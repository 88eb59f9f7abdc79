"""A disk that is unmounted, or mounted over, while an object is written: nothing is told as stored that is hidden."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from archive_agreement import archive_a, count_of, disagreements, incoming, unlink_list, write_object
from offering import made, reception, stored_data_sets
from small_disk import small_disk
from sqlalchemy import select

from archive import db, errors, model
from archive.storage import importing, ingest
from archive.storage.ingest import Ending
from tests.lab.agreement import after_sweep

MARKER = ".arcfleet-fs"

#: Done to the root of the file system that is written to.
Change = Callable[[Path], object]


@pytest.fixture
def roots(home: Path) -> list[Path]:
    """The two file systems of the online group."""
    return [home / "online-1", home / "online-2"]


def unmount(root: Path) -> None:
    (root / MARKER).rename(root.parent / "marker")


def mount_another(root: Path) -> None:
    text = (root / MARKER).read_text()
    at = text.index('"uuid": "') + 9
    (root / MARKER).write_text(text[:at] + "00000000" + text[at + 8 :])


def once_at(step: str, act: Callable[[], object], *, after: int = 0) -> Callable[[str], None]:
    """Return a step that does something the first time it comes to `step` after so many times."""
    left = [after]

    def seen(done: str) -> None:
        if done == step:
            left[0] -= 1
            if left[0] == -1:
                act()

    return seen


def is_empty(root: Path) -> bool:
    return [path.name for path in root.rglob("*") if path.is_file()] in ([], [MARKER])


# The first and second object of a series are indexed the thorough way, the fourth by one statement.
@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("step", ["listed", "part", "renamed", "synced"])
@pytest.mark.parametrize("change", [unmount, mount_another])
def test_object_goes_to_the_next_file_system_when_its_disk_leaves(
    roots: list[Path], tmp_path: Path, step: str, change: Change, before: int
) -> None:
    now = reception(after_step=once_at(step, lambda: change(roots[0]), after=before))
    objects = [made(tmp_path, number=number) for number in range(1, before + 2)]

    endings = [now.store(one.offered()).ending for one in objects]
    now.close()

    assert set(endings) == {Ending.STORED}
    with db.transaction() as session:
        where = session.scalars(
            select(model.FileSystem.path)
            .join(model.File, model.File.file_system_id == model.FileSystem.id)
            .order_by(model.File.id)
        ).all()
    assert [Path(path) for path in where] == [roots[0]] * before + [roots[1]]
    assert sum(path.is_file() for path in (roots[0]).rglob("2*/**/*")) == before
    assert stored_data_sets() == {one.sop_uid: [one.data_set] for one in objects}


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("step", ["part", "renamed", "synced"])
def test_object_that_was_written_below_the_mount_is_not_taken_as_stored_there(
    roots: list[Path], tmp_path: Path, step: str, before: int
) -> None:
    with ExitStack() as mounted:
        mount = once_at(step, lambda: mounted.enter_context(small_disk(roots[0], "1m")), after=before)
        now = reception(after_step=mount)
        for number in range(1, before + 2):
            assert now.store(made(tmp_path, number=number).offered()).ending is Ending.STORED
        now.close()

        assert is_empty(roots[0])
        assert len([path for path in roots[1].rglob("*") if path.is_file()]) == 2


def test_object_is_refused_when_no_disk_is_left(roots: list[Path], tmp_path: Path) -> None:
    unmount(roots[1])
    now = reception(after_step=once_at("listed", lambda: unmount(roots[0])))

    with pytest.raises(errors.NoPlace, match=r"online-1: no \.arcfleet-fs in it"):
        now.store(made(tmp_path).offered())
    now.close()

    assert count_of(model.Instance) == 0
    assert is_empty(roots[0])


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("step", ["part", "renamed", "synced"])
def test_disk_that_is_full_when_a_file_is_settled_is_left_for_the_next(
    roots: list[Path], tmp_path: Path, step: str, before: int
) -> None:
    def full() -> None:
        raise errors.NoSpace(f"File system {roots[0]} is full")

    now = reception(after_step=once_at(step, full, after=before))
    objects = [made(tmp_path, number=number) for number in range(1, before + 2)]

    endings = [now.store(one.offered()).ending for one in objects]
    now.close()

    assert set(endings) == {Ending.STORED}
    assert stored_data_sets() == {one.sop_uid: [one.data_set] for one in objects}
    assert (unlink_list(), disagreements()) == ([], [])


@pytest.mark.parametrize("step", ["part", "renamed"])
@pytest.mark.parametrize("change", [unmount, mount_another])
def test_batch_whose_disk_leaves_fails_from_there_on(
    online: model.FileSystem, roots: list[Path], tmp_path: Path, step: str, change: Change
) -> None:
    content = (roots[0] / MARKER).read_bytes()
    offered = [incoming(write_object(tmp_path / str(n), sop=f"1.2.1.1.{n}")) for n in (1, 2, 3)]

    results = ingest.store(online, offered, after_step=once_at(step, lambda: change(roots[0]), after=1))

    endings = {one.incoming.name: one.ending for one in results}
    assert [endings[one.name] for one in offered] == [Ending.STORED, Ending.FAILED, Ending.FAILED]
    assert {type(one.error) for one in results if one.error} == {errors.NotMounted}
    (roots[0] / MARKER).write_bytes(content)
    assert disagreements() == []
    assert after_sweep("archive-a") == []
    assert count_of(model.File) == 1


def test_batch_that_was_written_below_the_mount_fails(
    online: model.FileSystem, roots: list[Path], tmp_path: Path
) -> None:
    offered = incoming(write_object(tmp_path / "1"))
    with ExitStack() as mounted:
        mount = once_at("renamed", lambda: mounted.enter_context(small_disk(roots[0], "1m")))
        [result] = ingest.store(online, [offered], after_step=mount)

        assert isinstance(result.error, errors.NotMounted)
        assert count_of(model.Instance) == 0


def test_import_goes_on_to_the_next_file_system_when_a_disk_leaves(
    home: Path, roots: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3):
        write_object(tmp_path / "in" / str(number), sop=f"1.2.1.1.{number}")
    leave = once_at("part", lambda: unmount(roots[0]), after=1)
    store = ingest.store
    # The steps of an import cannot be had from outside.
    monkeypatch.setattr(ingest, "store", lambda target, batch: store(target, batch, after_step=leave))

    result = importing.import_folder(archive_a(), tmp_path / "in", home=home)

    assert (result.stored, result.failed, result.stopped) == (3, [], None)
    assert count_of(model.File) == 3
