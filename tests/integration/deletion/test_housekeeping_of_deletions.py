"""Beat's part: which jobs there are, what they say, and that a stored series wakes the look, debounced."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from config.device import Queue
from tasks import aging, judging, stored
from tasks.state import Status
from tests import factories
from tests.lab import deletable
from tests.lab.deletable import ONLINE, House
from workers import device_step, housekeeping
from workers.broker import Broker
from workers.dispatch import Dispatcher

STUDY = "1.2.3"


@pytest.fixture(autouse=True)
def _fresh(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "_known", {})
    factories.seen_worker(channel="archive-a.housekeeping")
    factories.seen_worker(channel="archive-b.housekeeping")


def jobs() -> dict[tuple[str, str], float]:
    """Return the jobs of archive-a that are configured, with their intervals in seconds."""
    found = housekeeping.wanted(housekeeping.configuration.current())
    return {(group, job): every for (device, group, job), every in found.items() if device == "archive-a"}


def result(job: str) -> str:
    [text] = factories.sql("SELECT result FROM housekeeping_job WHERE job = :job AND device = 'archive-a'", job=job)
    return str(text)


def keep() -> Dispatcher:
    dispatcher = Dispatcher(Broker(None))
    housekeeping.send_due(dispatcher)
    return dispatcher


def due_in_s() -> float:
    [seconds] = factories.sql(
        "SELECT extract(epoch FROM next_run_at - clock_timestamp()) FROM housekeeping_job WHERE job = :job",
        job="schedule_deletions",
    )
    return float(seconds)


def test_look_is_a_job_of_each_group_that_wants_it(house: House) -> None:
    assert (ONLINE, "schedule_deletions") not in jobs()
    house.configure(schedule_interval=timedelta(minutes=5))
    assert jobs()[ONLINE, "schedule_deletions"] == 300
    house.configure(schedule_on_series_stored=True)
    assert jobs()[ONLINE, "schedule_deletions"] == 86400
    assert jobs()["", "close_silent_series"] == 30
    assert {"check_file_systems", "end_obsolete_deletions"} <= {job for _, job in jobs()}


def test_look_of_beat_schedules_and_its_result_is_kept(house: House) -> None:
    house.configure(schedule_interval=timedelta(minutes=5))
    keep()
    house.deletable(STUDY)
    house.store("1.2.4")
    house.age("1.2.4")

    housekeeping.run("archive-a", ONLINE, "schedule_deletions")

    said = result("schedule_deletions")
    assert said.startswith("1 studies scheduled (")
    assert said.endswith(" bytes), 1 kept: 1 copy in group, 1 not the last copy")
    house.run()
    assert {task.status for task in factories.views()} == {Status.COMPLETED}


def test_device_without_the_queue_says_so(house: House) -> None:
    house.configure(schedule_interval=timedelta(minutes=5))
    keep()
    factories.use_cluster(factories.device(file_system_groups=house.device.file_system_groups))

    housekeeping.run("archive-a", ONLINE, "schedule_deletions")

    assert factories.views() == []
    assert result("schedule_deletions") == "No Queue configured with name:DeleteStudy at Device{name=archive-a}"


def test_look_that_somebody_asked_for_is_remembered_but_not_repeated(house: House) -> None:
    house.look()

    keep()

    assert result("schedule_deletions").startswith("0 studies scheduled")
    assert due_in_s() > 86400
    house.configure(schedule_interval=timedelta(minutes=5))
    keep()
    assert 0 < due_in_s() <= 300


def test_disks_are_looked_at_again_during_a_long_look(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        house.deletable(f"1.2.{number}", 1)
    house.configure(schedule_batch_size=1)
    monkeypatch.setattr(aging, "_REFRESH_EVERY_S", 0)

    def stale(*args: Any) -> Any:
        found = judged(*args)
        factories.sql("UPDATE file_system_report SET checked_at = checked_at - interval '121 s'")
        return found

    judged = judging.judge
    monkeypatch.setattr(judging, "judge", stale)

    housekeeping.run("archive-a", ONLINE, "schedule_deletions")

    assert result("schedule_deletions").startswith("3 studies scheduled")


@pytest.mark.parametrize(("parallel", "processes"), [(1, 3), (4, 6), (None, 2)])
def test_deletions_leave_processes_for_what_beat_sends(parallel: int | None, processes: int) -> None:
    queues = {} if parallel is None else {"DeleteStudy": Queue("DeleteStudy", max_tasks_parallel=parallel)}

    assert device_step.housekeeping_processes(factories.device(queues=queues)) == processes


def test_look_at_a_group_that_is_gone_is_refused(house: House) -> None:
    house.deletable(STUDY)

    housekeeping.run("archive-a", "GONE", "schedule_deletions")

    assert factories.views() == []


def test_stored_series_wakes_the_look_once(house: House) -> None:
    house.configure(schedule_interval=timedelta(hours=1), schedule_on_series_stored=True)
    dispatcher = keep()
    assert due_in_s() > 3500

    for _ in range(3):
        stored.series_stored("archive-a")
    assert due_in_s() <= 0

    housekeeping.send_due(dispatcher)
    assert due_in_s() > 3500
    stored.series_stored("archive-a")
    # The last look was sent just now: this one waits, however many series follow.
    assert 5 < due_in_s() <= 10
    stored.series_stored("archive-a")
    assert 5 < due_in_s() <= 10


@pytest.mark.parametrize("name", ["archive-a", "archive-b", "unknown"])
def test_stored_series_wakes_nothing_where_no_group_wants_it(house: House, name: str) -> None:
    house.configure(schedule_interval=timedelta(hours=1), schedule_on_series_stored=name != "archive-a")
    keep()

    stored.series_stored(name)

    assert due_in_s() > 3500


def test_silent_series_are_closed_and_wake_the_look(house: House) -> None:
    house.configure(schedule_interval=timedelta(hours=1), schedule_on_series_stored=True)
    keep()
    house.store(STUDY, close=False)
    housekeeping.run("archive-a", "", "close_silent_series")
    assert result("close_silent_series") == "0 series stored"
    assert due_in_s() > 3500

    factories.sql("UPDATE series SET last_received_at = now() - interval '61 s'")
    housekeeping.run("archive-a", "", "close_silent_series")

    assert result("close_silent_series") == "1 series stored"
    assert factories.sql("SELECT state FROM series") == ["STORED"]
    assert due_in_s() <= 0


def test_health_is_reported_with_the_space_that_is_free(house: House) -> None:
    keep()
    (house.home / "online-2" / ".arcfleet-fs").unlink()

    housekeeping.run("archive-a", "", "check_file_systems")

    said = result("check_file_systems")
    assert said.startswith("2 of 3 file systems are healthy; File system")
    assert "online-2: no .arcfleet-fs in it" in said
    rows = factories.sql(
        "SELECT concat(problem IS NULL, free_bytes > 0, total_bytes >= free_bytes) FROM file_system_report ORDER BY 1"
    )
    assert rows == ["f", "ttt", "ttt"]


def test_deletions_whose_study_was_used_are_ended_by_a_job(house: House) -> None:
    house.configure(deletion_grace_time=timedelta(hours=1))
    keep()
    task = house.marked(STUDY)
    house.touch(STUDY)

    housekeeping.run("archive-a", "", "end_obsolete_deletions")

    assert result("end_obsolete_deletions") == "1 tasks canceled whose mark was gone"
    assert deletable.task(task.id).status is Status.CANCELED


def test_sweep_notes_that_a_deletion_is_done(house: House) -> None:
    keep()
    house.marked(STUDY)
    house.run()
    factories.sql("UPDATE study_deletion SET unlinked_at = NULL")

    housekeeping.run("archive-a", "", "clear_unfinished")

    assert deletable.deletions_written()[0].unlinked_at is not None
