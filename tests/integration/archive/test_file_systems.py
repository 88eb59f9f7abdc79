"""File systems are made once, recognized by their markers, and refused when they are not what they were."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from archive_agreement import archive_a
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from archive import db, errors, model
from archive.storage import file_systems, health
from config.device import Device, FileSystem, FileSystemGroup


def all_of(device_name: str = "archive-a") -> list[model.FileSystem]:
    with db.transaction() as session:
        rows = select(model.FileSystem).where(model.FileSystem.owner_device == device_name)
        return list(session.scalars(rows.order_by(model.FileSystem.id)))


def ensure(device: Device, home: Path) -> None:
    with db.transaction() as session:
        file_systems.ensure(session, device, home)


def with_folders(*paths: str) -> Device:
    group = FileSystemGroup("ONLINE_STORAGE", tuple(FileSystem(p) for p in paths))
    return replace(archive_a(), file_system_groups={group.id: group})


def test_configured_groups_get_folders_markers_and_linked_rows(home: Path) -> None:
    first, second, nearline = all_of()

    assert [Path(row.path) for row in (first, second, nearline)] == [
        home / "online-1", home / "online-2", home / "nearline",
    ]  # fmt: skip
    assert [row.status for row in (first, second, nearline)] == ["RW+", "RW", "RW+"]
    assert (first.next_id, second.next_id, nearline.next_id) == (second.id, None, None)
    assert (first.availability, nearline.availability, first.shared_with) == (
        "ONLINE", "NEARLINE", ["archive-b"],
    )  # fmt: skip
    marker = json.loads((home / "online-1" / ".arcfleet-fs").read_text())
    assert marker == {"uuid": str(first.marker), "group": "ONLINE_STORAGE", "device": "archive-a"}


def test_second_run_changes_nothing_but_who_it_is_shared_with(home: Path) -> None:
    before = all_of()

    ensure(archive_a(shared_with=("archive-c", "archive-a")), home)

    after = all_of()
    assert [row.marker for row in after] == [row.marker for row in before]
    assert after[0].shared_with == ["archive-c"]


def test_added_file_system_goes_to_the_end_of_the_chain(home: Path) -> None:
    ensure(with_folders("online-1", "online-2", "online-3"), home)

    rows = {Path(row.path).name: row for row in all_of()}
    assert rows["online-2"].next_id == rows["online-3"].id
    assert (rows["online-3"].next_id, rows["online-3"].status) == (None, "RW")


def test_database_takes_one_current_file_system_per_device_and_group(home: Path) -> None:
    with pytest.raises(IntegrityError, match="uq_file_system_current"), db.transaction() as session:
        session.execute(update(model.FileSystem).values(status=model.FileSystemStatus.CURRENT))


def test_folder_that_vanished_is_not_made_again(home: Path) -> None:
    (home / "online-1").rename(home / "away")

    ensure(archive_a(), home)

    assert not (home / "online-1").exists()
    assert "online-1: found nothing, expected a folder" in str(health.problem_of(all_of()[0]))


def test_marker_without_a_row_is_taken_over_by_the_same_group_only(database: str, tmp_path: Path) -> None:
    (tmp_path / "online-1").mkdir()
    left = health.Marker(uuid.uuid4(), "ONLINE_STORAGE", "archive-a")
    health.write_marker(tmp_path / "online-1", left)

    with pytest.raises(errors.StorageError, match="expected group ONLINE_STORAGE of device archive-b"):
        ensure(replace(archive_a(), name="archive-b"), tmp_path)
    ensure(archive_a(), tmp_path)

    assert all_of()[0].marker == left.uuid
    assert all_of("archive-b") == []


def test_file_system_of_another_device_is_refused_by_name(home: Path) -> None:
    with pytest.raises(errors.StorageError, match="belongs to group ONLINE_STORAGE of device archive-a"):
        ensure(replace(archive_a(), name="archive-b"), home)


def test_copy_of_a_file_system_is_refused(home: Path) -> None:
    (home / "copy").mkdir()
    (home / "copy" / ".arcfleet-fs").write_bytes((home / "online-1" / ".arcfleet-fs").read_bytes())

    with pytest.raises(errors.StorageError, match=r"is that of .*online-1"):
        ensure(with_folders("copy"), home)


def test_file_in_the_way_is_an_error_that_names_it(database: str, tmp_path: Path) -> None:
    (tmp_path / "online-1").touch()

    with pytest.raises(errors.StorageError, match="online-1: the folder cannot be made: File exists"):
        ensure(archive_a(), tmp_path)


def test_unhealthy_file_system_is_not_writable_and_says_why(home: Path, online: model.FileSystem) -> None:
    root = home / "online-1"
    assert health.problem_of(online) is None

    (root / "NO_MOUNT").touch()
    assert "found NO_MOUNT" in str(health.problem_of(online))
    (root / "NO_MOUNT").unlink()

    (root / ".arcfleet-fs").write_text("{}")
    assert "is not JSON with uuid, group and device" in str(health.problem_of(online))

    other = {"uuid": str(uuid.uuid4()), "group": "X", "device": "y"}
    (root / ".arcfleet-fs").write_text(json.dumps(other))
    assert f"has uuid {other['uuid']} (device y, group X), expected {online.marker}" in str(health.problem_of(online))

    (root / ".arcfleet-fs").unlink()
    assert f"expected one with uuid {online.marker}" in str(health.problem_of(online))


def test_file_system_is_reached_by_its_owner_and_whom_it_is_shared_with(online: model.FileSystem) -> None:
    assert file_systems.reachable_by(online, "archive-a")
    assert file_systems.reachable_by(online, "archive-b")
    assert not file_systems.reachable_by(online, "archive-c")
