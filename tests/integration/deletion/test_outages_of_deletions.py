"""What a deletion finds changed when the database, the configuration, a sweep or another request came between."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from archive import db
from archive.deletion import deleting, looking, marking
from archive.storage import unlinking
from tasks import deletions, operations
from tasks.record import NewTask
from tasks.state import Status
from tests import factories
from tests.factories import BY
from tests.lab import deletable
from tests.lab.agreement import disagreements
from tests.lab.deletable import NEARLINE, ONLINE, House
from tests.lab.waiting import wait_until
from workers import execute
from workers.queues import RunMessage

STUDY = "1.2.3"
_BLOCKED = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def test_outage_before_the_transaction_makes_the_run_look_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    task = house.marked(STUDY)
    original, tries = deleting._move, []

    def move(*args: Any, **values: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            # The database is away for long; meanwhile the disk of the copies dies.
            for path in house.root(NEARLINE).iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            now_s = deleting._now_s() + 31
            monkeypatch.setattr(deleting, "_now_s", lambda: now_s)
            raise OperationalError("x", {}, Exception("server closed the connection"))
        return original(*args, **values)

    monkeypatch.setattr(deleting, "_move", move)
    house.run()

    assert (deletable.task(task.id).status, len(tries)) == (Status.CANCELED, 3)
    assert all(path.is_file() for path in house.files(STUDY))


@pytest.mark.parametrize(
    "statement",
    ["UPDATE run SET lease_until = clock_timestamp()", "UPDATE run SET stop_reason = 'watchdog'"],
    ids=["lease", "stop"],
)
def test_run_whose_lease_is_over_or_that_shall_stop_deletes_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    task = house.marked(STUDY)
    original = deleting._require_mark

    def end(*args: Any) -> None:
        original(*args)
        factories.sql(statement + " RETURNING id")

    monkeypatch.setattr(deleting, "_require_mark", end)
    house.run()

    assert deletable.task(task.id).status is Status.SCHEDULED_FOR_RETRY
    assert (len(house.files(STUDY)), house.marks()) == (3, [task.id])


def test_run_goes_by_the_configuration_of_its_transaction(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    task = house.marked(STUDY)
    original = looking.look_at_copies

    def look(*args: Any) -> Any:
        found = original(*args)
        factories.use_cluster(factories.device(queues=house.device.queues))
        return found

    monkeypatch.setattr(looking, "look_at_copies", look)
    house.run()

    ended = deletable.task(task.id)
    assert (ended.status, len(house.files(STUDY))) == (Status.CANCELED, 3)
    assert ended.outcome_message == f"Group {ONLINE} of device archive-a is not configured any more"


def test_mark_that_is_set_while_a_look_judges_is_not_replaced(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.deletable(STUDY)
    original = marking.lock

    def lock(*args: Any) -> Any:
        monkeypatch.setattr(marking, "lock", original)
        other = threading.Thread(target=lambda: house.ask(STUDY))
        other.start()
        other.join()
        return original(*args)

    monkeypatch.setattr(marking, "lock", lock)

    assert house.look() == "0 studies scheduled (0 bytes), 0 kept"
    [task] = factories.views()
    assert (task.params["trigger"], house.marks()) == ("scheduleStudyForDeletion", [task.id])
    house.run_all()
    assert deletable.task(task.id).status is Status.COMPLETED


def test_sweep_at_the_same_files_is_waited_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    task = house.marked(STUDY)
    original, skipped = unlinking.clear_entries, []

    def clear(system: Any, entries: Any) -> Any:
        if skipped:
            return original(system, entries)
        skipped.append(1)
        with db.transaction() as session:
            session.execute(text("SELECT 1 FROM unlink FOR UPDATE"))
            return in_a_thread(original, system, entries)

    monkeypatch.setattr(unlinking, "clear_entries", clear)
    house.run()

    ended = deletable.task(task.id)
    assert (ended.status, ended.failures, ended.error_message) == (Status.COMPLETED, 0, None)
    assert disagreements() == []


def in_a_thread(work: Any, *args: Any) -> Any:
    """Do it on a connection of another thread; returns what it returned."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work(*args)))
    thread.start()
    thread.join()
    return results[0]


def test_deletion_that_has_begun_never_says_that_the_study_stays(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    task = house.marked(STUDY)
    original = deleting._unlink

    def unlink(begun: Any, conditions: Any) -> None:
        begun.file_system_id = -1
        original(begun, conditions)

    monkeypatch.setattr(deleting, "_unlink", unlink)
    house.run()

    ended = deletable.task(task.id)
    assert ended.status is Status.SCHEDULED_FOR_RETRY
    assert f"File system {house.root()} is not in the index any more" in (ended.error_message or "")


def test_second_request_for_a_study_gives_its_mark_back(house: House) -> None:
    house.configure(pin_waiting_for=timedelta(0))
    reader = NewTask("EXPORT", "archive-a", "Export", exporter_id="Noop", study_uid=STUDY)
    waiting = operations.schedule(reader, BY).task
    factories.sql("UPDATE task SET scheduled_time = now() - interval '1 day'")
    house.marked(STUDY)

    again = operations.schedule(reader, BY)

    assert (again.existed, again.task.id, house.marks()) == (True, waiting.id, [])


def test_finish_of_a_run_leaves_other_deletions_alone(house: House) -> None:
    house.marked("1.2.4")
    house.run()
    factories.sql("UPDATE study_deletion SET unlinked_at = NULL")
    house.marked(STUDY)
    house.run()

    assert [row.unlinked_at is not None for row in deletable.deletions_written()] == [False, True]


@pytest.fixture
def _repeatable_read(deletions_database: str, house: House) -> Iterator[None]:
    """Let the default of the database be an isolation at which who waited sees nothing new."""
    name = "test_of_deletions"
    with db.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    db.use(db.make_engine(deletions_database, pool_size=20))
    yield
    with db.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {name} RESET default_transaction_isolation")


@pytest.mark.usefixtures("_repeatable_read")
def test_two_disks_never_count_on_each_other_whatever_the_default_isolation(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.configure(copy_groups=())
    house.deletable(STUDY)
    [online] = house.ask(STUDY).tasks
    nearline = replace(house.device.file_system_groups[NEARLINE], copy_groups=(), deletion_grace_time=timedelta(0))
    [other] = deletions.schedule_study(house.device, nearline, STUDY, deletions.Asked(BY)).tasks
    due = factories.reserve(house.device.name, "DeleteStudy", 2)
    original, inside, waits = deleting._empty, threading.Event(), threading.Event()

    def empty(*args: Any) -> None:
        original(*args)
        if not inside.is_set():
            inside.set()
            assert waits.wait(30)

    monkeypatch.setattr(deleting, "_empty", empty)
    runs = [
        threading.Thread(target=execute.run_task, args=(RunMessage(one.task_id, one.run_id, one.token), deletable.NODE))
        for one in due
    ]
    runs[0].start()
    assert inside.wait(30)
    runs[1].start()
    wait_until(lambda: factories.sql(_BLOCKED), "the second run waits for the first")
    waits.set()
    for run in runs:
        run.join(30)

    assert {deletable.task(online.id).status, deletable.task(other.id).status} == {Status.COMPLETED, Status.CANCELED}
    assert len(house.files(STUDY)) + len(house.files(STUDY, NEARLINE)) == 3
