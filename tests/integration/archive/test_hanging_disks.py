"""A disk that hangs (a call to it never returns) holds up neither checks, nor receiving, nor sweeps of the others."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from archive_agreement import archive_a, count_of, disagreements, unlink_list
from offering import made, reception, stored_data_sets
from sqlalchemy import func, select, update

from archive import db, errors, model
from archive.deletion import looking, reports
from archive.storage import answers, file_systems, files, health, unlinking
from archive.storage.answers import Sort
from archive.storage.choosing import Chooser
from archive.storage.ingest import Ending
from config.device import FileSystem, FileSystemGroup
from tests.lab.hanging_disk import hanging_disk
from tests.lab.waiting import wait_until

Hang = Callable[[Path], AbstractContextManager[None]]


@contextmanager
def hanging_marker(root: Path) -> Iterator[None]:
    """Put a FIFO in the place of the marker: to open it waits for a writer."""
    marker = root / health.MARKER
    content = marker.read_bytes()
    marker.unlink()
    os.mkfifo(marker)
    try:
        yield
    finally:
        wait_until(lambda: not hanging() or _let_go(marker), "whoever opens the marker goes on")
        marker.unlink()
        marker.write_bytes(content)


def _let_go(marker: Path) -> bool:
    with suppress(OSError):  # nobody waits for it just now
        os.close(os.open(marker, os.O_WRONLY | os.O_NONBLOCK))
    return not hanging()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lose patience soon, and leave no look behind."""
    monkeypatch.setattr(answers, "WITHIN_S", dict.fromkeys(Sort, 0.5))
    yield
    wait_until(lambda: not hanging(), "all looks have ended")


@pytest.fixture
def roots(home: Path) -> list[Path]:
    """The two file systems of the online group."""
    return [home / "online-1", home / "online-2"]


def hanging() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("look at ")]


def system_of(root: Path) -> model.FileSystem:
    with db.transaction() as session:
        return session.scalars(select(model.FileSystem).where(model.FileSystem.path == str(root))).one()


def online() -> FileSystemGroup:
    return archive_a().file_system_groups["ONLINE_STORAGE"]


def where() -> list[str]:
    with db.transaction() as session:
        paths = session.scalars(
            select(model.FileSystem.path)
            .join(model.File, model.File.file_system_id == model.FileSystem.id)
            .order_by(model.File.id)
        )
        return [Path(path).name for path in paths]


@pytest.mark.parametrize("hang", [hanging_disk, hanging_marker])
def test_check_of_a_disk_that_hangs_says_so_and_the_others_are_checked(home: Path, hang: Hang) -> None:
    with hang(home / "online-1"):
        found = reports.look("archive-a")

        said = found.pop(str(home / "online-1"))
        assert said is not None
        assert "online-1: does not answer since 2" in said
        assert found == {str(home / "online-2"): None, str(home / "nearline"): None}
    wait_until(lambda: not hanging(), "the look has ended")
    assert set(reports.look("archive-a").values()) == {None}


def test_disk_that_hangs_is_waited_for_by_one_thread_however_often_it_is_looked_at(home: Path) -> None:
    system = system_of(home / "online-1")
    with hanging_disk(home / "online-1"):
        first = health.marker_problem_of(system)
        for _ in range(20):
            assert health.problem_of(system) == first
        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(health.marker_problem_of, [system] * 20)) == {first}

        assert hanging() == [f"look at {home / 'online-1'}"]
        assert answers.hangs(home / "online-1")
        assert not answers.hangs(home / "online-2")


def test_looks_at_the_same_time_wait_for_their_turn(home: Path) -> None:
    system = system_of(home / "online-1")

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(health.problem_of, [system] * 50)) == {None}


def test_turn_is_waited_for_as_long_as_the_disk_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(answers.WITHIN_S, answers.Sort.WRITE, 2.0)

    def busy() -> bool:
        time.sleep(0.2)
        return True

    with ThreadPoolExecutor(20) as threads:
        looks = [threads.submit(answers.ask, tmp_path, busy, answers.Sort.WRITE) for _ in range(20)]
        assert [look.result() for look in looks] == [True] * 20


def test_what_a_look_raises_is_raised_where_it_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        answers.ask(tmp_path, (tmp_path / "nothing").read_bytes)


def test_new_objects_go_to_the_next_file_system_when_the_current_one_hangs(roots: list[Path], tmp_path: Path) -> None:
    chooser = Chooser("archive-a", online(), recheck_s=0.0)
    before, after = reception(chooser=chooser), reception(chooser=chooser)
    objects = [made(tmp_path, number=number) for number in (1, 2)]
    assert before.store(objects[0].offered()).ending is Ending.STORED
    before.close()

    with hanging_disk(roots[0]):
        assert after.store(objects[1].offered()).ending is Ending.STORED
        after.close()

    assert where() == ["online-1", "online-2"]
    assert stored_data_sets() == {one.sop_uid: [one.data_set] for one in objects}
    assert (unlink_list(), disagreements()) == ([], [])


