"""A sweep that is cut off at any point leaves no row without a file, and no file that nobody knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from archive_agreement import count_of, disagreements, incoming, sweep_at_once, unlink_list, write_object
from offering import made, reception
from sqlalchemy import select

from archive import db, model
from archive.storage import disk, files, ingest, naming, unlinking
from archive.storage.ingest import Ending


class CutOff(Exception):
    """What a worker that dies, or a database that goes away, looks like from within."""


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Sweep, and die when a file has left the disk, before this is committed."""
    remove = files.remove

    def sweep() -> None:
        def remove_and_die(root: Path, relative: str, **rest: set[Path]) -> bool:
            remove(root, relative, **rest)
            if Path(relative).name.startswith(".arcfleet-probe"):
                return True
            raise CutOff

        with monkeypatch.context() as patched:
            patched.setattr(files, "remove", remove_and_die)
            with pytest.raises(CutOff):
                sweep_at_once("archive-a")

    return sweep


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were synced, in their order."""
    seen: list[Path] = []
    sync_folder = disk.sync_folder

    def note(folder: str | Path) -> None:
        sync_folder(folder)
        seen.append(Path(folder))

    monkeypatch.setattr(disk, "sync_folder", note)
    return seen


def put_on_list(file_system: model.FileSystem, *paths: str) -> None:
    """Write files that no row names, and list them as due."""
    for path in paths:
        files.write(Path(file_system.path), path, b"x")
    with db.transaction() as session:
        reason = model.UnlinkReason.DELETED
        session.add_all(model.Unlink(file_system_id=file_system.id, path=path, reason=reason) for path in paths)


def test_writer_whose_file_was_unlinked_by_a_sweep_that_was_cut_off_stores_nothing(
    online: model.FileSystem, tmp_path: Path, cut_off: Callable[[], None]
) -> None:
    def sweep(done: str) -> None:
        if done == "synced":
            cut_off()

    results = ingest.store(online, [incoming(write_object(tmp_path / "1"))], after_step=sweep)

    assert [r.ending for r in results] == [Ending.FAILED]
    assert (count_of(model.Instance), disagreements()) == (0, [])
    sweep_at_once("archive-a")
    assert (unlink_list(), disagreements()) == ([], [])


@pytest.mark.parametrize(("number", "step"), [(1, "synced"), (1, "listed"), (3, "listed")])
@pytest.mark.usefixtures("home")
def test_received_object_whose_name_was_taken_by_a_sweep_that_was_cut_off_is_written_again(
    tmp_path: Path, cut_off: Callable[[], None], number: int, step: str
) -> None:
    steps: list[str] = []

    def sweep(done: str) -> None:
        steps.append(done)
        if done == step and steps.count(step) == number:
            cut_off()

    now = reception(after_step=sweep)
    endings = [now.store(made(tmp_path, number=n).offered()).ending for n in range(1, 5)]
    now.close()

    assert endings == [Ending.STORED] * 4
    assert disagreements() == []
    sweep_at_once("archive-a")
    assert (count_of(model.File), unlink_list(), disagreements()) == (4, [], [])


def test_disk_that_is_unmounted_in_the_middle_of_a_sweep_loses_no_entry(
    online: model.FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = ["a/1", "a/2", "b/3"]
    put_on_list(online, *paths)
    root, remove = Path(online.path), files.remove

    def unmount_and_remove(where: Path, relative: str, **rest: set[Path]) -> bool:
        if relative == "a/2":
            root.rename(tmp_path / "disk")
            root.mkdir()
        return remove(where, relative, **rest)

    with monkeypatch.context() as patched:
        patched.setattr(files, "remove", unmount_and_remove)
        cleared = unlinking.clear_unfinished("archive-a")
    root.rmdir()
    (tmp_path / "disk").rename(root)

    assert (cleared.entries, cleared.failed, len(cleared.skipped)) == (0, 0, 1)
    assert "is the disk mounted?" in cleared.skipped[0]
    assert [path for _, path in unlink_list()] == paths
    assert unlinking.clear_unfinished("archive-a") == unlinking.Cleared(files=2, entries=3)
    assert (unlink_list(), disagreements()) == ([], [])


def test_disk_that_is_unmounted_between_two_batches_loses_no_entry(
    online: model.FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlinking, "_BATCH", 1)
    put_on_list(online, "a/1", "a/2")
    root, remove = Path(online.path), files.remove

    def remove_and_hide(where: Path, relative: str, **rest: set[Path]) -> bool:
        found = remove(where, relative, **rest)
        if not relative.startswith(".arcfleet-probe"):
            (root / ".arcfleet-fs").rename(tmp_path / "marker")
        return found

    monkeypatch.setattr(files, "remove", remove_and_hide)
    cleared = unlinking.clear_unfinished("archive-a")

    assert (cleared.entries, len(cleared.skipped)) == (0, 1)
    assert [path for _, path in unlink_list()] == ["a/1", "a/2"]
    assert (root / "a/2").exists()


def test_folders_are_synced_before_entries_leave_the_list(online: model.FileSystem, synced: list[Path]) -> None:
    put_on_list(online, "a/b/1", "a/2", "c/3")
    root = Path(online.path)
    files.write(root, "a/stays", b"x")
    synced.clear()

    assert unlinking.clear_unfinished("archive-a") == unlinking.Cleared(files=3, entries=3)

    assert {root, root / "a"} <= set(synced)
    assert unlink_list() == []


def test_file_that_is_gone_already_is_made_gone_for_good(
    online: model.FileSystem, cut_off: Callable[[], None], synced: list[Path]
) -> None:
    put_on_list(online, "a/b/1")
    files.write(Path(online.path), "a/stays", b"x")
    cut_off()
    synced.clear()

    assert unlinking.clear_unfinished("archive-a") == unlinking.Cleared(entries=1)

    assert Path(online.path, "a") in synced


def test_entries_stay_while_their_folder_cannot_be_synced(
    online: model.FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_list(online, "a/1", "a/2")
    files.write(Path(online.path), "a/stays", b"x")
    sync_folder = disk.sync_folder

    def refuse(folder: str | Path) -> None:
        if Path(folder).name == "a":
            raise OSError(5, "Input/output error")
        sync_folder(folder)

    with monkeypatch.context() as patched:
        patched.setattr(disk, "sync_folder", refuse)
        cleared = unlinking.clear_unfinished("archive-a")

    assert (cleared.entries, cleared.failed) == (0, 2)
    with db.transaction() as session:
        entries = session.scalars(select(model.Unlink)).all()
    assert ["Input/output error" in (entry.error or "") for entry in entries] == [True, True]


def test_name_of_a_file_that_was_abandoned_is_withdrawn_when_its_folder_is_synced(
    online: model.FileSystem, synced: list[Path]
) -> None:
    names = naming.Names()
    name = names.take(online, "1.2", "1.2.3")
    part = files.Part(Path(name.root), name.path)
    part.append(b"x")
    part.abandon()
    names.give_back(name)
    synced.clear()

    names.close()

    assert synced == [Path(online.path)]
    assert unlink_list() == []


def test_names_that_were_never_used_are_withdrawn_without_a_look_at_the_disk(
    online: model.FileSystem, synced: list[Path]
) -> None:
    names = naming.Names()
    names.take(online, "1.2", "1.2.3")

    names.close()

    assert synced == []


def test_file_that_its_writer_gave_up_is_gone_for_good_when_it_leaves_the_list(
    online: model.FileSystem, tmp_path: Path, synced: list[Path]
) -> None:
    offered = incoming(write_object(tmp_path / "1"))

    def broken() -> Iterator[bytes]:
        yield b"half"
        synced.clear()
        raise OSError(5, "Input/output error")

    results = ingest.store(online, [ingest.Incoming("1", offered.header, broken)])

    assert [r.ending for r in results] == [Ending.FAILED]
    assert unlink_list() == []
    assert synced == [Path(online.path)]
