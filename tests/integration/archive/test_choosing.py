"""New objects go to the group's current file system, and to the next one in turn when that takes none."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from archive_agreement import archive_a
from small_disk import small_disk
from sqlalchemy import select, update
from structlog.testing import capture_logs

from archive import db, errors, model
from archive.model import FileSystemStatus
from archive.storage import choosing, file_systems
from archive.storage.choosing import Chooser
from config.device import FileSystem, FileSystemGroup
from config.sizes import Minimum

ONLINE = FileSystemGroup("ONLINE_STORAGE", tuple(FileSystem(f"online-{n}") for n in (1, 2, 3, 4)))


@pytest.fixture
def roots(database: str, tmp_path: Path) -> list[Path]:
    """Four file systems of a group, the first is current, each is linked to the next."""
    device = replace(archive_a(), file_system_groups={ONLINE.id: ONLINE})
    with db.transaction() as session:
        file_systems.ensure(session, device, tmp_path)
    return [tmp_path / f"online-{n}" for n in (1, 2, 3, 4)]


def chooser(group: FileSystemGroup = ONLINE, recheck_s: float = 60) -> Chooser:
    return Chooser("archive-a", group, recheck_s=recheck_s)


def numbers() -> dict[str, int]:
    with db.transaction() as session:
        return {Path(row.path).name[-1]: row.id for row in session.scalars(select(model.FileSystem))}


def link(chain: Sequence[tuple[str, str | None]]) -> None:
    ids = numbers()
    with db.transaction() as session:
        for name, after in chain:
            row = session.get_one(model.FileSystem, ids[name])
            row.next_id = ids[after] if after else None


def set_status(**statuses: FileSystemStatus) -> None:
    ids = numbers()
    with db.transaction() as session:
        for name, status in sorted(statuses.items(), key=lambda item: item[1] is FileSystemStatus.CURRENT):
            session.execute(update(model.FileSystem).where(model.FileSystem.id == ids[name[1]]).values(status=status))


def states() -> dict[str, str]:
    with db.transaction() as session:
        rows = session.scalars(select(model.FileSystem).order_by(model.FileSystem.path))
        return {Path(row.path).name[-1]: row.status.value for row in rows}


def name_of(file_system: model.FileSystem) -> str:
    return Path(file_system.path).name[-1]


def unmount(root: Path) -> None:
    (root / ".arcfleet-fs").rename(root / "marker")


def mount(root: Path) -> None:
    (root / "marker").rename(root / ".arcfleet-fs")


def test_current_file_system_is_kept_while_it_is_healthy(roots: list[Path]) -> None:
    one = chooser()

    assert [name_of(one.current()) for _ in range(3)] == ["1", "1", "1"]
    assert states() == {"1": "RW+", "2": "RW", "3": "RW", "4": "RW"}


def test_one_that_is_not_mounted_any_more_is_left_at_once(roots: list[Path]) -> None:
    one = chooser()
    one.current()
    unmount(roots[0])

    with capture_logs() as logs:
        assert name_of(one.current()) == "2"

    assert states() == {"1": "RW", "2": "RW+", "3": "RW", "4": "RW"}
    [line] = [entry for entry in logs if entry["event"] == "file system switched"]
    assert (line["old"], line["new"]) == (str(roots[0]), str(roots[1]))
    assert "no .arcfleet-fs in it" in line["why"]


def test_mount_failed_file_is_seen_at_the_next_object(roots: list[Path]) -> None:
    one = chooser()
    one.current()
    (roots[0] / "NO_MOUNT").touch()

    assert name_of(one.current()) == "2"


@pytest.mark.parametrize(
    ("chain", "current", "expected"),
    [
        # An open chain: on from the current one, then from its head.
        ([("1", "2"), ("2", "3"), ("3", "4"), ("4", None)], "3", ["4", "1", "2"]),
        ([("1", "2"), ("2", "3"), ("3", "4"), ("4", None)], "4", ["1", "2", "3"]),
        ([("3", "1"), ("1", "4"), ("4", "2"), ("2", None)], "4", ["2", "3", "1"]),
        # Rings.
        ([("1", "2"), ("2", "1"), ("3", None), ("4", None)], "2", ["1"]),
        ([("1", "2"), ("2", "3"), ("3", "2"), ("4", None)], "2", ["3", "1"]),
        ([("1", "1"), ("2", None), ("3", None), ("4", None)], "1", []),
        # Two lead to the same.
        ([("1", "3"), ("2", "3"), ("3", None), ("4", None)], "3", ["1"]),
    ],
)
def test_chain_is_followed_each_once(
    roots: list[Path], chain: list[tuple[str, str | None]], current: str, expected: list[str]
) -> None:
    link(chain)
    with db.transaction() as session:
        rows = session.scalars(select(model.FileSystem).order_by(model.FileSystem.id)).all()
        at = next(row for row in rows if name_of(row) == current)

        assert [name_of(row) for row in choosing.chain_after(rows, at)] == expected


def test_ring_of_two_is_gone_around_and_never_for_ever(roots: list[Path]) -> None:
    link([("1", "2"), ("2", "1"), ("3", None), ("4", None)])
    set_status(f3=FileSystemStatus.READ_ONLY, f4=FileSystemStatus.PENDING)
    one = chooser()
    unmount(roots[0])
    assert name_of(one.current()) == "2"
    mount(roots[0])
    unmount(roots[1])
    assert name_of(one.current()) == "1"
    unmount(roots[0])

    with pytest.raises(errors.NoPlace, match="Group ONLINE_STORAGE of device archive-a has no place") as refused:
        one.current()

    said = str(refused.value)
    assert f"{roots[2]}: its status is RO, expected RW" in said
    assert f"{roots[3]}: its status is PENDING, expected RW" in said
    assert f"{roots[0]}: no .arcfleet-fs in it" in said
    assert f"{roots[1]}: no .arcfleet-fs in it" in said


def test_read_only_and_offline_ones_are_passed_over(roots: list[Path]) -> None:
    set_status(f2=FileSystemStatus.READ_ONLY)
    with db.transaction() as session:
        session.get_one(model.FileSystem, numbers()["3"]).availability = model.Availability.OFFLINE
    one = chooser()
    unmount(roots[0])

    assert name_of(one.current()) == "4"


def test_one_outside_the_chain_is_the_last_resort_and_warned_of(roots: list[Path]) -> None:
    link([("1", "2"), ("2", None), ("3", None), ("4", None)])
    one = chooser()
    unmount(roots[0])
    unmount(roots[1])

    with capture_logs() as logs:
        assert name_of(one.current()) == "3"

    assert [entry["path"] for entry in logs if entry["event"] == "file system is not linked"] == [str(roots[2])]


def test_group_without_a_current_one_gets_its_first_that_takes_objects(roots: list[Path]) -> None:
    set_status(f1=FileSystemStatus.READ_ONLY)

    assert name_of(chooser().current()) == "2"
    assert states()["2"] == "RW+"


def test_switch_of_another_process_is_taken_over(roots: list[Path]) -> None:
    ours, theirs = chooser(), chooser()
    assert (name_of(ours.current()), name_of(theirs.current())) == ("1", "1")
    full = {numbers()["1"]: "full"}
    assert name_of(theirs.full(full)) == "2"

    assert name_of(ours.full(full)) == "2"
    assert states() == {"1": "RW", "2": "RW+", "3": "RW", "4": "RW"}


def test_status_that_an_operator_sets_is_seen_when_the_list_is_read_anew(roots: list[Path]) -> None:
    one = chooser(recheck_s=0)
    one.current()
    set_status(f1=FileSystemStatus.WRITABLE, f3=FileSystemStatus.CURRENT)

    assert name_of(one.current()) == "3"


def test_many_threads_and_processes_switch_once(roots: list[Path]) -> None:
    choosers = [chooser() for _ in range(4)]
    full = {numbers()["1"]: "full"}
    chosen: list[str] = []

    threads = [
        threading.Thread(target=lambda c=c: chosen.append(name_of(c.full(full)))) for c in choosers for _ in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert chosen == ["2"] * 8
    assert states() == {"1": "RW", "2": "RW+", "3": "RW", "4": "RW"}


def test_minimum_that_no_disk_has_leaves_no_place(roots: list[Path]) -> None:
    group = replace(ONLINE, minimum_free_disk_space=Minimum("999999TB", size_bytes=999_999 * 10**12))

    with pytest.raises(errors.NoPlace, match=r"online-1: \d+ bytes are free, expected 999999TB"):
        chooser(group).current()

    assert states()["1"] == "RW+"


def test_disk_that_falls_below_the_minimum_is_left(roots: list[Path]) -> None:
    group = replace(ONLINE, minimum_free_disk_space=Minimum("20MB", size_bytes=20_000_000))
    one = chooser(group)
    with small_disk(roots[0], "30m"):
        assert name_of(one.current()) == "1"
        (roots[0] / "something").write_bytes(bytes(12_000_000))

        assert name_of(one.current()) == "2"


def test_disk_without_an_inode_is_left(roots: list[Path]) -> None:
    with small_disk(roots[0], "1m,nr_inodes=2"):
        assert name_of(chooser().current()) == "2"


def test_group_without_file_systems_says_so(roots: list[Path]) -> None:
    with pytest.raises(errors.NoPlace, match=r"Group NONE of device archive-a .*: it has no file system"):
        chooser(FileSystemGroup("NONE")).current()
