"""Failover: off unless configured, after its time, with times kept; what cannot go stays and is listed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from archive import db
from config.device import Device
from tasks import failover, pausing
from tasks.failover import Failover
from tasks.pausing import Wish
from tasks.state import Event, Status
from tests import factories
from workers import housekeeping

pytestmark = pytest.mark.usefixtures("cluster")

TONIGHT = datetime(2100, 1, 1, tzinfo=UTC)
AFTER = timedelta(minutes=5)


def use(*names: str, after: timedelta | None = AFTER, **values: Any) -> Device:
    """Use a cluster in which archive-a has these failover devices; returns the first of them."""
    others = [factories.device(name, **values) for name in ("archive-b", "archive-c")]
    factories.use_cluster(factories.device(failover_devices=names, failover_after=after), *others)
    return others[0]


def worker(name: str, ago: timedelta = timedelta(0), *, stopped: bool = False) -> None:
    number = factories.seen_worker(name)
    factories.sql(
        "UPDATE worker_node SET seen_at = now() - CAST(:ago AS interval), "
        "stopped_at = CASE WHEN :stopped THEN now() - CAST(:ago AS interval) END WHERE id = :id",
        ago=ago, stopped=stopped, id=number,
    )  # fmt: skip


def places() -> list[str]:
    return factories.sql("SELECT device FROM task ORDER BY id")


def row() -> Failover:
    with db.transaction() as session:
        found = failover.of_devices(session)["archive-a"]
        session.expunge_all()
        return found


@pytest.mark.parametrize("stopped", [False, True])
def test_waiting_tasks_of_a_dead_device_are_moved_with_their_times(*, stopped: bool) -> None:
    b = use("archive-b")
    worker("archive-a", timedelta(minutes=6), stopped=stopped)
    worker("archive-b")
    [planned] = factories.insert(scheduled_time=TONIGHT, priority=7)
    run = factories.running()
    factories.report(run, Event.RETRY, error="refused", delay=timedelta(hours=1), counts=True)
    done = factories.running()
    factories.report(done, Event.SUCCEED)

    said = failover.take_over(b)

    assert said == "2 tasks of archive-a moved to archive-b, 0 stay"
    first, retried, finished = factories.views()
    assert (first.device, first.scheduled_time, first.priority) == ("archive-b", TONIGHT, 7)
    assert (retried.device, retried.failures, retried.error_message) == ("archive-b", 1, "refused")
    assert (finished.device, finished.status) == ("archive-a", Status.COMPLETED)
    assert (row().moved, row().stays, row().back_at) == (2, 0, None)
    [moved] = factories.sql(
        "SELECT concat_ws(' ', actor, reason) FROM history WHERE event = 'reschedule' AND "
        "(first_id = :id OR :id = ANY(task_ids)) LIMIT 1", id=planned.id,
    )  # fmt: skip
    assert moved.startswith("failover of archive-a no live worker of archive-a since ")


@pytest.mark.parametrize(
    "arrange",
    [
        lambda: use("archive-b", after=None) and worker("archive-a", timedelta(days=1)),
        lambda: use() and worker("archive-a", timedelta(days=1)),
        lambda: use("archive-b") and worker("archive-a", timedelta(minutes=4)),
        lambda: use("archive-b") and worker("archive-a"),
        lambda: use("archive-b"),
        lambda: (use("archive-b"), worker("archive-a", timedelta(days=1)), worker("archive-a")),
        lambda: use("archive-b", after=timedelta(seconds=1)) and worker("archive-a", timedelta(seconds=14)),
        lambda: use("archive-c") and worker("archive-a", timedelta(days=1)),
    ],
    ids=["off", "nowhere", "not yet", "lives", "never lived", "one lives", "may come back", "not mine"],
)
def test_nothing_moves(arrange: Callable[[], object]) -> None:
    arrange()
    worker("archive-b")
    factories.insert(2)

    failover.take_over(factories.device("archive-b"))

    assert places() == ["archive-a"] * 2


def test_those_that_live_share_the_tasks() -> None:
    b = use("archive-b", "archive-c")
    worker("archive-a", timedelta(days=1))
    worker("archive-b")
    worker("archive-c")
    factories.insert(4)

    failover.take_over(b)

    assert sorted(places()) == ["archive-b", "archive-b", "archive-c", "archive-c"]


def test_dead_and_paused_failover_devices_get_nothing() -> None:
    b = use("archive-b", "archive-c")
    worker("archive-a", timedelta(days=1))
    worker("archive-b")
    worker("archive-c", timedelta(minutes=1))
    factories.insert(2)

    with db.transaction() as session:
        pausing.pause(session, b, Wish("anna"))
    nobody = failover.take_over(b)
    with db.transaction() as session:
        pausing.resume(session, b, None)
    failover.take_over(b)

    assert "no failover device lives" in nobody
    assert places() == ["archive-b"] * 2


def test_tasks_of_a_paused_device_or_queue_stay() -> None:
    b = use("archive-b")
    worker("archive-a", timedelta(days=1))
    worker("archive-b")
    factories.insert(2)
    a = factories.device()

    with db.transaction() as session:
        pausing.pause(session, a, Wish("anna", queue="Export"))
    failover.take_over(b)
    before = places()
    with db.transaction() as session:
        pausing.resume(session, a, None)
        pausing.pause(session, a, Wish("anna", draining=True))
    said = failover.take_over(b)

    assert before == places() == ["archive-a"] * 2
    assert "and paused: its tasks stay" in said


def test_what_cannot_run_there_stays_and_is_listed_and_is_not_tried_all_the_time() -> None:
    b = use("archive-b", exporters={})
    worker("archive-a", timedelta(days=1))
    worker("archive-b")
    [task] = factories.insert()

    first, second = failover.take_over(b), failover.take_over(b)
    factories.insert()
    third = failover.take_over(b)

    assert first == "0 tasks of archive-a moved to archive-b, 1 stay"
    assert second == "nobody is away"
    assert third == "0 tasks of archive-a moved to archive-b, 2 stay"
    assert row().stays == 2
    assert row().reasons[0] == [
        f"Cannot reschedule Export Task{{id={task.id}}} to Exporter{{id=Noop}} not configured at "
        "Device{name=archive-b}", 1,
    ]  # fmt: skip


def test_nothing_moves_back_when_the_device_lives_again() -> None:
    b = use("archive-b")
    worker("archive-a", timedelta(days=1))
    worker("archive-b")
    factories.insert(2)
    failover.take_over(b)
    worker("archive-a")

    failover.take_over(b)

    assert places() == ["archive-b"] * 2
    assert row().back_at is not None


def test_study_deletion_stays_with_the_owner_of_the_files() -> None:
    b = use("archive-b")
    worker("archive-a", timedelta(days=1))
    worker("archive-b")
    factories.insert(kind="DELETE_STUDY", exporter_id=None)

    failover.take_over(b)

    assert places() == ["archive-a"]
    assert "only its owner unlinks there" in row().reasons[0][0]


def test_job_is_one_of_those_that_stand_in() -> None:
    use("archive-b")

    jobs = {device for device, _, job in housekeeping.wanted(factories.configuration.current()) if job == "take_over"}

    assert jobs == {"archive-b"}
