"""Workers and beats that die, hang, or are asked to end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tasks.control import Leader
from tasks.run import Run
from tasks.state import Status
from tests.lab import ldif
from tests.lab.cluster import Lab, cluster
from tests.lab.member import Member
from tests.lab.waiting import wait_until

HERE = "archive-a"
#: A lease so long that nothing can be rescued by it within a test.
PATIENT = "archive-b"


@pytest.fixture
def lab() -> Iterator[Lab]:
    with cluster(
        ldif.device(HERE, arcTaskLease="PT3S"),
        ldif.device(PATIENT, arcTaskLease="PT10M"),
        ldif.queue("Export", arcTaskMaxLostLeases="3"),
        ldif.exporter("Noop", uri="noop:", duration=0.02, operations=2),
        ldif.exporter("Long", uri="noop:", duration=4, operations=400),
        ldif.exporter("Endless", uri="noop:", duration=600, operations=60_000),
    ) as made:
        yield made


def worker_of(lab: Lab, run: Run) -> Member:
    return next(m for m in lab.members if m.name.startswith("worker") and lab.node_id(m) == run.node_id)


def test_run_of_a_killed_worker_is_rescued_and_completed_once_elsewhere(lab: Lab) -> None:
    lab.beat()
    lab.ready(lab.worker(HERE), lab.worker(HERE))
    (task,) = lab.schedule(exporter="Long")
    first = lab.await_running(task)

    worker_of(lab, first).kill()

    lab.await_status([task], Status.COMPLETED)
    assert [run.ending for run in lab.runs(task)] == ["lost", "completed"]
    assert lab.task(task).failures == 0
    lab.prove()


def test_pool_of_a_worker_whose_main_process_was_killed_ends_with_it(lab: Lab) -> None:
    lab.beat()
    lab.ready(lab.worker(HERE), lab.worker(HERE))
    (task,) = lab.schedule(exporter="Long")
    first = lab.await_running(task)
    victim, process = worker_of(lab, first), lab.process_of(first.id)
    assert process in victim.pool()

    victim.kill_main()

    lab.await_status([task], Status.COMPLETED)
    assert [run.ending for run in lab.runs(task)] == ["lost", "completed"]
    lab.prove()


def test_late_report_of_a_worker_that_was_frozen_beyond_its_lease_changes_nothing(lab: Lab) -> None:
    lab.beat()
    lab.ready(lab.worker(HERE), lab.worker(HERE))
    (task,) = lab.schedule(exporter="Long")
    first = lab.await_running(task)
    frozen = worker_of(lab, first)

    frozen.freeze()
    lab.await_status([task], Status.COMPLETED)
    before = lab.task(task)
    frozen.thaw()

    wait_until(lambda: f"run={first.id} " in frozen.log_since_start(), "the late run has reported", say=frozen.tail)
    assert lab.task(task) == before
    assert [run.ending for run in lab.runs(task)] == ["lost", "completed"]
    lab.await_status(lab.schedule(20), Status.COMPLETED)  # the woken worker works on
    lab.prove()


def test_worker_that_is_asked_to_end_gives_its_tasks_back_at_once(lab: Lab) -> None:
    lab.ready(lab.worker(PATIENT))
    waiting, lost = lab.schedule(2, device=PATIENT, exporter="Endless")
    run = lab.await_running(lost)
    lab.await_running(waiting)
    os.kill(lab.process_of(run.id) or 0, signal.SIGKILL)
    lab.await_running(lost, after=run)
    (worker,) = lab.members

    assert worker.stop() == 0

    ended = {task: (lab.task(task).status, lab.task(task).failures) for task in (waiting, lost)}
    assert ended == {waiting: (Status.SCHEDULED, 0), lost: (Status.SCHEDULED_FOR_RETRY, 0)}
    # What was given back is sent again at once, for whoever comes next: those runs are not claimed.
    assert [run.ending for run in lab.runs(waiting) if run.claimed_at] == ["given back"]
    assert [run.ending for run in lab.runs(lost) if run.claimed_at] == ["lost", "given back"]
    lab.prove(all_done=False)


def test_task_that_kills_its_process_is_given_up_when_its_budget_is_spent(lab: Lab) -> None:
    lab.ready(lab.worker(PATIENT))
    (task,) = lab.schedule(device=PATIENT, exporter="Endless")
    run = None
    for _ in range(3):
        run = lab.await_running(task, after=run)
        os.kill(lab.process_of(run.id) or 0, signal.SIGKILL)

    lab.await_status([task], Status.FAILED)

    failed = lab.task(task)
    assert failed.error_message == "its process died; lost 3 times in a row, at most 3"
    assert (failed.lost_leases, failed.failures) == (3, 0)
    assert [run.ending for run in lab.runs(task)] == ["lost", "lost", "failed"]
    lab.await_status(lab.schedule(20, device=PATIENT), Status.COMPLETED)  # the worker has new processes
    lab.prove()


def test_one_of_two_beats_leads_and_the_other_follows_when_it_is_killed(lab: Lab) -> None:
    lab.ready(lab.worker(HERE))
    beats = [lab.beat(), lab.beat()]
    wait_until(lambda: lab.ask(lambda session: session.get(Leader, "beat")), "one leads")
    wait_until(lambda: all(beat.said("beat: Starting") for beat in beats), "both have started")
    (leader,) = [beat for beat in beats if beat.said("leads beat=")]
    (other,) = [beat for beat in beats if beat is not leader]

    leader.kill()

    wait_until(lambda: other.said("leads beat="), "the other one leads", say=other.tail)
    lab.flush_broker()
    (task,) = lab.schedule(exporter="Long")
    first = lab.await_running(task)
    worker_of(lab, first).kill()
    lab.ready(lab.worker(HERE))
    lab.await_status([task], Status.COMPLETED)  # rescued by the new leader
    lab.prove()


def test_beat_that_was_frozen_does_not_lead_beside_its_successor(lab: Lab) -> None:
    first = lab.beat()
    wait_until(lambda: first.said("leads beat="), "it leads", say=first.tail)
    second = lab.beat()
    wait_until(lambda: second.said("beat: Starting"), "the second one has started")

    first.freeze()
    wait_until(lambda: second.said("leads beat="), "the second one leads", say=second.tail)
    first.thaw()

    wait_until(lambda: first.said("does not lead"), "the first one follows", say=first.tail)
    assert not second.said("does not lead")


def test_worker_without_beat_runs_and_sends_what_is_scheduled(lab: Lab) -> None:
    lab.ready(lab.worker(HERE))

    tasks = lab.schedule(30)

    lab.await_status(tasks, Status.COMPLETED)
    lab.prove()
