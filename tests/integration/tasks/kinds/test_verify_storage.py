"""STGVER: files that are gone, cut, changed or unreadable are found, and marked only if that was asked for."""

from __future__ import annotations

import os
from typing import Any

import pytest

from archive.errors import NotMounted
from tasks import operations
from tasks.errors import InvalidError, StoppedError
from tasks.outcome import Outcome
from tasks.query import TaskQuery
from tasks.state import Event, Status
from tasks.store import Claimed
from tests import factories, stored_study
from tests.integration.tasks.kinds import asking
from tests.stored_study import OBJECTS, SERIES, STUDY, Archive, outcomes

FIRST = OBJECTS[0]


def start(policy: str | None = None, *, updates: bool = False, **values: Any) -> Claimed:
    params: dict[str, Any] = {"updateLocationStatus": updates, **({"policy": policy} if policy else {})}
    return factories.running(**asking.new("STGVER", study_uid=STUDY, **{"params": params, **values}))


def statuses() -> list[str]:
    return factories.sql("SELECT status FROM file ORDER BY id")


def said(completed: int, failed: int, policy: str = "OBJECT_CHECKSUM") -> str:
    return f"Commit Storage of Study[uid={STUDY}] for {policy}: - completed: {completed}, failed: {failed}"


def test_good_files_are_verified(archive: Archive) -> None:
    run = start(updates=True)

    assert archive.attempt(run) == Outcome(Status.COMPLETED, said(3, 0))

    assert asking.progress(run.task.id) == {"completed": 3, "failed": 0}
    assert factories.sql("SELECT count(*) FROM file WHERE checked_at IS NOT NULL") == [3]


def test_series_and_object_alone_are_verified(archive: Archive) -> None:
    series = start(series_uid=SERIES[1])
    endings = [archive.attempt(series)]
    factories.report(series, Event.SUCCEED)
    endings.append(archive.attempt(start(series_uid=SERIES[0], sop_uid=FIRST)))

    messages = [ending.message for ending in endings if isinstance(ending, Outcome)]
    assert [message.partition("completed: ")[2] for message in messages] == ["1, failed: 0"] * 2
    assert f"Instance[uid={FIRST}] of Series[uid={SERIES[0]}]" in messages[1]


@pytest.mark.parametrize(
    ("damage", "finds", "status"),
    [
        (lambda path: path.unlink(), ("OBJECT_EXISTS", "OBJECT_SIZE", "OBJECT_FETCH", "OBJECT_CHECKSUM"), "MISSING"),
        (lambda path: os.truncate(path, 100), ("OBJECT_SIZE", "OBJECT_FETCH", "OBJECT_CHECKSUM"), "DIFFERS"),
        (lambda path: path.write_bytes(bytes(path.stat().st_size)), ("OBJECT_CHECKSUM",), "DIFFERS"),
    ],
)
def test_policy_finds_what_it_looks_for(archive: Archive, damage: Any, finds: tuple[str, ...], status: str) -> None:
    damage(archive.source(FIRST))

    for policy in ("DB_RECORD_EXISTS", "OBJECT_EXISTS", "OBJECT_SIZE", "OBJECT_FETCH", "OBJECT_CHECKSUM"):
        run = start(policy)
        ending = archive.attempt(run)
        factories.report(run, Event.SUCCEED)

        bad = policy in finds
        assert ending == Outcome(Status.WARNING if bad else Status.COMPLETED, said(3 - bad, int(bad), policy))
        assert outcomes(run) == ({FIRST: "unreadable"} if bad else {})
    assert statuses() == ["DEFAULT"] * 3

    archive.attempt(start(updates=True))

    assert statuses() == [status, "DEFAULT", "DEFAULT"]


def test_file_that_is_back_counts_again_only_by_its_digest(archive: Archive) -> None:
    path = archive.source(FIRST)
    content = path.read_bytes()
    path.unlink()
    run = start(updates=True)
    archive.attempt(run)
    factories.report(run, Event.SUCCEED)
    path.write_bytes(content)
    by_size = start("OBJECT_SIZE", updates=True)
    archive.attempt(by_size)
    factories.report(by_size, Event.SUCCEED)
    before = statuses()

    archive.attempt(start(updates=True))

    assert before == ["MISSING", "DEFAULT", "DEFAULT"]
    assert statuses() == ["DEFAULT"] * 3


def test_disk_that_is_not_mounted_condemns_no_file(archive: Archive) -> None:
    archive.marker().unlink()

    ending = archive.attempt(start(updates=True))

    assert isinstance(ending, NotMounted)
    assert statuses() == ["DEFAULT"] * 3


def test_object_without_a_file_fails(archive: Archive) -> None:
    factories.sql("DELETE FROM file WHERE id = (SELECT min(id) FROM file)")

    assert archive.attempt(start()) == Outcome(Status.WARNING, said(2, 1))


def test_files_out_of_reach_are_neither_good_nor_bad(archive: Archive) -> None:
    factories.sql("UPDATE file_system SET owner_device = 'archive-b'")

    ending = archive.attempt(start())

    assert isinstance(ending, Outcome)
    assert ending.status is Status.WARNING
    assert "completed: 0, failed: 0; 3 objects out of reach of archive-a, on " in ending.message
    assert ending.message.endswith("(archive-b)")


def test_only_the_groups_that_are_named_are_looked_at(archive: Archive) -> None:
    archive.source(FIRST).unlink()

    ending = archive.attempt(start(params={"storageIDs": ["NEARLINE_STORAGE"]}))

    assert ending == Outcome(
        Status.COMPLETED,
        f"Commit Storage of Study[uid={STUDY}] on Storage[NEARLINE_STORAGE]for OBJECT_CHECKSUM: - "
        "completed: 0, failed: 0",
    )


def test_cancelled_run_stops(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.work.LOOK_EVERY_S", 0.0)
    run = start()
    operations.cancel_one(run.task.id, TaskQuery(), factories.BY)

    ending = archive.attempt(run)

    assert isinstance(ending, StoppedError)


def test_policy_that_we_do_not_have_is_refused() -> None:
    with pytest.raises(InvalidError, match="storageVerificationPolicy=S3_MD5SUM: expected one of DB_RECORD_EXISTS"):
        stored_study.kind_of("STGVER").validate(
            factories.new_task(**asking.new("STGVER", study_uid=STUDY, params={"policy": "S3_MD5SUM"})),
            asking.device(),
        )
