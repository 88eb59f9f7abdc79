"""Files are written whole or not at all, and never outside their root."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from archive import errors
from archive.storage import disk, files

NOW = datetime(2026, 2, 3, tzinfo=UTC)


def content_of(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*"))


def test_path_is_made_of_date_and_hashes_and_is_new_each_time() -> None:
    first = files.path_for("1.2", "1.2.3", "1.2.3.4", NOW)
    second = files.path_for("1.2", "1.2.3", "1.2.3.4", NOW)

    assert first.startswith("2026/02/03/")
    assert first.rpartition("-")[0] == second.rpartition("-")[0]
    assert first != second


def test_written_file_has_its_bytes_size_and_digest(tmp_path: Path) -> None:
    written = files.write(tmp_path, "a/b/c", [b"one", b"two"])

    assert (tmp_path / "a/b/c").read_bytes() == b"onetwo"
    assert written == files.Written("a/b/c", 6, hashlib.sha256(b"onetwo").hexdigest())
    assert content_of(tmp_path) == ["a", "a/b", "a/b/c"]


@pytest.mark.parametrize("relative", ["../x", "a/../../x", "/etc/x", "", "a//b", "./a", "a/.", "a\0b", "..", "a\\b"])
def test_path_that_leaves_the_root_is_refused(tmp_path: Path, relative: str) -> None:
    with pytest.raises(errors.UnsafePath):
        files.write(tmp_path, relative, b"x")
    with pytest.raises(errors.UnsafePath):
        files.remove(tmp_path, relative)

    assert content_of(tmp_path) == []


def test_link_that_leads_out_of_the_root_is_refused(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "a").symlink_to(outside)

    with pytest.raises(errors.UnsafePath, match="through a link"):
        files.write(root, "a/b", b"x")

    assert content_of(outside) == []


def test_file_is_never_replaced(tmp_path: Path) -> None:
    files.write(tmp_path, "a/b", b"first")

    with pytest.raises(errors.StorageError, match="exists already"):
        files.write(tmp_path, "a/b", b"second")

    assert (tmp_path / "a/b").read_bytes() == b"first"
    assert content_of(tmp_path) == ["a", "a/b"]


def test_content_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        files.write(tmp_path, "a/b/c", broken())

    assert content_of(tmp_path) == []


def test_root_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(errors.StorageError, match="could not be written"):
        files.write(tmp_path / "gone", "a/b", b"x")

    assert not (tmp_path / "gone").exists()


def test_remove_takes_the_file_its_part_and_its_empty_folders(tmp_path: Path) -> None:
    files.write(tmp_path, "a/b/c", b"x")
    files.write(tmp_path, "a/d", b"x")
    (tmp_path / "a/b/c.part").write_bytes(b"x")

    assert files.remove(tmp_path, "a/b/c")
    assert content_of(tmp_path) == ["a", "a/d"]
    assert files.remove(tmp_path, "a/d")
    assert content_of(tmp_path) == []
    assert not files.remove(tmp_path, "a/d")


def test_verify_says_what_is_wrong(tmp_path: Path) -> None:
    written = files.write(tmp_path, "f", b"right")
    path = tmp_path / "f"

    assert files.verify(path, written.size_bytes, written.sha256) is None
    assert "has 5 bytes, expected 6" in str(files.verify(path, 6, written.sha256))
    path.write_bytes(b"wrong")
    assert "has SHA-256" in str(files.verify(path, 5, written.sha256))
    path.unlink()
    assert "does not exist" in str(files.verify(path, 5, written.sha256))


def test_steps_are_told_in_order(tmp_path: Path) -> None:
    steps: list[str] = []

    files.write(tmp_path, "a", b"x", after_step=steps.append)

    assert steps == ["part", "renamed", "synced"]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The folders that were synced, below the root."""
    seen: list[str] = []
    sync_folder = disk.sync_folder

    def note(folder: str | Path) -> None:
        sync_folder(folder)
        seen.append(Path(folder).relative_to(tmp_path).as_posix())

    monkeypatch.setattr(disk, "sync_folder", note)
    return seen


def test_folder_that_another_process_has_made_is_entered_in_its_parent_for_good(
    tmp_path: Path, synced: list[str]
) -> None:
    (tmp_path / "a/b").mkdir(parents=True)

    files.write(tmp_path, "a/b/1", b"x")

    assert synced == [".", "a", "a/b"]


def test_known_folder_costs_no_more_than_its_own_sync(tmp_path: Path, synced: list[str]) -> None:
    files.write(tmp_path, "a/b/1", b"x")
    synced.clear()

    files.write(tmp_path, "a/b/2", b"x")

    assert synced == ["a/b"]


def test_folder_that_was_removed_and_made_again_is_synced_again(tmp_path: Path, synced: list[str]) -> None:
    files.write(tmp_path, "a/b/1", b"x")
    files.write(tmp_path, "a/2", b"x")
    files.remove(tmp_path, "a/b/1")
    (tmp_path / "a/b").mkdir()
    synced.clear()

    files.write(tmp_path, "a/b/3", b"x")

    assert synced == ["a", "a/b"]


def test_folder_that_another_process_removed_is_made_and_synced_again(tmp_path: Path, synced: list[str]) -> None:
    files.write(tmp_path, "a/b/1", b"x")
    shutil.rmtree(tmp_path / "a")
    synced.clear()

    files.write(tmp_path, "a/b/2", b"x")

    assert synced == [".", "a", "a/b"]


def test_folders_that_are_known_are_bounded(tmp_path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_MOST_KNOWN", 3)

    for number in range(10):
        files.write(tmp_path, f"{number}/1", b"x")

    assert len(disk._known) <= 3
    assert synced.count(".") == 10


def test_removed_file_is_gone_for_good(tmp_path: Path, synced: list[str]) -> None:
    files.write(tmp_path, "a/b/1", b"x")
    files.write(tmp_path, "a/2", b"x")
    synced.clear()

    files.remove(tmp_path, "a/b/1")

    assert synced == ["a"]


def test_folders_that_files_left_are_synced_once_as_far_as_they_are_there(tmp_path: Path, synced: list[str]) -> None:
    for path in ("a/b/1", "a/b/2", "a/3", "a/4"):
        files.write(tmp_path, path, b"x")
    left: set[Path] = set()
    for path in ("a/b/1", "a/b/2", "a/3"):
        files.remove(tmp_path, path, unsynced=left)
    synced.clear()

    files.sync_remaining(tmp_path, left)

    assert synced == ["a"]