def test_known_hang_is_not_tried_by_those_who_store(roots: list[Path]) -> None:
    chooser = Chooser("archive-a", online(), recheck_s=3600)
    assert chooser.current().path == str(roots[0])

    with hanging_disk(roots[0]):
        health.marker_problem_of(system_of(roots[0]))

        assert chooser.current().path == str(roots[1])


def test_object_whose_copy_lies_on_a_disk_that_hangs_is_believed_to_be_there(roots: list[Path], tmp_path: Path) -> None:
    one = made(tmp_path)
    first = reception()
    first.store(one.offered())
    first.close()
    with hanging_disk(roots[0]):
        again = reception(chooser=Chooser("archive-a", online(), recheck_s=0.0))

        assert again.store(one.offered()).ending is Ending.DUPLICATE
        again.close()

    with db.transaction() as session:
        assert session.scalars(select(model.File.status)).all() == [model.FileStatus.DEFAULT]


def test_group_of_which_all_disks_hang_refuses_with_the_time_of_each(roots: list[Path]) -> None:
    with hanging_disk(roots[0]), hanging_disk(roots[1]), pytest.raises(errors.NoPlace) as refused:
        Chooser("archive-a", online()).current()

    assert [part.split(" since")[0] for part in str(refused.value).split("; ")] == [
        f"Group ONLINE_STORAGE of device archive-a has no place for new objects: "
        f"File system {roots[0]}: does not answer",
        f"File system {roots[1]}: does not answer",
    ]


def test_sweep_leaves_out_the_disk_that_hangs(roots: list[Path]) -> None:
    for root in roots:
        files.write(root, "a/stray", b"x")
        with db.transaction() as session:
            session.add(model.Unlink(file_system_id=system_of(root).id, path="a/stray", reason="stray"))
    with db.transaction() as session:
        session.execute(update(model.Unlink).values(next_attempt_at=func.now() - timedelta(seconds=1)))

    with hanging_disk(roots[0]):
        cleared = unlinking.clear_unfinished("archive-a")

        assert (cleared.files, len(cleared.skipped)) == (1, 1)
        assert "does not answer since" in cleared.skipped[0]
    assert [(root / "a/stray").exists() for root in roots] == [True, False]
    assert count_of(model.Unlink) == 1


def test_disk_that_begins_to_hang_while_files_are_unlinked_is_left_alone(
    roots: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write(roots[0], "a/stray", b"x")
    with db.transaction() as session:
        session.add(model.Unlink(file_system_id=system_of(roots[0]).id, path="a/stray", reason="stray"))
    remove = files.remove
    hang = hanging_disk(roots[0])

    def hang_first(root: Path, relative: str, **rest: set[Path]) -> bool:
        if not Path(relative).name.startswith(".arcfleet-probe"):
            hang.__enter__()
        return remove(root, relative, **rest)

    monkeypatch.setattr(files, "remove", hang_first)
    try:
        cleared = unlinking.clear_unfinished("archive-a")
    finally:
        hang.__exit__(None, None, None)

    assert (cleared.files, len(cleared.skipped)) == (0, 1)
    assert count_of(model.Unlink) == 1
    # What was given up may have gone on when the disk was back: that was to be done anyway.
    wait_until(lambda: not hanging(), "the look has ended")
    monkeypatch.setattr(files, "remove", remove)
    unlinking.clear_unfinished("archive-a")
    assert count_of(model.Unlink) == 0
    assert not (roots[0] / "a").exists()


def test_copy_on_a_disk_that_hangs_does_not_count(roots: list[Path], home: Path, tmp_path: Path) -> None:
    one = made(tmp_path)
    first = reception()
    first.store(one.offered())
    first.close()
    nearline = system_of(home / "nearline")
    with db.transaction() as session:
        file = session.scalars(select(model.File)).one()
        files.write(home / "nearline", file.path, (roots[0] / file.path).read_bytes())
        session.add(
            model.File(
                instance_id=file.instance_id, file_system_id=nearline.id, path=file.path, size_bytes=file.size_bytes,
                sha256=file.sha256, transfer_syntax_uid=file.transfer_syntax_uid,
            )
        )  # fmt: skip

    with hanging_disk(home / "nearline"):
        disks = looking.look_at_copies("1.2.1", system_of(roots[0]), "archive-a", lambda: None)

    assert disks.seen == frozenset()
    assert disks.problems[nearline.id] is not None
    assert "does not answer since" in disks.problems[nearline.id]
    assert looking.look_at_copies("1.2.1", system_of(roots[0]), "archive-a", lambda: None).seen != frozenset()


def test_new_file_system_on_a_disk_that_hangs_is_refused_and_the_list_is_free_again(home: Path, tmp_path: Path) -> None:
    device = archive_a()
    (tmp_path / "new").mkdir()
    more = FileSystemGroup("MORE", (FileSystem(str(tmp_path / "new")),), "ARCHIVE_A")
    groups = {**device.file_system_groups, more.id: more}

    refused = pytest.raises(errors.NoAnswer, match="new: does not answer since")
    with hanging_disk(tmp_path / "new"), refused, db.transaction() as session:
        file_systems.ensure(session, replace(device, file_system_groups=groups), home)

    with db.transaction() as session:
        assert len(file_systems.ensure(session, device, home)) == 3
