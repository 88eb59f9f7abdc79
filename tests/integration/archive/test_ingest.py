"""Storing is crash-safe, and several processes at the same objects do not disturb each other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_agreement import count_of, disagreements, incoming, sweep_at_once, unlink_list, write_object
from sqlalchemy import select

from archive import db, errors, model
from archive.storage import files, ingest, unlinking
from archive.storage.ingest import Ending

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[2]), str(HERE)])}


def command(*args: object) -> list[str]:
    return [sys.executable, str(HERE / "store_process.py"), *map(str, args)]


def endings(results: list[ingest.Result]) -> list[Ending]:
    return [r.ending for r in results]


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """Three objects in two series of one study."""
    folder = tmp_path / "objects"
    write_object(folder / "1", sop="1.2.1.1.1")
    write_object(folder / "2", sop="1.2.1.1.2")
    write_object(folder / "3", series="1.2.1.2", sop="1.2.1.2.1", Modality="SR")
    return folder


@pytest.mark.parametrize(
    ("step", "count", "files_left", "stored"),
    [
        ("listed", 1, 0, 0),
        ("part", 1, 1, 0),
        ("renamed", 1, 1, 0),
        ("synced", 1, 3, 0),
        ("part", 3, 3, 0),
        ("renamed", 3, 3, 0),
        ("indexing", 1, 3, 0),
        ("indexed", 1, 3, 3),
    ],
)
def test_writer_killed_between_two_steps_leaves_nothing_unaccounted(
    database: str, home: Path, objects: Path, online: model.FileSystem, step: str, count: int,
    files_left: int, stored: int,
) -> None:  # fmt: skip
    ended = subprocess.run(command(database, home, objects, step, count), env=ENVIRONMENT, check=False)

    assert ended.returncode == -signal.SIGKILL
    assert disagreements() == []
    assert len([p for p in Path(online.path).rglob("*") if p.is_file()]) == 1 + files_left
    assert len(unlink_list()) == (0 if stored else 3)
    assert unlinking.clear_unfinished("archive-a") == unlinking.Cleared()

    cleared = sweep_at_once("archive-a")

    assert cleared == unlinking.Cleared(files=files_left - stored, entries=3 - stored)
    assert unlink_list() == []
    assert disagreements() == []
    assert count_of(model.File) == stored
    again = ingest.store(online, [incoming(p) for p in sorted(objects.iterdir())])
    assert endings(again) == [Ending.DUPLICATE if stored else Ending.STORED] * 3
    assert disagreements() == []


def test_two_processes_that_store_the_same_objects_store_each_once(database: str, home: Path, tmp_path: Path) -> None:
    for number in range(120):
        study, series = 1 + number % 3, 1 + number % 7
        uid = f"1.2.{study}.{series}"
        write_object(tmp_path / "in" / str(number), f"1.2.{study}", uid, f"{uid}.{number}", Modality=f"M{series}")

    running = [
        subprocess.Popen(command(database, home, tmp_path / "in"), env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]

    assert [process.wait(120) for process in running] == [0, 0]
    assert (count_of(model.Instance), count_of(model.File)) == (120, 120)
    assert (count_of(model.Study), count_of(model.Patient)) == (3, 1)
    assert unlink_list() == []
    assert disagreements() == []


@pytest.mark.parametrize(("name", "ending"), [("", Ending.DUPLICATE), ("Other", Ending.DIFFERS)])
def test_object_that_another_stores_meanwhile_is_compared_and_removed(
    online: model.FileSystem, tmp_path: Path, name: str, ending: Ending
) -> None:
    ours = incoming(write_object(tmp_path / "ours"))
    theirs = incoming(write_object(tmp_path / "theirs", **({"PatientName": name} if name else {})))

    def meanwhile(step: str) -> None:
        if step == "synced":
            assert endings(ingest.store(online, [theirs])) == [Ending.STORED]

    results = ingest.store(online, [ours], after_step=meanwhile)

    assert endings(results) == [ending]
    assert unlink_list() == []
    assert disagreements() == []
    assert count_of(model.File) == 1


@pytest.mark.parametrize(
    ("step", "said"), [("listed", "cleared"), ("renamed", "was written and is hid"), ("synced", "cleared")]
)
def test_writer_whose_list_entries_were_cleared_stores_nothing(
    online: model.FileSystem, tmp_path: Path, step: str, said: str
) -> None:
    def sweep(done: str) -> None:
        if done == step:
            sweep_at_once("archive-a")

    results = ingest.store(online, [incoming(write_object(tmp_path / "1"))], after_step=sweep)

    assert endings(results) == [Ending.FAILED]
    assert said in str(results[0].error)
    assert (count_of(model.Instance), unlink_list(), disagreements()) == (0, [], [])


def test_first_content_is_kept_and_a_second_one_differs(online: model.FileSystem, tmp_path: Path) -> None:
    first = incoming(write_object(tmp_path / "1"))
    same = incoming(write_object(tmp_path / "2"))
    other = incoming(write_object(tmp_path / "3", PatientName="Other"))

    assert endings(ingest.store(online, [first, same, other])) == [
        Ending.STORED, Ending.DUPLICATE, Ending.DIFFERS,
    ]  # fmt: skip
    assert disagreements() == []


def test_object_with_the_uid_of_another_study_makes_no_empty_study(online: model.FileSystem, tmp_path: Path) -> None:
    ingest.store(online, [incoming(write_object(tmp_path / "1"))])

    results = ingest.store(online, [incoming(write_object(tmp_path / "2", study="1.2.9"))])

    assert endings(results) == [Ending.DIFFERS]
    assert count_of(model.Study) == 1


def test_object_whose_file_is_gone_is_taken_again(online: model.FileSystem, tmp_path: Path) -> None:
    offered = incoming(write_object(tmp_path / "1"))
    ingest.store(online, [offered])
    with db.transaction() as session:
        row = session.scalars(select(model.File)).one()
        session.add(model.Unlink(file_system_id=online.id, path=row.path, reason=model.UnlinkReason.DELETED))
        session.delete(row)
    unlinking.clear_unfinished("archive-a")

    assert endings(ingest.store(online, [offered])) == [Ending.STORED]

    assert (count_of(model.Instance), count_of(model.File)) == (1, 1)
    assert disagreements() == []


def test_file_that_a_row_names_is_never_unlinked(online: model.FileSystem, tmp_path: Path) -> None:
    ingest.store(online, [incoming(write_object(tmp_path / "1"))])
    with db.transaction() as session:
        row = session.scalars(select(model.File)).one()
        session.add(model.Unlink(file_system_id=online.id, path=row.path, reason=model.UnlinkReason.DELETED))

    assert unlinking.clear_unfinished("archive-a") == unlinking.Cleared(entries=1)

    assert disagreements() == []


def test_nothing_is_written_or_unlinked_where_the_marker_is_gone(online: model.FileSystem, tmp_path: Path) -> None:
    offered = incoming(write_object(tmp_path / "1"))
    with db.transaction() as session:
        session.add(model.Unlink(file_system_id=online.id, path="a/b", reason=model.UnlinkReason.DELETED))
    marker = Path(online.path, ".arcfleet-fs")
    marker.rename(tmp_path / "marker")

    with pytest.raises(errors.StorageError, match=r"no \.arcfleet-fs in it, expected one with uuid"):
        ingest.store(online, [offered])
    cleared = unlinking.clear_unfinished("archive-a")

    assert (cleared.entries, len(cleared.skipped)) == (0, 1)
    assert list(Path(online.path).iterdir()) == []


def test_unreadable_object_fails_alone(online: model.FileSystem, tmp_path: Path) -> None:
    whole = incoming(write_object(tmp_path / "1"))
    broken = incoming(write_object(tmp_path / "2", sop="1.2.1.1.2"))

    def content() -> Iterator[bytes]:
        yield b"half"
        raise OSError(5, "Input/output error")

    broken = ingest.Incoming("2", broken.header, content)

    results = ingest.store(online, [broken, whole])

    assert sorted(endings(results)) == [Ending.FAILED, Ending.STORED]
    assert [str(r.error) for r in results if r.error] == ["2 could not be read: Input/output error"]
    assert (unlink_list(), disagreements()) == ([], [])


def test_full_disk_fails_by_name_and_leaves_nothing_half_done(online: model.FileSystem, tmp_path: Path) -> None:
    small = incoming(write_object(tmp_path / "1"))
    large = incoming(write_object(tmp_path / "2", sop="1.2.1.1.2", EncapsulatedDocument=b"\0" * 3_000_000))
    later = incoming(write_object(tmp_path / "3", sop="1.2.1.1.3"))
    marker = Path(online.path, ".arcfleet-fs").read_bytes()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", online.path]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("tmpfs cannot be mounted here; run as root or in a user namespace")
    try:
        Path(online.path, ".arcfleet-fs").write_bytes(marker)

        results = ingest.store(online, [small, large, later])

        assert endings(results) == [Ending.STORED, Ending.FAILED, Ending.FAILED]
        assert isinstance(results[1].error, errors.NoSpace)
        assert f"File system {online.path} is full" in str(results[1].error)
        assert (unlink_list(), disagreements(), count_of(model.File)) == ([], [], 1)
    finally:
        subprocess.run(["umount", "-l", online.path], check=True)


def test_path_on_the_unlink_list_that_leaves_the_root_is_refused(online: model.FileSystem, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"x")
    with db.transaction() as session:
        climbing = os.path.relpath(victim, online.path)
        session.add(model.Unlink(file_system_id=online.id, path=climbing, reason=model.UnlinkReason.DELETED))

    cleared = unlinking.clear_unfinished("archive-a")

    assert (cleared.failed, victim.exists()) == (1, True)
    with db.transaction() as session:
        entry = session.scalars(select(model.Unlink)).one()
        assert entry.attempts == 1
        assert "is not a plain relative path" in (entry.error or "")
        assert entry.next_attempt_at > entry.created_at


def test_stored_file_has_the_bytes_of_its_source(online: model.FileSystem, tmp_path: Path) -> None:
    source = write_object(tmp_path / "1")

    ingest.store(online, [incoming(source)])

    with db.transaction() as session:
        row = session.scalars(select(model.File)).one()
    assert Path(online.path, row.path).read_bytes() == source.read_bytes()
    assert row.sha256 == files.digest_of(source)
