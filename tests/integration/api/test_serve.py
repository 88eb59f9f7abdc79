"""`arcfleet api` as a process: several addresses, a busy port, the door without tokens, the end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api import security
from archive import db
from archive.accounts import Role
from tests.lab.waiting import wait_until

COMMAND = [sys.executable, "-m", "api.cli.main"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def environment(database: str, broker: str, tmp_path: Path) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ARCFLEET_")}
    return {
        **plain,
        "ARCFLEET_HOME": str(tmp_path),
        "ARCFLEET_DATABASE_URL": database,
        "ARCFLEET_BROKER_URL": broker,
        "ARCFLEET_API_PORT": str(free_port()),
    }


@pytest.fixture
def started(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([*COMMAND, "api", "--offset", str(free_port() - 8082)], env=environment, text=True)
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


def test_process_listens_on_its_own_address_and_on_those_of_devices(
    environment: dict[str, str], started: subprocess.Popen[str]
) -> None:
    offset = int(started.args[-1])  # type: ignore[index, arg-type]
    urls = [f"http://127.0.0.1:{port}" for port in (environment["ARCFLEET_API_PORT"], 8081 + offset, 8082 + offset)]
    for url in urls:
        wait_until(lambda url=url: is_ready(url), f"{url} answers")

    made = httpx.post(f"{urls[1]}/dcm4chee-arc/aets/ARCHIVE_A/rs/studies/1.2/export/Noop", trust_env=False)
    listed = httpx.get(f"{urls[2]}/dcm4chee-arc/monitor/export", trust_env=False)

    assert made.status_code == 202
    assert listed.json() == [made.json()]
    began = time.monotonic()
    started.send_signal(signal.SIGTERM)
    assert started.wait(20) == 0
    assert time.monotonic() - began < 5


def test_busy_port_is_one_line(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", int(environment["ARCFLEET_API_PORT"]))):
        line = refused(environment, "api")

    assert environment["ARCFLEET_API_PORT"] in line
    assert "busy" in line


def test_beyond_loopback_nothing_starts_without_a_token(environment: dict[str, str]) -> None:
    environment |= {"ARCFLEET_API_HOST": "0.0.0.0"}

    line = refused(environment, "api", "--offset", str(free_port() - 8082))

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
