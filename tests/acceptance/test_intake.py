"""`arcfleet intake` as another service sees it: it has the URL of the broker, and nothing else of ours."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Connection

from tasks import intake
from tasks.state import Status
from tests.lab import ldif, other_service, rabbitmq
from tests.lab.cluster import Lab
from tests.lab.member import Member
from tests.lab.waiting import wait_until
from workers.queues import INTAKE

CHANGES = (
    ldif.device(arcTaskLease="PT3S"),
    ldif.queue("Export", arcTaskMaxLostLeases="50"),
    ldif.exporter("Noop", uri="noop:", duration=0.01, operations=2),
)
JOB = {"version": 1, "requester": "ris", "aet": "ARCHIVE_A", "exporterID": "Noop", "studyInstanceUID": "1.2.3"}
PAGE = Path(__file__).parents[2] / "docs" / "jobs.md"


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="arcfleet-lab-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def rabbit() -> Iterator[rabbitmq.RabbitMQ]:
    """One for all tests of this file: it takes long to start."""
    with tempfile.TemporaryDirectory(prefix="arcfleet-rabbit-") as name, rabbitmq.running(Path(name)) as broker:
        yield broker


@pytest.fixture(params=["valkey", "rabbitmq"])
def lab(request: pytest.FixtureRequest, folder: Path) -> Iterator[Lab]:
    """A cluster without processes, once with each broker."""
    url = None
    if request.param == "rabbitmq":
        rabbit = request.getfixturevalue("rabbit")
        rabbit.forget(INTAKE, "archive-a")
        url = rabbit.url
    with Lab(folder / "lab", CHANGES, broker_url=url) as made:
        yield made


def answered(message_ids: list[str], who: Member) -> None:
    for message_id in message_ids:
        wait_until(lambda one=message_id: intake.answer_to(one), f"{message_id} is answered", say=who.tail)


def put(lab: Lab, body: object, headers: dict[str, Any], **options: Any) -> None:
    """Send any message to the channel."""
    with Connection(lab.broker_url) as connection:
        queue = connection.SimpleQueue("arcfleet.intake")
        queue.put(body, headers=headers, **{"serializer": "json", **options})
        queue.close()


def test_jobs_sent_twice_become_one_task_each_while_intake_and_workers_are_killed(lab: Lab) -> None:
    """500 jobs, each sent twice; intake and a worker are killed three times while they are taken."""
    lab.beat()
    worker, taker = lab.worker("archive-a"), lab.intake()
    lab.ready(worker, taker)

    other_service.send(lab.broker_url, 500, times=2)
    for share in (100, 200, 300):
        wait_until(lambda least=share: sum(lab.count().values()) >= least, f"{share} tasks are made", say=lab.describe)
        for victim in (taker, worker):
            victim.kill()
            victim.start()

    wait_until(lambda: lab.count().get(Status.COMPLETED, 0) >= 500, "500 tasks are completed", say=lab.describe)
    answered([f"job-{number}" for number in range(500)], taker)
    assert lab.count() == {Status.COMPLETED: 500}
    tasks = [intake.answer_to(f"job-{number}") for number in range(500)]
    assert len({task_id for one in tasks if one is not None for task_id in one.task_ids}) == 500
    lab.await_idle()
    print(lab.prove().summary())


def test_examples_of_the_page_make_a_task(lab: Lab) -> None:
    taker = lab.intake()
    taker.await_ready()
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    examples = [example for example in found if "BROKER_URL" in example]
    assert len(examples) == 2

    ids = [other_service.run(example, lab.broker_url).strip() for example in examples]

    answered(ids, taker)
    made = [intake.answer_to(message_id) for message_id in ids]
    assert [one.refused for one in made if one is not None] == [None, None]
    studies = {lab.task(one.task_ids[0]).study_uid for one in made if one is not None}
    assert studies == {"1.2.840.113619.2.1", "1.2.840.113619.2.2"}


#: What is sent besides jobs, and what is said of it: body, headers, options, reason.
ODD: dict[str, tuple[object, dict[str, Any], dict[str, Any], str]] = {
    "positional": ([["1.2.3"], {}, {}], {}, {}, "schedule.export: expected keyword arguments only"),
    "nothing": ([[], {}, {}], {}, {}, "version is missing"),
    "unknown-key": ([[], {**JOB, "x": 1}, {}], {}, {}, "x is unknown"),
    "unknown-task": ([[], JOB, {}], {"task": "schedule.everything"}, {}, "unknown task 'schedule.everything'"),
    "not-for-others": ([[1, 1, 1, "t"], {}, {}], {"task": "run.export"}, {}, "unknown task 'run.export'"),
    "housekeeping": ([[], {}, {}], {"task": "housekeeping.run"}, {}, "unknown task 'housekeeping.run'"),
    "later": ([[], JOB, {}], {"eta": "2031-01-01T00:00:00+00:00"}, {}, "expected scheduledTime in the message"),
    "expiring": ([[], JOB, {}], {"expires": "2021-01-01T00:00:00+00:00"}, {}, "expires is not obeyed here"),
    "chained": ([[], JOB, {"chain": [{"task": "run.export"}]}], {}, {}, "chains and chords are not obeyed here"),
    "object": ({"args": [], "kwargs": JOB}, {}, {}, "expected a body of arguments"),
    "number": (5, {}, {}, "expected a body of arguments"),
    "list": ([JOB], {}, {}, "expected a body of arguments"),
    "no-json": (
        b"{", {}, {"serializer": None, "content_type": "application/json", "content_encoding": "utf-8"}, "unreadable",
    ),
    "no-compression": (b"{", {"compression": "application/x-gzip"}, {}, "unreadable"),
    "pickle": ("x", {}, {"serializer": "pickle"}, "unreadable"),
}  # fmt: skip


def test_what_is_no_job_is_refused_and_holds_nothing_up(lab: Lab) -> None:
    taker = lab.intake()
    taker.await_ready()

    put(lab, [[], JOB, {}], {"task": "schedule.export"})  # no id: only a line in the log
    put(lab, "garbage", {})
    for message_id, (body, headers, options, _) in ODD.items():
        put(lab, body, {"task": "schedule.export", "id": message_id, **headers}, **options)
    put(lab, [[], JOB, {}], {"task": "schedule.export", "id": "good"})

    answered([*ODD, "good"], taker)
    for message_id, (*_, reason) in ODD.items():
        found = intake.answer_to(message_id)
        assert found is not None
        assert found.refused is not None, message_id
        assert reason in found.refused, f"{message_id}: {found.refused}"
    assert lab.count() == {Status.SCHEDULED: 1}
    assert taker.log_since_start().count("message id None: expected 1 to 255") == 2


def test_revoked_message_is_told_as_refused(lab: Lab) -> None:
    taker = lab.intake()
    taker.await_ready()

    Celery(broker=lab.broker_url).control.revoke("unwanted")
    wait_until(lambda: taker.said("flagged as revoked"), "intake has heard of it", say=taker.tail)
    put(lab, [[], JOB, {}], {"task": "schedule.export", "id": "unwanted"})

    answered(["unwanted"], taker)
    found = intake.answer_to("unwanted")
    assert found is not None
    assert found.refused == "revoked by an operator before it was taken"


def test_database_outage_refuses_nothing(lab: Lab) -> None:
    taker = lab.intake()
    taker.await_ready()
    answered(other_service.send(lab.broker_url, 1), taker)

    lab.postgres.stop()
    ids = other_service.send(lab.broker_url, 20, first=1)
    wait_until(lambda: taker.said("the message waits"), "intake met the outage", say=taker.tail)
    lab.postgres.start()

    answered(ids, taker)
    assert lab.count() == {Status.SCHEDULED: 21}


def test_intake_that_stops_in_an_outage_gives_its_message_back(lab: Lab) -> None:
    taker = lab.intake()
    taker.await_ready()
    answered(other_service.send(lab.broker_url, 1), taker)
    lab.postgres.stop()
    ids = other_service.send(lab.broker_url, 3, first=1)
    wait_until(lambda: taker.said("the message waits"), "intake met the outage", say=taker.tail)

    assert taker.stop() == 0
    lab.postgres.start()
    taker.start()

    answered(ids, taker)
    assert lab.count() == {Status.SCHEDULED: 4}


def test_intake_begins_anew_when_the_broker_was_away(folder: Path) -> None:
    with Lab(folder / "lab", CHANGES) as lab:
        taker = lab.intake()
        taker.await_ready()
        pid = taker.pid
        for number in range(3):
            lab.restart_broker()
            answered(other_service.send(lab.broker_url, 5, first=5 * number), taker)

        assert (taker.pid, taker.is_running) == (pid, True)
        assert lab.count() == {Status.SCHEDULED: 15}
