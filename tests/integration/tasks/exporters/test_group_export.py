"""Export into another file-system group: real files, digests checked, rows with them, and nothing copied twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from config.device import Exporter, FileSystem, FileSystemGroup
from config.sizes import parse_minimum
from tasks.errors import InvalidError, PermanentError, TaskError
from tasks.outcome import Outcome
from tasks.registry import kind_of
from tasks.state import Status
from tasks.store import Claimed
from tests import factories, stored_study
from tests.integration.archive.archive_agreement import disagreements, unlink_list
from tests.integration.tasks.exporters.sending import results, said
from tests.stored_study import OBJECTS, STUDY, Archive

NEARLINE = "NEARLINE_STORAGE"
TO_NEARLINE = Exporter("ToNearline", f"fsgroup:{NEARLINE}", "Export")

_COPIES = """
    SELECT i.sop_uid || ' ' || a.sha256 FROM file AS a JOIN instance AS i ON i.id = a.instance_id
    JOIN file_system AS s ON s.id = a.file_system_id WHERE s.group_id = :group ORDER BY 1
    """


@pytest.fixture
def nearline(archive: Archive) -> Archive:
    use(archive)
    return archive


def use(archive: Archive, **group: object) -> None:
    """Give the device the group, and the exporter that leads there."""
    values: dict[str, object] = {"file_systems": (FileSystem("nearline"),), "default_availability": "NEARLINE", **group}
    made = FileSystemGroup(NEARLINE, **values)  # type: ignore[arg-type]
    archive.device = replace(
        archive.device,
        exporters={**archive.device.exporters, TO_NEARLINE.id: TO_NEARLINE},
        file_system_groups={**archive.device.file_system_groups, NEARLINE: made},
    )
    factories.use_cluster(archive.device)


def start(**values: object) -> Claimed:
    return stored_study.start(**{"exporter_id": TO_NEARLINE.id, **values})


def copies(group: str = NEARLINE) -> list[str]:
    """Return object and digest of each file of a group."""
    return factories.sql(_COPIES, group=group)


def test_objects_lie_in_both_groups_with_the_same_bytes(nearline: Archive) -> None:
    run = start()

    ending = nearline.attempt(run)

    assert ending == Outcome(Status.COMPLETED, f"Export Study[uid={STUDY}] to fsgroup:{NEARLINE} - completed:3")
    assert copies() == copies("ONLINE_STORAGE")
    assert len(copies()) == 3
    assert disagreements() == []
    assert unlink_list() == []
    assert results(run) == dict.fromkeys(OBJECTS, "sent")
    assert factories.sql(
        "SELECT s.group_id FROM study_on_file_system AS l JOIN file_system AS s ON s.id = l.file_system_id ORDER BY 1"
    ) == [NEARLINE, "ONLINE_STORAGE"]


def test_second_export_copies_nothing(nearline: Archive) -> None:
    run = start()
    nearline.attempt(run)
    before = files_of(nearline)

    ending = nearline.attempt(stored_study.next_attempt(run))

    assert isinstance(ending, Outcome)
    assert ending.message.endswith("completed:3")
    assert len(before) == 4  # with the marker
    assert files_of(nearline) == before


def files_of(archive: Archive) -> dict[Path, int]:
    """Return the files of the group with their inodes."""
    root = archive.out.parent / "nearline"
    return {path: path.stat().st_ino for path in root.rglob("*") if path.is_file()}


def test_copy_that_was_deleted_is_made_again_although_it_was_confirmed(nearline: Archive) -> None:
    run = start()
    nearline.attempt(run)
    factories.sql(
        "DELETE FROM file WHERE id = (SELECT max(f.id) FROM file AS f"
        " JOIN file_system AS s ON s.id = f.file_system_id WHERE s.group_id = :group)",
        group=NEARLINE,
    )

    nearline.attempt(stored_study.next_attempt(run))

    assert copies() == copies("ONLINE_STORAGE")


@pytest.mark.parametrize("damage", ["shorter", "other bytes"])
def test_damaged_file_is_not_copied_and_hides_no_other(nearline: Archive, damage: str) -> None:
    source = nearline.source(OBJECTS[1])
    content = source.read_bytes()
    source.chmod(0o600)
    source.write_bytes(content[:-1] if damage == "shorter" else content[:-1] + b"\xff")
    run = start()

    ending = nearline.attempt(run)

    assert isinstance(ending, Outcome)
    assert ending.status is Status.FAILED
    assert results(run) == {OBJECTS[0]: "sent", OBJECTS[1]: "unreadable", OBJECTS[2]: "sent"}
    assert [line.split()[0] for line in copies()] == [OBJECTS[0], OBJECTS[2]]
    assert len(files_of(nearline)) == 3  # with the marker


def test_file_that_is_gone_fails_for_good(nearline: Archive) -> None:
    nearline.source(OBJECTS[1]).unlink()

    ending = nearline.attempt(start())

    assert isinstance(ending, PermanentError)
    assert "completed:2, failed:1: the files of 1 objects are gone" in str(ending)


def test_group_without_room_is_named_with_what_each_file_system_lacks(archive: Archive) -> None:
    use(archive, minimum_free_disk_space=parse_minimum("100%"))
    run = start()

    ending = archive.attempt(run)

    assert isinstance(ending, TaskError)
    assert f"Group {NEARLINE} of device archive-a has no place for new objects" in str(ending)
    assert results(run) == {OBJECTS[0]: "refused", OBJECTS[1]: "not reached", OBJECTS[2]: "not reached"}
    assert str(said(run)[0][3]) in str(ending)
    assert copies() == []


def test_group_that_the_device_does_not_have_is_refused_at_creation(archive: Archive) -> None:
    strange = replace(TO_NEARLINE, uri="fsgroup:ATTIC")
    archive.device = replace(archive.device, exporters={strange.id: strange})

    with pytest.raises(InvalidError, match="fsgroup:ATTIC, expected a file-system group of device archive-a: ONLINE"):
        kind_of("EXPORT").validate(factories.new_task(exporter_id=strange.id), archive.device)


def test_task_into_a_group_has_no_destination(nearline: Archive) -> None:
    made = kind_of("EXPORT").validate(factories.new_task(exporter_id=TO_NEARLINE.id), nearline.device)

    assert made.destination is None
