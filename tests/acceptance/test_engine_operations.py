"""What operators do to tasks that wait or run, and what the clock does to them: on real workers of two devices."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete

from tasks import history, operations
from tasks.control import Pause
from tasks.history import Transition
from tasks.moving import Change
from tasks.query import TaskQuery
from tasks.run import Run
from tasks.slots import database_time
from tasks.state import Status
from tests.lab import ldif
from tests.lab.board import BY
from tests.lab.cluster import Lab, cluster
from tests.lab.waiting import holds_for, wait_until
from workers.embedded import child

ANY = TaskQuery()
HERE, THERE = "archive-a", "archive-b"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    hour_of_night = (datetime.now(UTC) + timedelta(hours=12)).hour
    with cluster(
        ldif.device(arcTaskLease="PT5S"),
        ldif.exporter("Noop", uri="noop:", duration=0.01),
        ldif.exporter("Slow", uri="noop:", duration=600, operations=60_000),
        ldif.queue("RunTime", arcTaskMaxRunTime="PT2S", dcmMaxRetries="0"),
        ldif.exporter("LongRun", uri="noop:", duration=600, operations=60_000, queue="RunTime"),
        ldif.queue("Silence", arcTaskMaxSilence="PT2S", dcmMaxRetries="0"),
        ldif.exporter("Silent", uri="noop:", duration=600, queue="Silence"),
        ldif.queue("AtNight", dcmSchedule=f"hour={hour_of_night}"),
        ldif.exporter("Nightly", uri="noop:", queue="AtNight"),
        ldif.queue("Retrying", dcmMaxRetries="2", dcmRetryDelay="PT1S", dcmRetryDelayMultiplier="200"),
        ldif.exporter("Blocked", uri="file:blocked/export", queue="Retrying"),
        ldif.queue("OneByOne", dcmMaxTasksParallel="1"),
        ldif.exporter("Single", uri="noop:", duration=0.05, queue="OneByOne"),
    ) as made:
        made.beat()
        made.worker(HERE)
        made.worker(THERE)
        made.ready()
        yield made


@pytest.fixture(autouse=True)
def _leaves_nothing_running(lab: Lab) -> Iterator[None]:
    yield
    operations.cancel(TaskQuery(statuses=tuple(status for status in Status if not status.is_done)), BY)
    lab.await_idle()


def stopping_took(run: Run) -> timedelta:
    """Return how long a run that has ended went on after it was asked to stop."""
    assert run.ended_at is not None
    assert run.stop_asked_at is not None
    return run.ended_at - run.stop_asked_at


def pause_between(earlier: Run, later: Run) -> timedelta:
    """Return the time from the end of one run to the reservation of another; negative: they overlapped."""
    assert earlier.ended_at is not None
    return later.reserved_at - earlier.ended_at


def steps(lab: Lab, task_id: int) -> list[Transition]:
    return lab.ask(lambda session: history.of_task(session, task_id))


def test_canceled_waiting_task_never_runs(lab: Lab) -> None:
    later = lab.ask(database_time) + timedelta(seconds=2)
    (task,) = lab.schedule(scheduled_time=later)

    operations.cancel_one(task, ANY, BY)

    assert lab.task(task).status is Status.CANCELED
    wait_until(lambda: lab.ask(database_time) > later + timedelta(seconds=1.5), "its time is over")
    assert lab.runs(task) == []


def test_canceled_running_task_stops_on_another_device_without_a_kill(lab: Lab) -> None:
    (task,) = lab.schedule(device=THERE, exporter="Slow")
    run = lab.await_running(task)
    process = lab.process_of(run.id)

    operations.cancel_one(task, ANY, BY)

    assert lab.task(task).status is Status.CANCELED
    ended = lab.await_end(run)
    assert ended.ending == "stopped"
    assert child.is_alive(process or 0), "the process of the run was killed"
    print(f"stopped {stopping_took(ended).total_seconds():.2f} s after it was asked")
    lab.prove()


def test_run_moved_while_running_starts_there_only_after_it_ended_here(lab: Lab) -> None:
    (task,) = lab.schedule(device=HERE, exporter="Slow")
    first = lab.await_running(task)

    operations.reschedule_one(task, ANY, Change(devices=(THERE,)), BY)

    moved = lab.task(task)
    assert (moved.device, moved.status) == (THERE, Status.SCHEDULED)
    second = lab.await_running(task, after=first)
    assert second.device == THERE
    ended = lab.await_end(first)
    assert ended.ending == "stopped"
    assert pause_between(ended, second) > timedelta(0)
    lab.prove(all_done=False)


def test_run_of_a_rescheduled_task_starts_again_on_its_own_device(lab: Lab) -> None:
    (task,) = lab.schedule(device=HERE, exporter="Slow")
    first = lab.await_running(task)

    operations.reschedule_one(task, ANY, Change(), BY)

    second = lab.await_running(task, after=first)
    assert second.device == HERE
    assert pause_between(lab.await_end(first), second) > timedelta(0)


def test_deleted_running_task_is_gone_at_once_and_its_run_ends(lab: Lab) -> None:
    (task,) = lab.schedule(device=THERE, exporter="Slow")
    run = lab.await_running(task)

    operations.delete_one(task, ANY, BY)

    assert lab.count(ids=(task,)) == {}
    assert lab.await_end(run).ending == "stopped"
    assert [step.event for step in steps(lab, task)] == ["create", "claim", "delete"]


def test_run_that_hangs_is_killed_after_cancel_and_its_slot_is_free(lab: Lab) -> None:
    (task,) = lab.schedule(device=HERE, exporter="Slow")
    run = lab.await_running(task)
    process = lab.process_of(run.id)
    assert process is not None
    os.kill(process, signal.SIGSTOP)

    operations.cancel_one(task, ANY, BY)

    ended = lab.await_end(run)
    assert lab.task(task).status is Status.CANCELED
    assert not child.is_alive(process)
    assert stopping_took(ended) > timedelta(seconds=5)
    print(f"ended {stopping_took(ended).total_seconds():.2f} s after it was asked to stop")
    lab.await_status(lab.schedule(8, device=HERE), Status.COMPLETED)
    lab.prove()


@pytest.mark.parametrize(("exporter", "queue"), [("LongRun", "RunTime"), ("Silent", "Silence")])
def test_watchdog_stops_what_runs_or_is_silent_too_long(lab: Lab, exporter: str, queue: str) -> None:
    (task,) = lab.schedule(device=HERE, exporter=exporter)

    lab.await_status([task], Status.FAILED)

    failed = lab.task(task)
    assert failed.error_message is not None
    assert "watchdog" in failed.error_message
    assert queue in failed.error_message
    assert (failed.failures, failed.lost_leases) == (1, 0)


def test_watchdog_kills_what_hangs(lab: Lab) -> None:
    (task,) = lab.schedule(device=HERE, exporter="Silent")
    process = lab.process_of(lab.await_running(task).id)
    assert process is not None
    os.kill(process, signal.SIGSTOP)

    lab.await_status([task], Status.FAILED)

    assert not child.is_alive(process)
    assert "watchdog" in (lab.task(task).error_message or "")


def test_retries_wait_longer_each_time_and_then_give_up(lab: Lab) -> None:
    (lab.home / "blocked").write_text("a file where the folder should be")
    study = lab.store_study(HERE, objects=2)
    (task,) = lab.schedule(device=HERE, exporter="Blocked", study_uid=study)

    lab.await_status([task], Status.FAILED)

    failed = lab.task(task)
    assert failed.failures == 3
    assert "blocked" in (failed.error_message or "")
    runs = lab.runs(task)
    assert [run.ending for run in runs] == ["retry", "retry", "failed"]
    pauses = [pause_between(earlier, later) for earlier, later in itertools.pairwise(runs)]
    print(f"pauses {[round(pause.total_seconds(), 2) for pause in pauses]} s, configured 1 s and 2 s")
    assert pauses[0] >= timedelta(seconds=1)
    assert pauses[1] >= timedelta(seconds=2)
    lab.prove()


def test_failed_task_completes_after_its_folder_was_mended_and_it_was_moved(lab: Lab) -> None:
    blocker = lab.home / "blocked"
    blocker.write_text("a file where the folder should be")
    study = lab.store_study(HERE, objects=3)
    (task,) = lab.schedule(device=HERE, exporter="Blocked", study_uid=study)
    lab.await_status([task], Status.FAILED)
    blocker.unlink()

    operations.reschedule_one(task, ANY, Change(devices=(THERE,)), BY)

    lab.await_status([task], Status.COMPLETED)
    assert lab.task(task).device == THERE
    assert len(list((blocker / "export" / study).rglob("*.dcm"))) == 3


def test_paused_queue_starts_nothing_until_it_is_resumed(lab: Lab) -> None:
    lab.ask(lambda session: session.add(Pause(device=HERE, queue="Export", who="operator", why="test")))

    tasks = lab.schedule(3, device=HERE)

    holds_for(lambda: lab.count(ids=tuple(tasks)) == {Status.SCHEDULED: 3}, "they wait", for_s=3)
    elsewhere = lab.schedule(1, device=HERE, exporter="Single")
    lab.await_status(elsewhere, Status.COMPLETED)
    lab.ask(lambda session: session.execute(delete(Pause)) and None)
    lab.await_status(tasks, Status.COMPLETED)


def test_running_task_goes_on_while_its_queue_is_paused(lab: Lab) -> None:
    (task,) = lab.schedule(device=HERE, exporter="Slow")
    lab.await_running(task)

    lab.ask(lambda session: session.add(Pause(device=HERE, queue="", who="operator", why="test")))

    holds_for(lambda: lab.task(task).status is Status.IN_PROCESS, "it runs", for_s=2)
    lab.ask(lambda session: session.execute(delete(Pause)) and None)


def test_task_waits_for_the_processing_window_of_its_queue(lab: Lab) -> None:
    (task,) = lab.schedule(device=HERE, exporter="Nightly")
    holds_for(lambda: lab.task(task).status is Status.SCHEDULED, "it waits", for_s=3)

    lab.configure(ldif.queue("AtNight", dcmSchedule=None))

    lab.await_status([task], Status.COMPLETED)


def test_highest_priority_runs_first_then_the_longest_due(lab: Lab) -> None:
    lab.ask(lambda session: session.add(Pause(device=HERE, queue="OneByOne", who="operator")))
    now = lab.ask(database_time)
    low = lab.schedule(device=HERE, exporter="Single", priority=1, scheduled_time=now - timedelta(hours=2))
    late = lab.schedule(device=HERE, exporter="Single", priority=4, scheduled_time=now - timedelta(minutes=1))
    early = lab.schedule(device=HERE, exporter="Single", priority=4, scheduled_time=now - timedelta(hours=1))
    urgent = lab.schedule(device=HERE, exporter="Single", priority=9)

    lab.ask(lambda session: session.execute(delete(Pause)) and None)

    lab.await_status([*urgent, *early, *late, *low], Status.COMPLETED)
    started = sorted((lab.runs(task)[0].claimed_at, task) for task in (*urgent, *early, *late, *low))
    assert [task for _, task in started] == [*urgent, *early, *late, *low]
