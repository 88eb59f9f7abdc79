"""One beat leads, by the clock of the database; what is due is sent once, however many beats tick."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from archive import db
from config.device import Device
from tasks.state import Event
from tests import factories, race
from workers import beat, housekeeping
from workers.broker import Broker
from workers.dispatch import Dispatcher

pytestmark = pytest.mark.usefixtures("cluster")


def lead(holder: str) -> bool:
    with db.transaction() as session:
        return beat.lead(session, holder)


def leaderless() -> bool:
    with db.transaction() as session:
        return session.scalars(select(beat.LEADERLESS)).one()


def pass_time(seconds: float) -> None:
    factories.sql("UPDATE leader SET until = until - make_interval(secs => :s)", s=seconds)


# --- leadership


def test_first_beat_leads_and_a_second_one_does_not() -> None:
    assert lead("one")
    assert not lead("two")
    assert lead("one")


def test_lease_of_leadership_that_is_over_goes_to_whoever_asks() -> None:
    lead("one")
    pass_time(beat.LEADERSHIP_S + 1)

    assert lead("two")
    assert not lead("one")


def test_leader_renews_its_lease_with_each_tick() -> None:
    lead("one")
    pass_time(beat.LEADERSHIP_S - 2)

    assert lead("one")
    pass_time(beat.LEADERSHIP_S - 2)
    assert not lead("two")


def test_of_two_who_want_to_lead_at_once_one_does() -> None:
    def leading(holder: str) -> Any:
        return lambda session: beat.lead(session, holder)

    for _ in range(5):
        factories.sql("DELETE FROM leader")
        assert race.overlap(leading("one"), leading("two")) == (True, False)

        factories.sql("DELETE FROM leader")
        assert sorted(race.at_once([leading(str(number)) for number in range(4)])) == [False, False, False, True]


def test_lease_that_is_over_is_taken_by_one_of_two() -> None:
    lead("old")
    pass_time(beat.LEADERSHIP_S + 1)

    def leading(holder: str) -> Any:
        return lambda session: beat.lead(session, holder)

    assert race.overlap(leading("one"), leading("two")) == (True, False)


def test_workers_help_themselves_when_nobody_has_led_for_long() -> None:
    assert leaderless()
    lead("one")
    assert not leaderless()
    pass_time(beat.LEADERSHIP_S + beat.NO_LEADER_FOR_S - 2)
    assert not leaderless()
    pass_time(4)
    assert leaderless()


# --- housekeeping


@pytest.fixture
def dispatcher() -> Dispatcher:
    """A dispatcher that collects: its thread is not started."""
    return Dispatcher(Broker(None))


def use(**values: Any) -> Device:
    device = factories.device(**{"purge_interval": timedelta(hours=1), **values})
    factories.use_cluster(device)
    return device


def sent(dispatcher: Dispatcher) -> list[tuple[str, str]]:
    """Return channel and job of what was sent since the last look."""
    jobs, dispatcher._jobs = dispatcher._jobs, []
    return sorted((channel, args[2]) for channel, args in jobs)


def make_due(job: str = "purge_tasks") -> None:
    factories.sql("UPDATE housekeeping_job SET next_run_at = now() - interval '1 s' WHERE job = :job", job=job)


def in_s(job: str = "purge_tasks") -> float:
    [seconds] = factories.sql(
        "SELECT extract(epoch FROM next_run_at - clock_timestamp()) FROM housekeeping_job WHERE job = :job", job=job
    )
    return float(seconds)


@pytest.fixture
def housekeeper(cluster: object) -> int:
    """A worker that serves the housekeeping channel of archive-a."""
    return factories.seen_worker(channel="archive-a.housekeeping")


CHANNEL = "archive-a.housekeeping"


@pytest.mark.usefixtures("housekeeper")
def test_job_is_due_one_interval_after_it_was_configured_and_then_again(dispatcher: Dispatcher) -> None:
    use()
    housekeeping.send_due(dispatcher)
    assert sent(dispatcher) == []
    assert 3590 < in_s() <= 3600

    make_due()
    housekeeping.send_due(dispatcher)

    assert sent(dispatcher) == [(CHANNEL, "purge_tasks")]
    assert 3590 < in_s() <= 3600


@pytest.mark.usefixtures("housekeeper")
def test_job_is_sent_once_by_two_beats(dispatcher: Dispatcher) -> None:
    use()
    housekeeping.send_due(dispatcher)
    make_due()

    found = race.overlap(housekeeping._take_due, housekeeping._take_due)
    make_due()
    together = race.at_once([housekeeping._take_due] * 4)

    assert [len(jobs) for jobs in found] == [1, 0]
    assert sorted(len(jobs) for jobs in together) == [0, 0, 0, 1]


def test_job_waits_for_a_worker_that_takes_it_and_is_made_up_once(dispatcher: Dispatcher) -> None:
    use()
    factories.seen_worker()  # serves another channel
    housekeeping.send_due(dispatcher)
    make_due()
    for _ in range(3):
        housekeeping.send_due(dispatcher)
    assert sent(dispatcher) == []

    node = factories.seen_worker(channel=CHANNEL)
    for _ in range(3):
        housekeeping.send_due(dispatcher)

    assert sent(dispatcher) == [(CHANNEL, "purge_tasks")]
    factories.sql("UPDATE worker_node SET seen_at = now() - interval '16 s' WHERE id = :id", id=node)
    make_due()
    housekeeping.send_due(dispatcher)
    assert sent(dispatcher) == []


@pytest.mark.usefixtures("housekeeper")
def test_job_whose_message_was_lost_is_sent_again_and_one_that_was_started_is_not(dispatcher: Dispatcher) -> None:
    use()
    housekeeping.send_due(dispatcher)
    make_due()
    housekeeping.send_due(dispatcher)
    sent(dispatcher)
    factories.sql("UPDATE housekeeping_job SET sent_at = now() - interval '61 s' WHERE sent_at IS NOT NULL")

    housekeeping.send_due(dispatcher)
    assert sent(dispatcher) == [(CHANNEL, "purge_tasks")]
    assert in_s() > 3500

    factories.sql("UPDATE housekeeping_job SET sent_at = now() - interval '61 s', started_at = now() - interval '60 s'"
                  " WHERE sent_at IS NOT NULL")  # fmt: skip
    housekeeping.send_due(dispatcher)
    assert sent(dispatcher) == []


@pytest.mark.usefixtures("housekeeper")
def test_shorter_interval_counts_from_the_last_run(dispatcher: Dispatcher) -> None:
    use()
    housekeeping.send_due(dispatcher)
    factories.sql(
        "UPDATE housekeeping_job SET sent_at = now() - interval '40 min', started_at = now() WHERE job = 'purge_tasks'"
    )

    use(purge_interval=timedelta(minutes=50))
    housekeeping.send_due(dispatcher)
    assert 590 < in_s() <= 600
    assert sent(dispatcher) == []

    use(purge_interval=timedelta(minutes=30))
    housekeeping.send_due(dispatcher)
    assert sent(dispatcher) == [(CHANNEL, "purge_tasks")]
    assert 1790 < in_s() <= 1800


def test_job_that_is_not_configured_any_more_is_forgotten(dispatcher: Dispatcher) -> None:
    use()
    housekeeping.send_due(dispatcher)
    assert "purge_tasks" in factories.sql("SELECT job FROM housekeeping_job")

    use(purge_interval=None)
    housekeeping.send_due(dispatcher)

    assert "purge_tasks" not in factories.sql("SELECT job FROM housekeeping_job")


def test_foreign_devices_have_no_jobs() -> None:
    cluster = factories.cluster(
        factories.device(purge_interval=timedelta(hours=1)),
        factories.device("foreign", is_ours=False, purge_interval=timedelta(hours=1)),
    )

    assert {device for device, _, _ in housekeeping.wanted(cluster)} == {"archive-a"}


def test_jobs_are_kept_although_the_first_try_was_rolled_back(
    dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    use()

    def fail(_session: Session) -> list[Any]:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(housekeeping, "_take_due", fail)
        with pytest.raises(RuntimeError):
            housekeeping.send_due(dispatcher)
    assert factories.sql("SELECT job FROM housekeeping_job") == []

    housekeeping.send_due(dispatcher)

    assert "purge_tasks" in factories.sql("SELECT job FROM housekeeping_job")


def test_job_records_when_it_ran_and_what_it_did(dispatcher: Dispatcher) -> None:
    queue = replace(factories.EXPORT, purge_failed_after=timedelta(0))
    use(queues={"Export": queue})
    housekeeping.send_due(dispatcher)
    run = factories.running()
    factories.report(run, Event.FAIL)

    housekeeping.run("archive-a", "", "purge_tasks")

    with db.transaction() as session:
        row = session.execute(text("SELECT * FROM housekeeping_job WHERE job = 'purge_tasks'")).one()
    assert row.started_at is not None
    assert row.ended_at >= row.started_at
    assert row.result == "1 tasks purged"
    assert factories.views() == []


@pytest.mark.parametrize(("device", "job"), [("archive-a", "nonsense"), ("archive-x", "purge_tasks")])
def test_job_or_device_that_is_unknown_does_nothing(device: str, job: str) -> None:
    factories.insert()

    housekeeping.run(device, "", job)

    assert len(factories.views()) == 1
