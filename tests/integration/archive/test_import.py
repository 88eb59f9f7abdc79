"""Importing folders: pydicom's samples, oddities of file names, and the command."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_agreement import SAMPLES, archive_a, disagreements, unlink_list, write_object
from click.testing import CliRunner
from sqlalchemy import select

from api.cli import import_
from archive import configuration, db, errors, model
from archive.storage import importing
from config import settings
from config.device import Cluster, Device


def run_import(folder: Path, home: Path) -> importing.ImportResult:
    return importing.import_folder(archive_a(), folder, home=home)


def test_all_samples_are_stored_as_they_are_or_named(home: Path) -> None:
    sources = {hashlib.sha256(p.read_bytes()).hexdigest() for p in SAMPLES.rglob("*") if p.is_file()}
    seen: list[tuple[int, int]] = []

    result = importing.import_folder(
        archive_a(), SAMPLES, home=home, progress=lambda done, found: seen.append((done, found))
    )

    total = sum(p.is_file() for p in SAMPLES.rglob("*"))
    assert result.stored > 100
    assert result.stored + result.duplicates + len(result.differing) + len(result.refused) == total
    assert (result.failed, result.stopped, seen[-1]) == ([], None, (total, total))
    assert (unlink_list(), disagreements()) == ([], [])
    with db.transaction() as session:
        stored = session.scalars(select(model.File)).all()
        assert {row.sha256 for row in stored} <= sources
        assert sum(row.size_bytes for row in stored) == result.bytes
        assert set(session.scalars(select(model.Study.study_uid))) == result.studies
        assert set(session.scalars(select(model.Series.state))) == {model.SeriesState.STORED}
        assert session.scalars(select(model.BytesReceived)).all() == []

    again = run_import(SAMPLES, home)

    assert (again.stored, again.duplicates) == (0, result.stored + result.duplicates)
    assert (again.differing, again.refused, again.is_complete) == (result.differing, result.refused, True)
    assert disagreements() == []


def test_what_is_no_object_is_named_with_its_reason(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_object(folder / "deep" / "er" / "object")
    (folder / "text").write_text("hello")
    (folder / "empty").touch()
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to(folder / "nowhere")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe")).write_bytes(b"x")

    result = run_import(folder, home)

    assert result.stored == 1
    assert [(Path(path).name, reason[:20]) for path, reason in result.refused] == [
        ("empty", "not DICOM Part 10 (n"),
        ("link", "not a regular file"),
        ("pipe", "not a regular file"),
        ("text", "not DICOM Part 10 (n"),
        (r"\xff\xfe", "not DICOM Part 10 (n"),
    ]


@pytest.mark.parametrize(("made", "found"), [(False, "nothing"), (True, "a file")])
def test_folder_that_is_none_is_an_error_and_changes_nothing(
    database: str, tmp_path: Path, made: bool, found: str
) -> None:
    folder = tmp_path / "in"
    if made:
        folder.touch()

    with pytest.raises(errors.SourceError, match=f"Folder {folder}: found {found}, expected a folder"):
        run_import(folder, tmp_path / "home")

    assert not (tmp_path / "home").exists()


def test_device_without_an_online_group_is_refused_by_name(database: str, tmp_path: Path) -> None:
    with pytest.raises(errors.NotConfigured, match="Device archive-c has no file-system group ONLINE_STORAGE"):
        importing.import_folder(Device("archive-c"), tmp_path, home=tmp_path / "home")


@pytest.fixture
def configured(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Configure archive-a, and the foreign device pacs, in a home of the test."""
    monkeypatch.setenv("ARCFLEET_HOME", str(tmp_path / "home"))
    settings.reload()
    configuration.use(Cluster({"archive-a": archive_a(), "pacs": Device("pacs")}))
    yield tmp_path / "home"
    configuration.reset()
    monkeypatch.undo()
    settings.reload()


def test_command_prints_json_and_ends_with_0(configured: Path, tmp_path: Path) -> None:
    write_object(tmp_path / "in" / "1")
    (tmp_path / "in" / "text").write_text("hello")

    ended = CliRunner().invoke(
        import_.import_, ["--device", "archive-a", "--json", str(tmp_path / "in")], standalone_mode=False
    )

    assert ended.return_value == 0
    printed = json.loads(ended.stdout)
    assert (printed["stored"], printed["studies"]) == (1, ["1.2.1"])
    assert [Path(one["path"]).name for one in printed["refused"]] == ["text"]
    assert (configured / "online-1" / ".arcfleet-fs").is_file()


def test_command_prints_a_table_and_names_what_was_refused(configured: Path, tmp_path: Path) -> None:
    write_object(tmp_path / "in" / "1")
    (tmp_path / "in" / "[red]text").write_text("hello")

    ended = CliRunner().invoke(import_.import_, ["--device", "archive-a", str(tmp_path / "in")], standalone_mode=False)

    assert ended.return_value == 0
    assert "1 studies, 0.0 MB" in ended.stdout
    assert "[red]text: not DICOM Part 10" in ended.stdout


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("archive-x", "Device archive-x is not in the configuration; expected one of: archive-a"),
        ("pacs", "Device pacs is in the configuration, but not run by arcfleet; expected one of: archive-a"),
    ],
)
def test_command_names_the_known_devices(configured: Path, tmp_path: Path, name: str, said: str) -> None:
    ended = CliRunner().invoke(import_.import_, ["--device", name, str(tmp_path)], standalone_mode=False)

    assert str(ended.exception) == said
