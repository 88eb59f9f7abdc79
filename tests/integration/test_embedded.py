"""The embedded servers on a real machine: their data, their accounts, and their end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from workers.embedded import account, binaries, child, runfile
from workers.embedded.errors import EmbeddedError
from workers.embedded.postgres import EmbeddedPostgres
from workers.embedded.server import MAX_SOCKET_PATH, Server
from workers.embedded.servers import Servers
from workers.embedded.valkey import EmbeddedValkey

OTHER_USER = 12346
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as a second local user")

CONNECT_AS_OTHER = """
    import os, sys, psycopg
    os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
    try:
        psycopg.connect(sys.argv[1], connect_timeout=5)
    except psycopg.OperationalError as error:
        print(error)
    else:
        print("connected")
"""

START_AND_WAIT = """
    import sys, threading
    from pathlib import Path
    from workers.embedded import child
    def start():
        print(child.start(child.Program(["/bin/sleep", "1000"], Path(sys.argv[1]))).pid, flush=True)
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    sys.stdin.read()
"""


def run_python(script: str, *arguments: object) -> str:
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="arcfleet-test-") as name:
        yield Path(name)


@pytest.fixture
def own_postgres(folder: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(folder / "postgres", folder / "pg")
    yield server
    server.stop()


@pytest.fixture
def own_valkey(folder: Path) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(folder / "valkey", folder / "vk")
    yield server
    server.stop()


def test_postgres_keeps_its_data_over_a_restart_and_a_kill(own_postgres: EmbeddedPostgres) -> None:
    own_postgres.start()
    with psycopg.connect(own_postgres.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS value")

    own_postgres.restart()
    own_postgres.kill()
    own_postgres.start()

    with psycopg.connect(own_postgres.url) as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (42,)


def test_valkey_keeps_its_data_over_a_restart(own_valkey: EmbeddedValkey) -> None:
    own_valkey.start()
    with own_valkey.client() as client:
        client.set("kept", "42")

    own_valkey.restart()

    with own_valkey.client() as client:
        assert client.get("kept") == b"42"


def test_embedded_postgres_is_durable_and_has_no_tcp(own_postgres: EmbeddedPostgres) -> None:
    own_postgres.start()

    with psycopg.connect(own_postgres.url) as connection:
        shown = [connection.execute(f"SHOW {name}").fetchone() for name in ("fsync", "listen_addresses")]
        assert shown == [("on",), ("",)]
    assert own_postgres.socket.stat().st_mode & 0o777 == 0o700
    assert own_postgres.runtime_dir.stat().st_mode & 0o777 == 0o700


def test_valkey_refuses_writes_when_full_instead_of_forgetting(own_valkey: EmbeddedValkey) -> None:
    own_valkey.start()

    with own_valkey.client() as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("port") == {"port": "0"}


def test_postgres_data_of_another_major_version_is_refused(own_postgres: EmbeddedPostgres) -> None:
    own_postgres.start()
    own_postgres.stop()
    (own_postgres.data_dir / "PG_VERSION").write_text("17\n")

    with pytest.raises(EmbeddedError, match=r"holds data of PostgreSQL 17, expected 18: save it with pg_dump"):
        own_postgres.start()


def test_valkey_data_of_another_major_version_is_refused(own_valkey: EmbeddedValkey) -> None:
    own_valkey.start()
    own_valkey.stop()
    (own_valkey.data_dir / "VALKEY_VERSION").write_text("8")

    with pytest.raises(EmbeddedError, match=r"holds data of Valkey 8, expected 9: move the folder away"):
        own_valkey.start()


def test_folder_without_postgres_data_is_left_alone(own_postgres: EmbeddedPostgres) -> None:
    own_postgres.data_dir.mkdir(parents=True)
    (own_postgres.data_dir / "letter.txt").write_text("mine")

    with pytest.raises(EmbeddedError, match="holds no PostgreSQL data"):
        own_postgres.start()

    assert [path.name for path in own_postgres.data_dir.iterdir()] == ["letter.txt"]


def test_runtime_folder_that_others_may_enter_is_refused(own_valkey: EmbeddedValkey) -> None:
    own_valkey.runtime_dir.mkdir()
    own_valkey.runtime_dir.chmod(0o755)

    with pytest.raises(EmbeddedError, match=r"mode 755, expected a folder of user id \d+ with mode 700"):
        own_valkey.start()


def test_socket_path_that_is_too_long_is_refused(folder: Path) -> None:
    server = EmbeddedValkey(folder / "valkey", folder / ("long" * 30))

    with pytest.raises(EmbeddedError, match=f"expected fewer than {MAX_SOCKET_PATH}"):
        server.start()


def test_server_that_cannot_start_says_why(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "postgres", folder / "pg", settings={"shared_buffers": "plenty"})

    with pytest.raises(EmbeddedError, match=r"postgres ended while starting: .*shared_buffers"):
        server.start()


def test_lock_of_a_process_that_is_no_postgres_does_not_stop_the_start(
    own_postgres: EmbeddedPostgres,
) -> None:
    own_postgres.start()
    own_postgres.stop()
    (own_postgres.data_dir / "postmaster.pid").write_text(f"{os.getpid()}\n{own_postgres.data_dir}\n")

    assert own_postgres.start() == own_postgres.url


def test_frozen_server_answers_nothing_until_it_is_thawed(own_valkey: EmbeddedValkey) -> None:
    own_valkey.start()
    own_valkey.freeze()
    impatient = redis.Redis(unix_socket_path=str(own_valkey.socket), socket_timeout=0.2, retry=None)
    with impatient as client, pytest.raises(redis.exceptions.TimeoutError):
        client.ping()

    own_valkey.thaw()

    assert own_valkey.answers()


def test_frozen_postgres_session_hangs_until_it_is_thawed(own_postgres: EmbeddedPostgres) -> None:
    own_postgres.start()
    answered = threading.Event()
    with psycopg.connect(own_postgres.url) as connection:
        own_postgres.freeze()
        session = threading.Thread(target=lambda: ask(connection, answered))
        session.start()
        assert not answered.wait(0.3)

        own_postgres.thaw()

        assert answered.wait(10)
        session.join()


def ask(connection: psycopg.Connection[Any], answered: threading.Event) -> None:
    connection.execute("SELECT 1")
    answered.set()


@as_root
@pytest.mark.parametrize("choose", [account.choose, account.as_idle_account])
def test_second_local_user_is_refused(folder: Path, choose: Callable[[], account.Account]) -> None:
    folder.chmod(0o711)
    server = EmbeddedPostgres(folder / "postgres", folder / "pg", account=choose())
    server.start()
    try:
        assert "Permission denied" in run_python(CONNECT_AS_OTHER, server.url, OTHER_USER)

        # Even where the socket can be reached, PostgreSQL itself refuses.
        server.runtime_dir.chmod(0o711)
        server.socket.chmod(0o777)

        for user in (OTHER_USER, 1, 65534):
            assert "Peer authentication failed" in run_python(CONNECT_AS_OTHER, server.url, user)
    finally:
        server.stop()


@as_root
def test_home_that_the_idle_account_cannot_reach_is_served_from_a_folder_of_its_own(folder: Path) -> None:
    folder.chmod(0o711)
    home = folder / "private" / "home"
    home.parent.mkdir(mode=0o700)
    servers = Servers(home, account=account.as_idle_account(), elsewhere=folder / "elsewhere")

    servers.start()
    try:
        with psycopg.connect(servers.database_url) as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("arcfleet",)
        assert servers.postgres is not None
        assert servers.postgres.data_dir.is_relative_to(folder / "elsewhere")
        assert home.parent.stat().st_mode & 0o777 == 0o700
    finally:
        servers.stop()


def test_programs_run_from_a_copy(folder: Path) -> None:
    folder.chmod(0o711)
    postgres, valkey = binaries.copied_to(folder / "programs")
    servers: list[Server] = [
        EmbeddedPostgres(folder / "postgres", folder / "pg", programs=postgres),
        EmbeddedValkey(folder / "valkey", folder / "vk", program=valkey),
    ]

    for server in servers:
        server.start()
        assert Path(f"/proc/{server.pid}/exe").resolve().is_relative_to(folder)
        server.stop()


def test_dump_is_one_that_can_be_restored(own_postgres: EmbeddedPostgres, folder: Path) -> None:
    own_postgres.start()
    with psycopg.connect(own_postgres.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS value")

    own_postgres.dump(folder / "a.dump")

    restore = [str(binaries.postgres_programs() / "pg_restore"), "--list", str(folder / "a.dump")]
    listed = subprocess.run(restore, capture_output=True, text=True, check=True).stdout
    assert "TABLE DATA public kept" in listed


@as_root
def test_servers_of_root_do_not_run_with_its_powers(own_postgres: EmbeddedPostgres) -> None:
    own_postgres.start()

    status = Path(f"/proc/{own_postgres.pid}/status").read_text()

    assert "CapEff:\t0000000000000000" in status


def test_child_ends_with_its_parent_and_not_with_the_thread_that_started_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(START_AND_WAIT), str(tmp_path / "log")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert child.is_alive(pid)

        parent.send_signal(signal.SIGKILL)

    assert child.await_condition(lambda: not child.is_alive(pid), timeout_s=5)


def test_home_is_used_by_one_process_at_a_time(tmp_path: Path) -> None:
    refused = pytest.raises(EmbeddedError, match=f"used by another `arcfleet up`, process {os.getpid()}:")
    with runfile.locked(tmp_path), refused, runfile.locked(tmp_path):
        pass

    with runfile.locked(tmp_path):
        pass


def test_run_file_is_private_and_whole(tmp_path: Path) -> None:
    runfile.write(runfile.Running(pid=1, home=str(tmp_path), broker_url="redis+socket:///x"))

    written = tmp_path / "run.json"
    assert written.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert '"broker_url": "redis+socket:///x"' in written.read_text()
