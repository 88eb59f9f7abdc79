"""Tasks get the best copy of each object that their device can read, and hear of those it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
from archive_agreement import archive_a, incoming, write_object
from sqlalchemy import select, update

from archive import db, model, query
from archive.storage import files as storage_files
from archive.storage import ingest
from archive.storage.choosing import Chooser


@pytest.fixture
def stored(online: model.FileSystem, tmp_path: Path) -> model.FileSystem:
    """Two objects of one series, one of another, and one of another study."""
    uids = [
        ("1.2.1", "1.2.1.1", "11"),
        ("1.2.1", "1.2.1.1", "12"),
        ("1.2.1", "1.2.1.2", "21"),
        ("1.2.2", "1.2.2.1", "31"),
    ]
    paths = [write_object(tmp_path / n, study, series, f"1.2.9.{n}") for study, series, n in uids]
    ingest.store(online, [incoming(p) for p in paths])
    return online


def copy_to_nearline(sop_uid: str) -> None:
    target = Chooser("archive-a", archive_a().file_system_groups["NEARLINE_STORAGE"]).current()
    with db.transaction() as session:
        rows = select(model.File).join(model.Instance, model.Instance.id == model.File.instance_id)
        row = session.scalars(rows.where(model.Instance.sop_uid == sop_uid)).one()
        source = session.get_one(model.FileSystem, row.file_system_id)
        storage_files.write(Path(target.path), row.path, Path(source.path, row.path).read_bytes())
        values = {c: getattr(row, c) for c in ("instance_id", "path", "size_bytes", "sha256", "transfer_syntax_uid")}
        session.add(model.File(**values, file_system_id=target.id))


def set_all(**values: object) -> None:
    with db.transaction() as session:
        session.execute(update(model.File).values(**values))


def objects(device_name: str = "archive-a", *uids: str) -> list[query.StoredObject]:
    with db.transaction() as session:
        return query.objects_of(session, *(uids or ("1.2.1",)), device_name=device_name)


def test_objects_of_study_series_and_instance_are_listed_with_their_files(stored: model.FileSystem) -> None:
    study = objects()

    assert [o.sop_uid for o in study] == ["1.2.9.11", "1.2.9.12", "1.2.9.21"]
    assert [o.sop_uid for o in objects("archive-a", "1.2.1", "1.2.1.2")] == ["1.2.9.21"]
    assert [o.sop_uid for o in objects("archive-a", "1.2.1", "1.2.1.1", "1.2.9.12")] == ["1.2.9.12"]
    assert objects("archive-a", "1.2.404") == []
    for one in study:
        assert one.is_readable
        assert one.path is not None
        assert one.size_bytes is not None
        assert one.sha256 is not None
        assert storage_files.verify(one.path, one.size_bytes, one.sha256) is None
        assert one.file_system is not None
        assert (one.file_system.owner_device, one.file_system.shared_with) == ("archive-a", ("archive-b",))


def test_objects_come_page_by_page(stored: model.FileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "_PAGE", 2)

    assert [o.sop_uid for o in objects()] == ["1.2.9.11", "1.2.9.12", "1.2.9.21"]


def test_sharing_device_reads_and_another_hears_that_it_cannot(stored: model.FileSystem) -> None:
    assert all(o.is_readable for o in objects("archive-b"))

    others = objects("archive-c")

    assert [o.state for o in others] == [query.CopyState.UNREACHABLE] * 3
    assert others[0].file_system is not None
    assert others[0].file_system.path == Path(stored.path)


def test_online_copy_is_preferred_and_nearline_is_read_when_it_is_bad(stored: model.FileSystem) -> None:
    copy_to_nearline("1.2.9.11")
    assert objects()[0].file_system.group_id == "ONLINE_STORAGE"  # type: ignore[union-attr]

    with db.transaction() as session:
        session.execute(
            update(model.File).where(model.File.file_system_id == stored.id).values(status=model.FileStatus.DIFFERS)
        )

    first, second, _ = objects()
    assert first.file_system is not None
    assert first.file_system.group_id == "NEARLINE_STORAGE"
    assert (second.state, second.path) == (query.CopyState.NONE, None)
    assert objects("archive-b")[0].state is query.CopyState.UNREACHABLE


def test_objects_without_any_file_are_listed(stored: model.FileSystem) -> None:
    with db.transaction() as session:
        for row in session.scalars(select(model.File)):
            session.delete(row)

    assert [o.state for o in objects()] == [query.CopyState.NONE] * 3


def test_what_only_others_can_read_is_unreachable(stored: model.FileSystem) -> None:
    copy_to_nearline("1.2.9.11")
    study, other = query.Entity("1.2.1"), query.Entity("1.2.2")
    with db.transaction() as session:

        def lacking(device_name: str) -> list[query.Unreachable]:
            return query.unreachable_from(session, device_name, [study, other, query.Entity("1.2.404")])

        assert lacking("archive-a") == lacking("archive-b") == []
        online, nearline = f"{stored.path} (archive-a)", f"{Path(stored.path).parent}/nearline (archive-a)"
        assert lacking("archive-c") == [
            query.Unreachable(study, 3, (nearline, online)),
            query.Unreachable(other, 1, (online,)),
        ]
        session.execute(
            update(model.FileSystem)
            .where(model.FileSystem.id == stored.id)
            .values(availability=model.Availability.OFFLINE)
        )
        assert lacking("archive-b") == [query.Unreachable(study, 1, (nearline,))]


def test_series_and_object_are_judged_by_themselves(stored: model.FileSystem) -> None:
    with db.transaction() as session:
        [(series, sop)] = session.execute(
            select(model.Series.series_uid, model.Instance.sop_uid)
            .join(model.Instance, model.Instance.series_id == model.Series.id)
            .where(model.Instance.sop_uid == "1.2.9.11")
        ).all()
        alone = [query.Entity("1.2.1", series), query.Entity("1.2.1", series, sop), query.Entity("1.2.1", "1.2.404")]

        found = query.unreachable_from(session, "archive-c", alone)

    assert {one.entity for one in found} == set(alone[:2])
    assert next(one for one in found if one.entity.sop_uid).num_objects == 1
    assert query.unreachable_from(session, "archive-c", []) == []
