"""`arcfleet api` as a process: several addresses, a busy port, the door without tokens, the end."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api import security
from archive import db
from archive.accounts import Role
from tests import factories
from tests.lab.waiting import PATIENCE_S, wait_until
from workers.embedded.valkey import EmbeddedValkey

COMMAND = [sys.executable, "-m", "api.cli.main"]


def free_offset() -> int:
    """Return what the ports 8080 to 8082 can be moved by, below those that the kernel gives to anybody."""
    return next(offset for offset in iter(lambda: random.randrange(1000, 20_000), None) if is_free(offset))


def is_free(offset: int) -> bool:
    try:
        for port in (8080, 8081, 8082):
            with socket.create_server(("127.0.0.1", port + offset)):
                pass
    except OSError:
        return False
    return True


@pytest.fixture
def offset() -> int:
    return free_offset()


@pytest.fixture
def environment(database: str, broker: str, tmp_path: Path, offset: int) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ARCFLEET_")}
    return {
        **plain,
        "ARCFLEET_HOME": str(tmp_path),
        "ARCFLEET_DATABASE_URL": database,
        "ARCFLEET_BROKER_URL": broker,
        "ARCFLEET_API_PORT": str(8080 + offset),
    }


@pytest.fixture
def started(environment: dict[str, str], offset: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([*COMMAND, "api", "--offset", str(offset)], env=environment, text=True)
    yield process
    process.kill()
    process.wait()


def refused(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run([*COMMAND, *arguments], env=environment, text=True, capture_output=True, timeout=60)
    assert done.returncode == 1
    errors = done.stderr.strip().splitlines()
    assert len([line for line in errors if line.startswith("arcfleet:")]) == 1
    assert "Traceback" not in done.stderr
    return errors[-1]


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def answered(method: str, url: str) -> httpx.Response:
    """Ask until the answer is not that the database does not answer: on a busy machine it may be slow."""

    def ask() -> httpx.Response | None:
        answer = httpx.request(method, url, timeout=PATIENCE_S, trust_env=False)
        return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer

    found = wait_until(ask, f"{url} does more than to say that it is busy")
    assert found is not None
    return found


def test_process_listens_on_its_own_address_and_on_those_of_devices(
    environment: dict[str, str], started: subprocess.Popen[str], offset: int
) -> None:
    urls = [f"http://127.0.0.1:{port}" for port in (environment["ARCFLEET_API_PORT"], 8081 + offset, 8082 + offset)]
    for url in urls:
        wait_until(lambda url=url: is_ready(url), f"{url} answers")

    made = answered("POST", f"{urls[1]}/dcm4chee-arc/aets/ARCHIVE_A/rs/studies/1.2/export/Noop")
    listed = answered("GET", f"{urls[2]}/dcm4chee-arc/monitor/export")

    assert made.status_code == 202
    assert listed.json() == [made.json()]
    started.send_signal(signal.SIGTERM)
    assert started.wait(PATIENCE_S) == 0


def test_broker_that_is_frozen_delays_no_answer(
    environment: dict[str, str], started: subprocess.Popen[str], valkey: EmbeddedValkey
) -> None:
    url = f"http://127.0.0.1:{environment['ARCFLEET_API_PORT']}"
    wait_until(lambda: is_ready(url), f"{url} answers")
    factories.seen_worker("archive-a")
    valkey.freeze()
    try:
        for study in range(10):
            # It does not thaw before: an answer that waited for it would never come.
            uri = f"{url}/dcm4chee-arc/aets/ARCHIVE_A/rs/studies/1.{study}/export/Noop"
            assert answered("POST", uri).status_code == 202
        assert is_ready(url)
    finally:
        valkey.thaw()


def test_busy_port_is_one_line(environment: dict[str, str], offset: int) -> None:
    with socket.create_server(("127.0.0.1", int(environment["ARCFLEET_API_PORT"]))):
        line = refused(environment, "api", "--offset", str(offset))

    assert environment["ARCFLEET_API_PORT"] in line
    assert "busy" in line


def test_beyond_loopback_nothing_starts_without_a_token(environment: dict[str, str], offset: int) -> None:
    environment |= {"ARCFLEET_API_HOST": "0.0.0.0"}

    line = refused(environment, "api", "--offset", str(offset))

    assert f"0.0.0.0:{environment['ARCFLEET_API_PORT']}" in line
    assert "arcfleet token add" in line


def test_unknown_device_is_one_line(environment: dict[str, str]) -> None:
    assert "Unknown Device: nowhere, expected one of archive-a, archive-b" in refused(
        environment, "api", "--device", "nowhere"
    )


def test_database_of_a_newer_version_is_one_line(environment: dict[str, str]) -> None:
    with db.transaction() as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    assert "newer" in refused(environment, "api")
    assert "newer" in refused(environment, "task", "list")


def test_command_line_speaks_to_a_server_with_a_token(
    environment: dict[str, str], started: subprocess.Popen[str]
) -> None:
    url = f"http://127.0.0.1:{environment['ARCFLEET_API_PORT']}"
    wait_until(lambda: is_ready(url), f"{url} answers")
    token = security.add_token("cli", Role.READER, "tester")

    without = refused(environment, "task", "count", "--url", url)
    counted = subprocess.run(
        [*COMMAND, "task", "count", "--url", url],
        env={**environment, "ARCFLEET_TOKEN": token}, text=True, capture_output=True, check=True,
    )  # fmt: skip
    lesser = refused({**environment, "ARCFLEET_TOKEN": token}, "task", "cancel", "1", "--url", url)

    assert "arcfleet token add" in without
    assert counted.stdout == "0\n"
    assert "reader" in lesser
