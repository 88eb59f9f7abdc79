"""Flower's own actions stay true: the row is CANCELED, the transfer stops, nothing runs again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import select

from archive.accounts import AuditEntry
from tasks import operations
from tasks.moving import Change
from tasks.query import TaskQuery
from tasks.run import Ending, Run
from tasks.state import Status
from tests.lab import ldif
from tests.lab.cluster import BY, Lab, cluster
from tests.lab.console import Console
from tests.lab.member import Member
from tests.lab.waiting import holds_for, wait_until

#: A run that would go on for five minutes unless it is stopped.
LONG = ldif.exporter("Long", uri="noop:", duration=300)
#: A dead worker's run is lost soon.
SHORT_LEASE = ldif.device(arcTaskLease="PT3S")

BOTH = pytest.mark.parametrize("form", [{}, {"terminate": "true"}], ids=["revoke", "terminate"])


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with cluster(LONG, SHORT_LEASE) as made:
        made.ready(made.worker("archive-a"))
        made.beat()
        yield made


@pytest.fixture(scope="module")
def console(lab: Lab) -> Iterator[Console]:
    _, url = lab.flower()
    with Console(url) as made:
        yield made


@pytest.fixture
def worker(lab: Lab) -> Iterator[Member]:
    """The worker of archive-a; a new one follows if the test has ended it."""
    [started] = workers(lab)
    yield started
    if not workers(lab):
        lab.ready(lab.worker("archive-a"))


def workers(lab: Lab) -> list[Member]:
    return [one for one in lab.members if one.name.startswith("worker-archive-a") and one.is_running]


def audited(lab: Lab, action: str) -> list[AuditEntry]:
    query = select(AuditEntry).where(AuditEntry.action == action).order_by(AuditEntry.id)
    return lab.ask(lambda session: list(session.scalars(query)))


def see_that_it_stays_canceled(lab: Lab, task_id: int, runs: int) -> None:
    """See that nothing of the task runs, and that beat and sweeps do not begin it again."""
    begun = len(lab.begins(task_id))
    assert [run.ended_at for run in lab.runs(task_id) if run.ended_at is None] == []
    holds_for(
        lambda: lab.task(task_id).status is Status.CANCELED and len(lab.runs(task_id)) == runs,
        "the task stays canceled",
        for_s=4,
    )
    assert len(lab.begins(task_id)) == begun, "the transfer goes on"


@BOTH
def test_active_run_is_canceled_and_stops(lab: Lab, console: Console, worker: Member, form: dict[str, str]) -> None:
    [task_id] = lab.schedule(exporter="Long")
    run = lab.await_running(task_id)
    console.await_run(f"{task_id}.{run.id}", "STARTED")

    answer = console.revoke(f"{task_id}.{run.id}", **form)

    assert answer.status_code == 200
    assert f"Task {task_id} is CANCELED" in answer.json()["message"]
    assert lab.task(task_id).status is Status.CANCELED
    assert lab.await_end(run).ending == Ending.STOPPED
    see_that_it_stays_canceled(lab, task_id, runs=1)
    assert audited(lab, "RevokeTask")[-1].what == str(task_id)
    assert audited(lab, "RevokeTask")[-1].outcome is None


@BOTH
def test_run_whose_process_hangs_is_canceled_and_its_process_ended(
    lab: Lab, console: Console, worker: Member, form: dict[str, str]
) -> None:
    [task_id] = lab.schedule(exporter="Long")
    run = lab.await_running(task_id)
    process = lab.process_of(run.id)
    assert process in worker.pool()
    worker.freeze_one(process)

    console.revoke(f"{task_id}.{run.id}", **form).raise_for_status()

    assert lab.task(task_id).status is Status.CANCELED
    assert lab.await_end(run).ending == Ending.STOPPED
    wait_until(lambda: process not in worker.pool(), "its process is gone")
    see_that_it_stays_canceled(lab, task_id, runs=1)


def test_terminate_helps_after_a_revoke_that_did_not_yet(lab: Lab, console: Console, worker: Member) -> None:
    [task_id] = lab.schedule(exporter="Long")
    run = lab.await_running(task_id)
    process = lab.process_of(run.id)
    assert process is not None
    worker.freeze_one(process)
    console.revoke(f"{task_id}.{run.id}").raise_for_status()

    answer = console.revoke(f"{task_id}.{run.id}", terminate="true", signal="SIGKILL")

    assert answer.status_code == 200
    assert "still ends, its process is ended" in answer.json()["message"]
    lab.await_end(run)
    assert lab.task(task_id).status is Status.CANCELED


@BOTH
def test_run_that_nobody_has_claimed_is_canceled_and_never_begins(
    lab: Lab, console: Console, worker: Member, form: dict[str, str]
) -> None:
    worker.freeze()
    [task_id] = lab.schedule(exporter="Long")
    [run] = wait_until(lambda: lab.runs(task_id), "a run is reserved")

    console.revoke(f"{task_id}.{run.id}", **form).raise_for_status()

    assert lab.task(task_id).status is Status.CANCELED
    worker.thaw()
    [next_one] = lab.schedule()
    lab.await_status([next_one], Status.COMPLETED)
    see_that_it_stays_canceled(lab, task_id, runs=1)
    assert lab.begins(task_id) == []


@BOTH
def test_run_of_a_dead_worker_is_canceled_and_ended_by_rescue(
    lab: Lab, console: Console, worker: Member, form: dict[str, str]
) -> None:
    [task_id] = lab.schedule(exporter="Long")
    run = lab.await_running(task_id)
    worker.kill()

    console.revoke(f"{task_id}.{run.id}", **form).raise_for_status()

    assert lab.task(task_id).status is Status.CANCELED
    lab.await_end(run)
    lab.ready(lab.worker("archive-a"))
    see_that_it_stays_canceled(lab, task_id, runs=1)


def test_run_that_was_rescued_before_is_revoked_with_its_task(lab: Lab, console: Console, worker: Member) -> None:
    [task_id] = lab.schedule(exporter="Long")
    lost = lab.await_running(task_id)
    worker.kill()
    assert lab.await_end(lost).ending == Ending.LOST

    console.revoke(f"{task_id}.{lost.id}").raise_for_status()

    assert lab.task(task_id).status is Status.CANCELED
    lab.ready(lab.worker("archive-a"))
    see_that_it_stays_canceled(lab, task_id, runs=len(lab.runs(task_id)))


def test_run_that_was_rescheduled_since_leaves_the_new_one_alone(lab: Lab, console: Console, worker: Member) -> None:
    [task_id] = lab.schedule(exporter="Long")
    old = lab.await_running(task_id)
    operations.reschedule_one(task_id, TaskQuery(), Change(), BY)
    new = lab.await_running(task_id, after=old)

    answer = console.revoke(f"{task_id}.{old.id}")

    assert answer.status_code == 409
    assert "was rescheduled since" in answer.text
    assert lab.task(task_id).status is Status.IN_PROCESS
    console.revoke(f"{task_id}.{new.id}").raise_for_status()
    lab.await_end(new)


def test_run_of_a_task_that_is_done_is_a_conflict(lab: Lab, console: Console, worker: Member) -> None:
    [task_id] = lab.schedule()
    lab.await_status([task_id], Status.COMPLETED)
    [run] = lab.runs(task_id)

    answer = console.revoke(f"{task_id}.{run.id}", terminate="true")

    assert answer.status_code == 409
    assert answer.text == "Cannot cancel Task with status: COMPLETED"
    assert console.revoke("999999.1").status_code == 404


def test_abort_is_a_revoke(lab: Lab, console: Console, worker: Member) -> None:
    [task_id] = lab.schedule(exporter="Long")
    run = lab.await_running(task_id)

    assert console.post(f"/api/task/abort/{task_id}.{run.id}").status_code == 200

    assert lab.task(task_id).status is Status.CANCELED
    lab.await_end(run)


def test_revoke_works_while_the_broker_is_away(lab: Lab, console: Console, worker: Member) -> None:
    [task_id] = lab.schedule(exporter="Long")
    run = lab.await_running(task_id)
    lab.valkey.stop()
    try:
        answer = console.revoke(f"{task_id}.{run.id}", terminate="true")
    finally:
        lab.valkey.start()

    assert answer.status_code == 200
    assert "its worker was not told" in answer.json()["message"]
    assert lab.task(task_id).status is Status.CANCELED
    lab.await_end(run)


def test_pool_grows_and_it_is_audited(lab: Lab, console: Console, worker: Member) -> None:
    name = console.await_worker(lab.node_name(worker))

    # Flower waits for the worker's answer for a second; a worker that is busy starting a process needs longer.
    wait_until(lambda: console.post(f"/api/worker/pool/grow/{name}", {"n": "1"}).status_code == 200, "its pool grows")

    entry = audited(lab, "WorkerPoolGrow")[-1]
    assert (entry.user, entry.outcome) == ("local", None)
    assert entry.what == f"/api/worker/pool/grow/{name}?n=1"


def test_what_fails_is_audited_as_failed(lab: Lab, console: Console) -> None:
    answer = console.post("/api/worker/pool/shrink/nobody@nowhere", {"n": "1"})

    assert answer.status_code == 404
    [entry] = audited(lab, "WorkerPoolShrink")
    assert entry.outcome == "HTTP 404: Unknown worker 'nobody@nowhere'"


def test_worker_that_is_shut_down_hands_its_task_back(lab: Lab, console: Console, worker: Member) -> None:
    [task_id] = lab.schedule(exporter="Long")
    run = lab.await_running(task_id)
    name = console.await_worker(lab.node_name(worker))

    assert console.post(f"/api/worker/shutdown/{name}").status_code == 200

    wait_until(lambda: not worker.is_running, "the worker has ended", say=worker.tail)
    assert lab.await_end(run).ending == Ending.GIVEN_BACK
    assert lab.task(task_id).status is Status.SCHEDULED
    assert len(audited(lab, "WorkerShutDown")) == 1
    operations.cancel_one(task_id, TaskQuery(), BY)


@pytest.mark.parametrize(
    "path",
    [
        "/api/task/apply/run.export",
        "/api/task/async-apply/run.export",
        "/api/task/send-task/run.export",
        "/api/task/rate-limit/run.export",
        "/api/worker/queue/add-consumer/archive-a.1@host",
        "/api/worker/queue/cancel-consumer/archive-a.1@host",
    ],
)
def test_what_would_not_be_true_is_refused_with_what_to_do_instead(console: Console, path: str) -> None:
    answer = console.post(path)

    assert answer.status_code == 403
    assert ": not done, " in answer.text
    assert "\n" not in answer.text


def test_nothing_went_wrong_in_all_of_this(lab: Lab) -> None:
    operations.cancel(TaskQuery(statuses=(Status.SCHEDULED, Status.IN_PROCESS)), BY)
    lab.await_idle()

    lab.prove()
    assert lab.ask(lambda session: session.scalars(select(Run).where(Run.ended_at.is_(None))).all()) == []
