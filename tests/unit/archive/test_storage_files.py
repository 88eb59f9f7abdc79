"""Files are written whole or not at all, and never outside their root."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from archive import errors
from archive.storage import files

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
