"""Jobs of other services on the scale that the project promises to stand."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from tasks import intake
from tasks.state import Status
from tests.lab import ldif, other_service
from tests.lab.cluster import Lab, cluster
from tests.lab.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

JOBS = 10_000
CHANGES = (
    ldif.device(arcTaskLease="PT3S"),
    ldif.queue("Export", arcTaskMaxLostLeases="50"),
    ldif.exporter("Noop", uri="noop:", duration=0, operations=1),
)


def made(lab: Lab) -> int:
    return sum(lab.count().values())


def unacknowledged(lab: Lab) -> int:
    """Return how many messages were taken and not acknowledged."""
    with lab.valkey.client() as client:
        return int(client.hlen("arcfleet.intake.unacked"))


def test_ten_thousand_jobs_sent_twice_become_ten_thousand_tasks_while_all_are_killed() -> None:
    """A program that has only Celery sends each job twice; one of two intakes, or a worker, is killed every 5 s."""
    with cluster(*CHANGES) as lab:
        lab.beat()
        takers = [lab.intake(), lab.intake()]
        workers = [lab.worker("archive-a"), lab.worker("archive-a")]
        lab.ready(*takers, *workers)
        began = time.monotonic()
        sender = threading.Thread(target=other_service.send, args=(lab.broker_url, JOBS), kwargs={"times": 2})
        sender.start()

        kills = 0
        while sender.is_alive() or made(lab) < JOBS:
            victim = [*takers, *workers][kills % 4]
            wait_until(lambda one=victim: one.said(" ready."), f"{victim.name} is ready", say=victim.tail)
            victim.kill()
            kills += 1
            victim.start()
            pause_until = time.monotonic() + 5
            wait_until(lambda end=pause_until: time.monotonic() > end, "the next kill")
        sender.join()
        took_s = time.monotonic() - began

        wait_until(lambda: unacknowledged(lab) == 0, "what the killed had taken was given out again", say=lab.describe)
        wait_until(lambda: lab.depth("arcfleet.intake") == 0, "nothing waits any more", timeout_s=300, say=lab.describe)
        wait_until(
            lambda: lab.count().get(Status.COMPLETED, 0) >= JOBS, "all are completed", timeout_s=300, say=lab.describe
        )
        assert lab.count() == {Status.COMPLETED: JOBS}
        answers = lab.ask(
            lambda session: session.execute(
                text("SELECT count(*), count(DISTINCT task_ids->>0), count(refused) FROM accepted_message")
            ).one()
        )
        assert tuple(answers) == (JOBS, JOBS, 0)
        lab.await_idle()
        print(f"{JOBS} jobs sent twice: {made(lab)} tasks, {kills} kills in {took_s:.0f} s")
        print(lab.prove().summary())


def test_message_of_a_killed_intake_comes_again(tmp_path: Path) -> None:
    """Sent once; intake is killed while it holds the message because the database is away."""
    with cluster(*CHANGES) as lab:
        taker = lab.intake()
        taker.await_ready()
        lab.postgres.stop()
        [message_id] = other_service.send(lab.broker_url, 1)
        wait_until(lambda: taker.said("the message waits"), "intake has the message", say=taker.tail)

        taker.kill()
        assert (unacknowledged(lab), lab.depth("arcfleet.intake")) == (1, 0)
        lab.postgres.start()
        taker.start()

        answer = wait_until(lambda: intake.answer_to(message_id), "the message came again", say=taker.tail)
        assert answer.refused is None
