"""`arcfleet health`, which containers and supervisors ask: true while a process works, and not longer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from tests.lab import ldif
from tests.lab.cluster import Lab, cluster
from tests.lab.waiting import wait_until

#: A node that was killed counts as alive for 15 s; the test does not wait for that.
_UNSEEN = text("UPDATE worker_node SET seen_at = seen_at - interval '1 min'")


@pytest.fixture
def lab() -> Iterator[Lab]:
    with cluster() as made:
        yield made


def health(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "api.cli.main", "health", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | variables)


def test_health_of_each_process_follows_it(lab: Lab) -> None:
    checks = {
        "worker": ("worker", "--device", "archive-a"), "intake": ("intake",), "beat": ("beat",), "api": ("api",),
    }  # fmt: skip
    api, base = lab.api()
    port = {"ARCFLEET_API_PORT": base.split(":")[2].partition("/")[0]}
    members = [lab.worker("archive-a"), lab.worker("archive-a", housekeeping=True), lab.intake(), lab.beat(), api]

    for name, arguments in checks.items():
        wait_until(lambda asked=arguments: health(*asked, **port).returncode == 0, f"{name} is well", say=lab.describe)
    for member in members:
        member.stop()

    for name, arguments in checks.items():
        done = health(*arguments, **port)
        assert done.returncode == 1, name
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_worker_without_its_housekeeping_is_not_well(lab: Lab) -> None:
    lab.ready(lab.worker("archive-a"))

    done = health("worker", "--device", "archive-a")

    assert done.returncode == 1
    assert "no node of archive-a.housekeeping on " in done.stderr


def test_intake_that_was_killed_is_not_well_soon(lab: Lab) -> None:
    taker = lab.intake()
    taker.await_ready()
    taker.kill()
    lab.ask(lambda session: session.execute(_UNSEEN) and None)

    assert health("intake").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(("worker",), "worker: expected --device with it"), (("beat", "--device", "archive-a"), "no --device with it")],
)
def test_wrong_question_is_a_usage_error(lab: Lab, arguments: tuple[str, ...], expected: str) -> None:
    done = health(*arguments)

    assert done.returncode == 2
    assert expected in done.stderr


def test_dicom_service_is_well_while_it_listens(lab: Lab) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        lab.configure(ldif.Change("cn=dicom", {"dicomPort": str(port)}))
        before = health("dicom", "--device", "archive-a")
    after = health("dicom", "--device", "archive-a")

    assert (before.returncode, before.stdout) == (0, f"127.0.0.1:{port} listens\n")
    assert after.returncode == 1
    assert f"archive-a at 127.0.0.1:{port}: " in after.stderr
