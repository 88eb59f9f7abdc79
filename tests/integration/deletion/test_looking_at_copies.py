"""What counts as a copy when a study shall go: its bytes on a disk of its own, seen by us or verified by its owner."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from archive import db
from archive.deletion import gathering, looking, reports
from archive.deletion.gathering import Disks, Place
from tasks import deletions
from tasks.state import Status
from tests import factories
from tests.lab import deletable
from tests.lab.deletable import NEARLINE, House

STUDY = "1.2.3"


def kept(house: House, task_id: int) -> str:
    """Run the task, which must leave the study; returns what it says."""
    house.run()
    ended = deletable.task(task_id)
    assert ended.status is Status.CANCELED
    assert len(house.files(STUDY)) == 3
    return ended.outcome_message or ""


def statuses(house: House) -> list[str]:
    return sorted(
        factories.sql("SELECT status FROM file WHERE file_system_id = :id", id=house.file_system(NEARLINE).id)
    )


def verified(house: House) -> int:
    return int(
        factories.sql(
            "SELECT count(checked_at) FROM file WHERE file_system_id = :id", id=house.file_system(NEARLINE).id
        )[0]
    )


def test_damaged_copy_of_the_same_size_does_not_count_and_is_noted(house: House) -> None:
    task = house.marked(STUDY)
    damaged = house.files(STUDY, NEARLINE)[0]
    damaged.write_bytes(bytes(damaged.stat().st_size))

    said = kept(house, task.id)

    assert f"{damaged} has SHA-256" in said
    assert (statuses(house), verified(house)) == (["DEFAULT", "DEFAULT", "DIFFERS"], 2)
    # Not marked again and again: the index knows now.
    assert "1 copy in group" in house.look()


def test_copy_that_is_gone_is_noted(house: House) -> None:
    task = house.marked(STUDY)
    house.files(STUDY, NEARLINE)[0].unlink()

    kept(house, task.id)

    assert statuses(house) == ["DEFAULT", "DEFAULT", "MISSING"]


def test_nothing_is_noted_of_a_disk_that_goes_away_meanwhile(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    task = house.marked(STUDY)
    away = house.home / "unmounted"

    def unmount(*_: Any) -> str:
        if not away.exists():
            house.root(NEARLINE).rename(away)
            house.root(NEARLINE).mkdir()
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(looking, "_digest", unmount)

    kept(house, task.id)

    house.root(NEARLINE).rmdir()
    away.rename(house.root(NEARLINE))
    assert (statuses(house), verified(house)) == (["DEFAULT"] * 3, 0)


def test_copy_that_was_verified_lately_is_not_read_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    original = looking._digest

    def digest(path: Path, check: Any) -> str:
        read.append(path)
        return original(path, check)

    monkeypatch.setattr(looking, "_digest", digest)
    house.deletable(STUDY)
    copies = house.files(STUDY, NEARLINE)
    factories.sql("UPDATE file SET checked_at = now() - interval '6 days' WHERE path LIKE '%' || :name",
                  name=copies[0].name)  # fmt: skip
    factories.sql("UPDATE file SET checked_at = now() - interval '8 days' WHERE path LIKE '%' || :name",
                  name=copies[1].name)  # fmt: skip
    factories.sql("UPDATE file SET checked_at = now() + interval '8 days' WHERE path LIKE '%' || :name",
                  name=copies[2].name)  # fmt: skip
    house.look()
    house.run()

    assert sorted(read) == sorted(copies[1:])
    assert house.files(STUDY) == []


@pytest.mark.parametrize("how", ["symlink", "hard link", "folder"])
def test_other_name_of_the_file_that_goes_is_no_copy(house: House, how: str) -> None:
    task = house.marked(STUDY)
    ours, copy = house.files(STUDY)[0], house.files(STUDY, NEARLINE)[0]
    copy.unlink()
    match how:
        case "symlink":
            copy.symlink_to(ours)
        case "hard link":
            copy.hardlink_to(ours)
        case _:
            copy.mkdir()

    said = kept(house, task.id)

    assert ("under another name" if how == "hard link" else "is no plain file") in said


def as_if_of_archive_b(house: House) -> None:
    """Let the nearline file system be one that only archive-b mounts."""
    house.configure(copy_groups=(f"archive-b/{NEARLINE}",))
    house.deletable(STUDY)
    factories.sql("UPDATE file_system SET owner_device = 'archive-b' WHERE id = :id", id=house.file_system(NEARLINE).id)
    reports.look("archive-b")


@pytest.mark.parametrize(("age", "counts"), [(None, False), (8, False), (6, True), (-1, False)])
def test_copy_out_of_reach_counts_only_if_it_was_verified_lately(house: House, age: int | None, counts: bool) -> None:
    as_if_of_archive_b(house)
    if age is not None:
        factories.sql("UPDATE file SET checked_at = now() - make_interval(days => :age)", age=age)

    said = house.look()
    house.run_all()

    assert said.startswith("1 studies scheduled" if counts else "0 studies scheduled")
    assert len(house.files(STUDY)) == (0 if counts else 3)


def test_copy_out_of_reach_that_is_too_old_by_now_is_refused_by_the_run(house: House) -> None:
    as_if_of_archive_b(house)
    factories.sql("UPDATE file SET checked_at = now()")
    house.look()
    factories.sql("UPDATE file SET checked_at = NULL")

    [task] = factories.views()
    assert "archive-a does not mount, and its bytes were not verified in the last 7 days" in kept(house, task.id)


def test_report_from_the_future_says_nothing(house: House) -> None:
    as_if_of_archive_b(house)
    factories.sql("UPDATE file SET checked_at = now()")
    factories.sql("UPDATE file_system_report SET checked_at = now() + interval '1 day'")
    shutil.rmtree(house.root(NEARLINE))
    reports.look("archive-a")

    said = deletions.schedule_studies(house.device, house.group, deletions.Asked(factories.BY))

    assert said == "0 studies scheduled (0 bytes), 1 kept: 1 copy in group, 1 not the last copy"


def test_large_study_is_asked_for_with_a_plan_that_knows_the_copies(house: House) -> None:
    house.deletable(STUDY)
    [study_id] = factories.sql("SELECT id FROM study")
    places = [Place(study_id, house.file_system().id)]
    seen = frozenset(factories.sql("SELECT id FROM file WHERE file_system_id = :id", id=house.file_system(NEARLINE).id))
    disks = Disks({house.file_system(NEARLINE).id: None}, seen)

    with db.transaction() as session:
        for _ in range(10):
            [held] = gathering._held(session, places, list(disks.problems), disks).values()
        plans = session.execute(
            text(
                "SELECT custom_plans, generic_plans FROM pg_prepared_statements"
                " WHERE statement LIKE '%AS asked (study_id%'"
            )
        ).all()

    assert sum(one.num_objects for one in held[1] if one.groups) == 3
    # Prepared, but never planned for an unknown array: that one is searched from its begin for each copy.
    assert [row[1] for row in plans] == [0]
    assert plans[0][0] > 0
