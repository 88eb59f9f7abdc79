"""How many tasks of a queue run at once, and what the broker holds meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tasks import operations, slots
from tasks.query import TaskQuery
from tasks.state import Status
from tests.lab import checker, ldif
from tests.lab.board import BY
from tests.lab.cluster import Lab, cluster
from tests.lab.evidence import read_trace
from tests.lab.waiting import holds_for, wait_until

PARALLEL = 4


@pytest.fixture
def lab() -> Iterator[Lab]:
    with cluster(
        ldif.queue("Export", dcmMaxTasksParallel=str(PARALLEL)),
        ldif.exporter("Noop", uri="noop:", duration=0.05, operations=2),
        ldif.exporter("Slow", uri="noop:", duration=60, operations=600),
    ) as made:
        yield made


def at_work(marks: list[checker.Mark]) -> int:
    """Return how many runs at most were in a sub-operation at once, by what the processes say."""
    most, working = 0, set()
    for mark in marks:
        if mark.what == "begin":
            working.add(mark.run_id)
        else:
            working.discard(mark.run_id)
        most = max(most, len(working))
    return most


def unclaimed(lab: Lab) -> int:
    """Return how many messages were sent whose runs no worker has begun yet."""
    return lab.ask(lambda session: sum(1 for run in slots.open_runs(session) if run.claimed_ago_s is None))


def test_three_workers_run_no_more_than_the_queue_allows(lab: Lab) -> None:
    task_ids = lab.schedule(200)
    for _ in range(3):
        lab.worker("archive-a")
    lab.beat()
    running, waiting = [], []

    def sampled() -> bool:
        running.append(lab.count(ids=tuple(task_ids)).get(Status.IN_PROCESS, 0))
        waiting.append(lab.depth("archive-a"))
        return lab.count(ids=tuple(task_ids)).get(Status.COMPLETED, 0) == len(task_ids)

    wait_until(sampled, "all tasks are COMPLETED", say=lab.describe)

    assert max(running) <= PARALLEL
    # Of 200 tasks a few: those that may run, sent again after 10 s where a busy machine is slow to claim them.
    assert max(waiting) <= 4 * PARALLEL
    assert at_work(read_trace(lab.trace_file)) == PARALLEL
    print(f"{lab.prove().summary()}; {len(running)} samples, at most {max(running)} ran and {max(waiting)} waited")


def test_broker_holds_nothing_for_a_device_that_never_had_a_worker(lab: Lab) -> None:
    lab.beat()
    lab.schedule(200)

    holds_for(lambda: lab.depth("archive-a") == 0, "the channel is empty", for_s=3)


def test_broker_holds_few_messages_after_the_last_worker_died(lab: Lab) -> None:
    worker = lab.worker("archive-a")
    lab.beat()
    lab.ready(worker)
    worker.kill()
    lab.schedule(200)
    wait_until(lambda: lab.depth("archive-a") == PARALLEL, "messages are sent to the dead worker")

    # Longer than reservations wait for a claim, and than the worker is taken for alive.
    holds_for(lambda: lab.depth("archive-a") <= 2 * PARALLEL, "the channel holds few messages", for_s=22)


def test_canceled_tasks_leave_few_messages_behind(lab: Lab) -> None:
    worker = lab.worker("archive-a")
    lab.beat()
    lab.ready(worker)
    lab.schedule(PARALLEL, exporter="Slow")
    wait_until(lambda: lab.count().get(Status.IN_PROCESS, 0) == 2, "all its processes are busy")
    deepest = 0

    for _ in range(20):
        lab.schedule(20)
        wait_until(lambda: unclaimed(lab) == 2 or lab.depth("archive-a") >= PARALLEL, "messages are sent")
        waiting = TaskQuery(statuses=(Status.SCHEDULED, Status.SCHEDULED_FOR_RETRY))
        operations.cancel(waiting, BY)
        deepest = max(deepest, lab.depth("archive-a"))

    print(f"after 20 times 20 canceled tasks the channel held at most {deepest} messages")
    assert deepest <= 2 * PARALLEL
    holds_for(lambda: lab.depth("archive-a") <= 2 * PARALLEL, "the channel holds few messages", for_s=2)


def test_backlog_costs_no_memory_of_the_broker(lab: Lab) -> None:
    worker = lab.worker("archive-a")
    lab.beat()
    lab.ready(worker)
    first = lab.schedule(8)
    lab.await_status(first, Status.COMPLETED)
    before = lab.broker_bytes()

    slow = lab.schedule(8, exporter="Slow")
    lab.multiply(slow[-1], 100_000)
    wait_until(lambda: lab.count().get(Status.IN_PROCESS, 0) == 2, "the worker is busy")
    lab.schedule()  # wakes the dispatcher once more, with all that waiting
    grown = lab.broker_bytes() - before

    print(f"Valkey grew by {grown:,} bytes for 100,000 waiting tasks, channel {lab.depth('archive-a')} messages")
    assert grown < 5_000_000
    assert lab.depth("archive-a") <= 2 * PARALLEL
