"""What a run may use while it runs: it stops when asked, and begins nothing past its lease."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import text

from archive import db
from tasks import slots
from tasks import work as works
from tasks.errors import StoppedError
from tasks.outcome import ObjectResult
from tasks.registry import kind_of
from tasks.run import Ending, Stop
from tasks.state import Event, Status
from tasks.work import now_s
from tests import factories
from tests.stored_study import OBJECTS, Archive, outcomes, start


def test_run_that_is_asked_to_stop_begins_no_further_object(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(works, "LOOK_EVERY_S", 0)
    run = start()
    work = archive.work(run)
    factories.change(Event.CANCEL, run.task.id)

    with pytest.raises(StoppedError) as stopped:
        kind_of("EXPORT").process(run.task, work)
    work.close()

    assert stopped.value.reason == Stop.CANCEL
    assert archive.arrived() == []
    assert outcomes(run) == dict.fromkeys(OBJECTS, "not reached")


def test_object_that_went_out_is_recorded_although_the_task_was_cancelled(archive: Archive) -> None:
    run = start()
    factories.change(Event.CANCEL, run.task.id)
    work = archive.work(run)
    work.record(OBJECTS[0], ObjectResult.SENT)
    work.close()

    assert outcomes(run) == {OBJECTS[0]: "sent"}
    assert factories.status_of(run.task.id) is Status.CANCELED


@pytest.mark.parametrize("stop", list(Stop))
def test_run_is_told_why_it_stops(archive: Archive, stop: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(works, "LOOK_EVERY_S", 0)
    run = start()
    work = archive.work(run)
    work.check_stop()
    with db.transaction() as session:
        slots.ask_runs_to_stop(session, [run.run_id], stop)

    with pytest.raises(StoppedError) as stopped:
        work.check_stop()

    assert stopped.value.reason == stop


def test_run_that_was_rescued_finds_itself_lost(archive: Archive) -> None:
    run = start()
    work = archive.work(run, lease_s=-1)
    factories.report(run, Event.LOSE)

    with pytest.raises(StoppedError) as stopped:
        work.begin(OBJECTS[0])

    assert stopped.value.reason == works.LOST
    assert not archive.trace.read_text()


def test_run_past_its_lease_begins_nothing_until_the_lease_is_renewed(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start()
    factories.sql("UPDATE run SET lease_until = clock_timestamp() - interval '1 s'")
    work = archive.work(run, lease_s=-1)
    waited = []

    def renewed_while_it_waits(_seconds: float) -> None:
        waited.append(archive.trace.read_text())
        factories.sql("UPDATE run SET lease_until = clock_timestamp() + interval '1 min'")

    monkeypatch.setattr(time, "sleep", renewed_while_it_waits)
    work.begin(OBJECTS[0])

    assert waited == [""]
    assert archive.trace.read_text().startswith("begin ")


def test_run_whose_lease_ends_while_it_writes_its_outcomes_begins_nothing(archive: Archive) -> None:
    run = start()
    work = archive.work(run, lease_s=0.3)
    work.record(OBJECTS[0], ObjectResult.SENT)
    work._flushed_s = 0
    ended: list[str] = []

    def begin() -> None:
        try:
            work.begin(OBJECTS[1])
        except StoppedError as stopped:
            ended.append(stopped.reason)

    thread = threading.Thread(target=begin)
    with db.transaction() as session:
        session.execute(text("SELECT 1 FROM task WHERE id = :id FOR UPDATE"), {"id": run.task.id})
        thread.start()
        while now_s() < work._lease_ends_s:
            thread.join(0.01)
        slots.end(session, run.run_id, Ending.LOST)
    thread.join(30)

    assert ended == [works.LOST]
    assert "begin" not in archive.trace.read_text()
