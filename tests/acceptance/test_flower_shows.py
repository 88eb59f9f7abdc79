"""What Flower shows of the cluster, how much of it, and what it does while a server is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tasks.state import Status
from tests.lab.cluster import Lab, cluster
from tests.lab.console import Console
from tests.lab.member import Member
from tests.lab.waiting import wait_until
from workers.app import make_app

STUDY = "1.2.840.113619.2.290.3.16777989.12.1543891021.467"

MOST_RUNS = 20_000
MOST_BYTES = 250_000_000


@pytest.fixture
def lab() -> Iterator[Lab]:
    with cluster() as made:
        yield made


def memory(member: Member) -> int:
    """Return the resident memory of a process in bytes."""
    lines = Path(f"/proc/{member.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) * 1024


def known(console: Console) -> int:
    """Return how many runs Flower remembers."""
    query = "draw=1&start=0&length=1&order[0][column]=0&columns[0][data]=received&order[0][dir]=desc"
    found = console.get(f"/tasks/datatable?{query}").json()
    assert len(found["data"]) <= 1
    return int(found["recordsTotal"])


def test_runs_of_both_devices_are_shown_with_device_and_study(lab: Lab) -> None:
    _, url = lab.flower()
    workers = [lab.worker(device) for device in ("archive-a", "archive-b")]
    lab.ready(*workers)
    with Console(url) as console:
        names = [console.await_worker(lab.node_name(worker)) for worker in workers]

        for device, name in zip(("archive-a", "archive-b"), names, strict=True):
            [task_id] = lab.schedule(device=device, study_uid=STUDY)
            lab.await_status([task_id], Status.COMPLETED)
            [run] = lab.runs(task_id)
            shown = console.await_run(f"{task_id}.{run.id}", "SUCCESS")
            assert shown["name"] == "run.export"
            assert shown["args"] == f"task {task_id}, {device}, study {STUDY}"
            assert shown["worker"] == name

        for page in ("/", f"/worker/{names[0]}", "/tasks", "/broker", f"/task/{task_id}.{run.id}"):
            answer = console.get(page)
            assert answer.status_code == 200, page
            assert 'href="/archive"' in answer.text, page


def test_it_remembers_so_many_runs_and_stays_small(lab: Lab) -> None:
    member, url = lab.flower()
    app = make_app()
    with Console(url) as console, app.connection() as connection:
        worker = app.events.Dispatcher(connection, hostname="archive-a.1@host", buffer_group={"task"}, buffer_limit=200)
        worker.send("worker-online")
        wait_until(
            lambda: "archive-a.1@host" in console.get("/?json=true").text or worker.send("worker-heartbeat"),
            "it hears events",
        )

        for number in range(MOST_RUNS + 1000):
            told = {
                "uuid": f"{number}.{number}",
                "name": "run.export",
                "args": f"task {number}, archive-a, study {STUDY}",
            }
            worker.send("task-received", **told, kwargs="", retries=0, eta=None, expires=None)
            worker.send("task-started", uuid=told["uuid"])
            worker.send("task-succeeded", uuid=told["uuid"], result="None", runtime=0.25)
        worker.flush()
        wait_until(
            lambda: known(console) == MOST_RUNS, "it remembers as many as it may", say=lambda: str(known(console))
        )
        console.await_run(f"{MOST_RUNS + 999}.{MOST_RUNS + 999}", "SUCCESS")

    print(f"Flower with {MOST_RUNS} runs: {memory(member) / 1e6:.0f} MB")
    assert memory(member) < MOST_BYTES


def test_it_hears_again_after_the_broker_was_away(lab: Lab) -> None:
    member, url = lab.flower()
    worker = lab.worker("archive-a")
    lab.ready(worker)
    with Console(url) as console:
        name = console.await_worker(lab.node_name(worker))
        lab.valkey.stop()
        wait_until(lambda: member.said("no events are heard"), "Flower misses the broker", say=member.tail)

        assert console.get("/archive/tasks").status_code == 200
        assert console.get("/health/ready").status_code == 200

        lab.valkey.start()
        wait_until(lambda: member.said("is back, events are heard"), "Flower hears the broker", say=member.tail)
        wait_until(lambda: make_app().control.ping([name]), "its worker hears the broker", say=worker.tail)
        with Console(url) as program:
            assert program.post(f"/api/worker/pool/shrink/{name}", {"n": "1"}).status_code == 200
        [task_id] = lab.schedule()
        lab.await_status([task_id], Status.COMPLETED)
        console.await_run(f"{task_id}.{lab.runs(task_id)[0].id}", "SUCCESS")


def test_it_says_so_while_the_database_is_away(lab: Lab) -> None:
    _, url = lab.flower()
    with Console(url) as console:
        assert console.get("/health/ready").status_code == 200
        lab.postgres.stop()

        page = console.get("/archive/tasks")

        assert page.status_code == 503
        assert "the database does not answer" in page.text
        assert console.get("/health/ready").status_code == 503
        assert console.get("/health/live").status_code == 200
        assert console.get("/healthcheck").status_code == 200

        lab.postgres.start()
        wait_until(lambda: console.get("/archive/tasks").status_code == 200, "the page is back")


def test_sigterm_ends_it_with_watchers(lab: Lab) -> None:
    member, url = lab.flower()
    with httpx.stream("GET", f"{url}/archive/live", trust_env=False) as stream:
        assert next(stream.iter_lines()).startswith("retry:")

        assert member.stop() == 0
