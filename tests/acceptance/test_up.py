"""`arcfleet up` as a process of its own: what it starts, what it refuses, and what is left of it."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
import redis

from archive.dicom import requestor
from archive.dicom.peer import VERIFICATION, Peer
from tests.lab.up import DICOM_PORTS, FLOWER_PORT, HERE, PORTS, free_offset, processes_of, run_file, running_up
from workers.embedded import child
from workers.embedded.postgres import EmbeddedPostgres


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="arcfleet-test-") as name:
        folder = Path(name, "home")
        yield folder
        for pid in processes_of(folder):
            os.kill(pid, signal.SIGKILL)


def test_sigterm_ends_up_and_everything_it_started(home: Path) -> None:
    with running_up(home, "--only-servers") as up:
        assert len(processes_of(home)) > 3

        up.send_signal(signal.SIGTERM)

        assert up.wait(15) == 0
    assert processes_of(home) == []
    assert not (home / "run.json").exists()


def test_nothing_is_left_after_up_was_killed(home: Path) -> None:
    with running_up(home, "--only-servers") as up:
        assert len(processes_of(home)) > 3

        up.kill()
        up.wait()

        assert child.await_condition(lambda: processes_of(home) == [], timeout_s=10)


def test_data_survives_an_orderly_end_and_a_kill(home: Path) -> None:
    with running_up(home, "--only-servers") as up:
        with psycopg.connect(run_file(home)["database_url"]) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
        with redis.Redis(unix_socket_path=run_file(home)["valkey_socket"]) as client:
            client.set("kept", "42")
        up.send_signal(signal.SIGTERM)
        up.wait(15)

    with running_up(home, "--only-servers") as up:
        up.kill()
        up.wait()
    with running_up(home, "--only-servers"):
        with psycopg.connect(run_file(home)["database_url"]) as connection:
            assert connection.execute("SELECT value FROM kept").fetchone() == (42,)
        with redis.Redis(unix_socket_path=run_file(home)["valkey_socket"]) as client:
            assert client.get("kept") == b"42"


def test_second_up_on_a_home_is_refused_and_names_the_first(home: Path) -> None:
    with running_up(home, "--only-servers") as up:
        second = HERE.run(home, "up", "--only-servers")

        assert second.returncode == 1
        assert second.stderr.strip().splitlines() == [
            f"arcfleet: home {home} is used by another `arcfleet up`, process {up.pid}: stop it or choose another home"
        ]
        assert up.poll() is None


def test_run_file_of_a_killed_up_neither_refuses_nor_misleads(home: Path) -> None:
    with running_up(home, "--only-servers") as up:
        up.kill()
        up.wait()
    assert (home / "run.json").exists()

    assert "no `arcfleet up` runs" in HERE.run(home, "db", "current").stderr
    with running_up(home, "--only-servers") as up:
        assert run_file(home)["pid"] == up.pid


def test_server_that_dies_is_started_again_and_named(home: Path) -> None:
    with running_up(home, "--only-servers") as up:
        (server,) = [pid for pid in child.descendants(up.pid) if b"valkey-server" in command_of(pid)]

        os.kill(server, signal.SIGKILL)

        assert up.stdout is not None
        assert up.stdout.readline().startswith("arcfleet: valkey ended (signal SIGKILL), starts again in 1 s")
        assert child.await_condition(lambda: answers(run_file(home)["valkey_socket"]), timeout_s=10)


def test_other_commands_of_the_home_find_its_database(home: Path) -> None:
    with running_up(home, "--only-servers"):
        assert HERE.run(home, "db", "check").returncode == 0

    without = HERE.run(home, "db", "check")
    assert without.returncode == 1
    assert without.stderr.startswith("arcfleet: no database: ARCFLEET_DATABASE_URL is not set")


def test_data_of_another_major_version_is_refused_in_one_line(home: Path) -> None:
    with running_up(home, "--only-servers") as up:
        up.send_signal(signal.SIGTERM)
        up.wait(15)
    (home / "postgres" / "PG_VERSION").write_text("17\n")

    refused = HERE.run(home, "up", "--only-servers")

    assert refused.returncode == 1
    assert len(refused.stderr.strip().splitlines()) == 1
    assert "holds data of PostgreSQL 17, expected 18" in refused.stderr
    assert processes_of(home) == []


def test_busy_port_is_refused_before_anything_starts(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        refused = HERE.run(home, "up", ARCFLEET_API_PORT=str(port))

    assert refused.returncode == 1
    assert refused.stderr.startswith(f"arcfleet: port {port} of 127.0.0.1, wanted for the REST API, is busy")
    assert len(refused.stderr.strip().splitlines()) == 1
    assert not (home / "postgres").exists()


def test_busy_dicom_port_is_refused_with_its_device(home: Path) -> None:
    offset = free_offset()
    with socket.create_server(("127.0.0.1", DICOM_PORTS["ARCHIVE_B"] + offset)) as taken:
        port = taken.getsockname()[1]

        refused = HERE.run(home, "up", "--offset", str(offset))

    assert refused.returncode == 1
    assert refused.stderr.startswith(
        f"arcfleet: port {port} of 127.0.0.1, wanted for the DICOM connection of device archive-b, is busy"
    )
    assert not (home / "postgres").exists()


def test_schema_of_a_configured_database_is_upgraded_by_command_only(home: Path, postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS configured")
        connection.execute("CREATE DATABASE configured")
    url = postgres.url_of("configured")

    refused = HERE.run(home, "up", "--only-servers", ARCFLEET_DATABASE_URL=url)

    assert refused.returncode == 1
    assert refused.stderr.startswith("arcfleet: the database is empty, expected revision ")
    assert refused.stderr.rstrip().endswith("run `arcfleet db upgrade`")
    assert processes_of(home) == []
    assert HERE.run(home, "db", "upgrade", ARCFLEET_DATABASE_URL=url).returncode == 0
    assert HERE.run(home, "db", "check", ARCFLEET_DATABASE_URL=url).returncode == 0


def test_unknown_device_is_refused_with_the_known_ones(home: Path) -> None:
    refused = HERE.run(home, "up", "--devices", "archive-x")

    assert refused.returncode == 1
    assert refused.stderr.startswith("arcfleet: device 'archive-x' is not in the configuration; expected one of")
    assert not (home / "postgres").exists()


def test_whole_cluster_answers_when_up_says_so_and_ends_within_15_s(home: Path) -> None:
    offset = free_offset()
    with running_up(home, "--offset", str(offset)) as up:
        urls = run_file(home)["api_urls"]
        assert urls == [f"http://127.0.0.1:{port + offset}" for port in PORTS]
        flower = run_file(home)["flower_url"]
        assert flower == f"http://127.0.0.1:{FLOWER_PORT + offset}"
        for url in (*urls, flower):
            assert httpx.get(f"{url}/health/ready", trust_env=False).status_code == 200
        listening = {title: port + offset for title, port in DICOM_PORTS.items()}
        urls = [f"dicom://{title}@127.0.0.1:{port}" for title, port in listening.items()]
        assert run_file(home)["dicom_urls"] == urls
        for title, port in listening.items():
            with requestor.associate(Peer(title, "127.0.0.1", port), "TEST", [VERIFICATION]) as association:
                assert association.echo().is_success
        assert "Archive" in httpx.get(f"{flower}/workers", trust_env=False).text

        up.send_signal(signal.SIGTERM)

        assert up.wait(15) == 0
    assert processes_of(home) == []


def test_nothing_of_a_whole_cluster_is_left_after_up_was_killed(home: Path) -> None:
    with running_up(home, "--offset", str(free_offset())) as up:
        up.kill()
        up.wait()

        assert child.await_condition(lambda: processes_of(home) == [], timeout_s=15)


def test_home_that_cannot_be_made_is_named(home: Path) -> None:
    home.write_text("a file")

    refused = HERE.run(home, "up", "--only-servers")

    assert refused.returncode == 1
    assert refused.stderr.startswith(f"arcfleet: home {home} cannot be used")


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def answers(path: str) -> bool:
    try:
        with redis.Redis(unix_socket_path=path) as client:
            return bool(client.ping())
    except redis.exceptions.ConnectionError:
        return False
