"""Lost runs go back, but only when they are surely lost; hanging ones are asked to stop."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from archive import db
from config.device import Device
from tasks import slots
from tasks.run import Stop
from tasks.state import Event, Status
from tasks.store import Claimed
from tests import factories
from workers import rescue
from workers.rescue import Rescue

pytestmark = pytest.mark.usefixtures("cluster")

#: The database of the tests is older than this.
SHORT = timedelta(milliseconds=1)


def use(*, lease: timedelta = SHORT, **queue: object) -> Device:
    device = factories.device(task_lease=lease, queues={"Export": replace(factories.EXPORT, **queue)})  # type: ignore[arg-type]
    factories.use_cluster(device)
    return device


def open_runs() -> list[slots.OpenRun]:
    with db.transaction() as session:
        return slots.open_runs(session)


def lost_run() -> Claimed:
    run = factories.running()
    factories.sql("UPDATE run SET lease_until = clock_timestamp() - interval '1 s' WHERE id = :id", id=run.run_id)
    return run


def test_run_whose_lease_is_over_is_rescued() -> None:
    use()
    run = lost_run()

    assert Rescue("beat", waits=False).tick(open_runs()) == 1

    [task] = factories.views()
    assert (task.status, task.lost_leases, task.failures) == (Status.SCHEDULED_FOR_RETRY, 1, 0)
    assert factories.arrows_of(task.id)[-1] == (Status.IN_PROCESS, Event.LOSE, Status.SCHEDULED_FOR_RETRY)
    assert factories.run_row(run.run_id)["ended_at"] is not None


def test_run_within_its_lease_and_reservation_that_nobody_claimed_are_left_alone() -> None:
    use()
    factories.running()
    factories.insert()
    [reservation] = factories.reserve(number=30)
    factories.sql("UPDATE run SET lease_until = now() - interval '1 s' WHERE id = :id", id=reservation.run_id)

    assert Rescue("beat", waits=False).tick(open_runs()) == 0

    assert len(open_runs()) == 2


def test_run_that_was_renewed_since_it_was_listed_is_left_alone() -> None:
    use()
    run = lost_run()
    listed = open_runs()
    with db.transaction() as session:
        slots.renew_leases(session, [run.run_id], factories.LEASE)

    assert Rescue("beat", waits=False).tick(listed) == 0
    assert factories.status_of(run.task.id) is Status.IN_PROCESS


def test_run_that_ended_since_it_was_listed_is_left_alone() -> None:
    use()
    run = lost_run()
    listed = open_runs()
    factories.report(run, Event.SUCCEED)

    assert Rescue("beat", waits=False).tick(listed) == 0
    assert factories.status_of(run.task.id) is Status.COMPLETED


def test_task_that_was_lost_too_often_fails() -> None:
    use(max_lost_leases=1)
    run = lost_run()

    Rescue("beat", waits=False).tick(open_runs())

    [task] = factories.views()
    assert task.status is Status.FAILED
    assert task.error_message == "lease lost: no heartbeat for 0.001 s; lost 1 times in a row, at most 1"
    assert task.id == run.task.id


def test_nothing_is_rescued_within_one_lease_of_the_databases_start() -> None:
    use(lease=timedelta(days=30))
    run = lost_run()

    assert Rescue("beat", waits=False).tick(open_runs()) == 0
    assert factories.status_of(run.task.id) is Status.IN_PROCESS


#: Shorter than the database of the tests has been up, longer than a test takes.
LEASE = timedelta(seconds=1)


def test_nothing_is_rescued_within_one_lease_of_an_outage() -> None:
    use(lease=LEASE)
    lost_run()
    rescuer = Rescue("beat", waits=False)

    listed = open_runs()
    rescuer.away()

    assert rescuer.tick(listed) == 0
    rescuer._back_s -= 1
    assert rescuer.tick(listed) == 1


def test_nothing_is_rescued_when_the_rescuer_itself_was_away() -> None:
    use(lease=LEASE)
    lost_run()
    rescuer = Rescue("beat", waits=False)
    listed = open_runs()
    rescuer.tick([])
    rescuer._last_s -= 60

    assert rescuer.tick(listed) == 0
    rescuer._back_s -= 1
    assert rescuer.tick(listed) == 1


def test_run_of_a_cancelled_task_ends_with_its_lease() -> None:
    use()
    run = lost_run()
    factories.change(Event.CANCEL, run.task.id)

    assert Rescue("beat", waits=False).tick(open_runs()) == 1

    assert factories.status_of(run.task.id) is Status.CANCELED
    assert open_runs() == []


def test_watchdog_asks_a_run_that_hangs_to_stop_once() -> None:
    use(max_run_time=timedelta(minutes=1), max_silence=None)
    hanging, fine = factories.running(), factories.running()
    factories.sql("UPDATE run SET claimed_at = now() - interval '2 min' WHERE id = :id", id=hanging.run_id)

    assert rescue.watch(open_runs()) == 1
    assert rescue.watch(open_runs()) == 0

    reasons = {run.run_id: factories.run_row(run.run_id)["stop_reason"] for run in (hanging, fine)}
    assert reasons == {hanging.run_id: Stop.WATCHDOG, fine.run_id: None}
    assert factories.status_of(hanging.task.id) is Status.IN_PROCESS


def test_watchdog_does_not_ask_a_run_that_is_asked_already() -> None:
    use(max_run_time=timedelta(minutes=1))
    run = factories.running()
    factories.change(Event.CANCEL, run.task.id)
    factories.sql("UPDATE run SET claimed_at = now() - interval '2 min'")

    assert rescue.watch(open_runs()) == 0
    assert factories.run_row(run.run_id)["stop_reason"] == Stop.CANCEL


def test_new_rescuer_waits_one_lease() -> None:
    use(lease=LEASE)
    run = lost_run()
    listed = open_runs()

    assert Rescue("beat").tick(listed) == 0
    assert factories.status_of(run.task.id) is Status.IN_PROCESS


def test_pause_that_eats_most_of_a_short_lease_counts_as_away() -> None:
    use(lease=LEASE)
    lost_run()
    rescuer = Rescue("beat", waits=False)
    rescuer.tick([])
    rescuer._last_s -= 3.5

    assert rescuer.tick(open_runs()) == 0
