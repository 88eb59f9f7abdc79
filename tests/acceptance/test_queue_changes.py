"""What a queue says is followed by workers that run: pauses, windows, slots, retries and purge, changed at run time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from archive import configuration
from tasks import circumstances
from tasks.state import Status
from tests.lab import ldif
from tests.lab.cluster import Lab, cluster
from tests.lab.waiting import holds_for, wait_until

#: A queue of each test, so that none disturbs another.
QUEUES = ("Paused", "Window", "Slots", "Warned", "Purged")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    queues = [
        ldif.queue(name, "archive-a", dcmMaxTasksParallel="1", dcmMaxRetries="0", dcmRetryDelay="PT1S")
        for name in QUEUES
    ]
    exporters = [ldif.exporter(name, "archive-a", uri="noop:", queue=name) for name in ("Paused", "Window", "Purged")]
    exporters.append(ldif.exporter("Slots", "archive-a", uri="noop:", queue="Slots", duration=600, operations=6000))
    # A study that nobody knows is a warning.
    exporters.append(ldif.exporter("Warned", "archive-a", uri="file:out", queue="Warned"))
    with cluster(*queues, *exporters) as made:
        members = [made.worker("archive-a", concurrency=4), made.worker("archive-a", housekeeping=True)]
        made.beat()
        made.ready(*members)
        yield made


def change(lab: Lab, queue: str, **values: ldif.Values) -> None:
    ldif.apply(lab.home / "config.ldif", [ldif.queue(queue, "archive-a", **values)])


def waits(lab: Lab, exporter: str) -> bool:
    """Tell whether a new task of this exporter is not started."""
    [task_id] = lab.schedule(exporter=exporter)
    try:
        holds_for(lambda: lab.task(task_id).status is Status.SCHEDULED, "the task waits", for_s=2)
    except AssertionError:
        return False
    return True


def runs(lab: Lab, queue: str) -> bool:
    """Tell whether nothing of this queue waits any more."""
    return set(lab.count(queues=(queue,))) == {Status.COMPLETED}


def test_queue_that_is_not_installed_starts_nothing_until_it_is(lab: Lab) -> None:
    lab.await_status(lab.schedule(exporter="Paused"), Status.COMPLETED)

    change(lab, "Paused", dicomInstalled="FALSE")
    wait_until(lambda: waits(lab, "Paused"), "the queue is paused", say=lab.describe)
    change(lab, "Paused", dicomInstalled="TRUE")

    wait_until(lambda: runs(lab, "Paused"), "what waited has run", say=lab.describe)


def test_window_closes_and_opens(lab: Lab) -> None:
    lab.await_status(lab.schedule(exporter="Window"), Status.COMPLETED)
    now = datetime.now(circumstances.zone_of(configuration.current().devices["archive-a"]))
    other_hours = f"hour={(now.hour + 3) % 24}-{(now.hour + 20) % 24}"

    change(lab, "Window", dcmSchedule=other_hours)
    wait_until(lambda: waits(lab, "Window"), "the window is closed", say=lab.describe)
    # Any of several windows suffices.
    change(lab, "Window", dcmSchedule=[other_hours, f"hour={(now.hour + 23) % 24}-{(now.hour + 2) % 24}"])

    wait_until(lambda: runs(lab, "Window"), "what waited has run", say=lab.describe)


def test_more_slots_are_used_and_fewer_are_kept(lab: Lab) -> None:
    task_ids = tuple(lab.schedule(6, exporter="Slots"))

    def running() -> int:
        return lab.count(ids=task_ids).get(Status.IN_PROCESS, 0)

    wait_until(lambda: running() == 1, "one runs", say=lab.describe)
    holds_for(lambda: running() == 1, "no more than one runs", for_s=2)
    change(lab, "Slots", dcmMaxTasksParallel="3")
    wait_until(lambda: running() == 3, "three run", say=lab.describe)
    holds_for(lambda: running() == 3, "no more than three run", for_s=2)


def ended(lab: Lab, exporter: str, failures: int) -> list[timedelta]:
    """Wait for the end of a new task that fails so often; returns the pauses between its attempts."""

    def tried() -> int | None:
        # Until the change is seen it ends at the first failure.
        [task_id] = lab.schedule(exporter=exporter, study_uid="9.9.9")
        wait_until(lambda: lab.task(task_id).status.is_done, "the task is done", say=lab.describe)
        return task_id if lab.task(task_id).failures == failures else None

    task_id = wait_until(tried, f"a task fails {failures} times", say=lab.describe)
    assert task_id is not None
    attempts = lab.runs(task_id)
    assert len(attempts) == failures
    return [
        later.claimed_at - earlier.ended_at
        for earlier, later in pairwise(attempts)
        if later.claimed_at is not None and earlier.ended_at is not None
    ]


def test_warning_is_tried_again_when_the_queue_says_so(lab: Lab) -> None:
    [task_id] = lab.schedule(exporter="Warned", study_uid="9.9.9")
    lab.await_status([task_id], Status.WARNING)
    assert lab.task(task_id).failures == 0

    change(lab, "Warned", dcmRetryOnWarning="TRUE", dcmMaxRetries="1")

    [pause] = ended(lab, "Warned", 2)
    assert pause >= timedelta(seconds=1)


def test_delays_grow_up_to_their_cap(lab: Lab) -> None:
    change(lab, "Warned", dcmRetryOnWarning="TRUE", dcmMaxRetries="3", dcmRetryDelayMultiplier="200",
           dcmMaxRetryDelay="PT3S")  # fmt: skip

    pauses = ended(lab, "Warned", 4)

    assert [pause >= timedelta(seconds=least) for pause, least in zip(pauses, (1, 2, 3), strict=True)] == [True] * 3


def test_each_status_is_purged_after_its_own_delay(lab: Lab) -> None:
    done = lab.schedule(3, exporter="Purged")
    lab.await_status(done, Status.COMPLETED)
    change(lab, "Purged", dcmPurgeQueueMessageCompletedDelay="PT1S", dcmPurgeQueueMessageCanceledDelay="P1D")
    ldif.apply(lab.home / "config.ldif", [ldif.device("archive-a", dcmPurgeQueueMessagePollingInterval="PT1S")])

    wait_until(lambda: not lab.count(queues=("Purged",)), "completed tasks are purged", say=lab.describe)

    assert lab.count(queues=("Window",)), "tasks of queues without a delay stay"
