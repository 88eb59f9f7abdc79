"""The embedded PostgreSQL: no TCP, peer authentication over a private socket, its data kept in the home."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psycopg

from workers.embedded import binaries, child
from workers.embedded.account import Account
from workers.embedded.binaries import POSTGRES_MAJOR
from workers.embedded.errors import EmbeddedError
from workers.embedded.server import Server

#: The role and the database; the role is the superuser of this server.
ROLE = "arcfleet"
DATABASE = "arcfleet"

_PORT = 5432  # only a part of the socket's name
_NOT_YET = ("57P03",)  # cannot_connect_now: starting up, in recovery, shutting down
_INITDB_TIMEOUT_S = 300.0

#: For a machine with two cores and a few dozen worker slots; fsync and synchronous_commit stay on.
SETTINGS: Mapping[str, str] = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    "effective_cache_size": "1GB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "max_wal_size": "1GB",
    "min_wal_size": "128MB",
    "checkpoint_timeout": "10min",
    "wal_compression": "on",
    "random_page_cost": "1.1",
    "max_parallel_workers_per_gather": "1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_startup_progress_interval": "2s",
    "log_min_duration_statement": "10s",
    "autovacuum_naptime": "15s",
    "logging_collector": "off",
}


class EmbeddedPostgres(Server):
    """A PostgreSQL server of ours."""

    name = "postgres"
    stop_signal = signal.SIGINT  # sessions are ended, the data is left as after a clean stop

    def __init__(
        self,
        data_dir: Path,
        runtime_dir: Path,
        *,
        account: Account | None = None,
        settings: Mapping[str, str] | None = None,
        programs: Path | None = None,
    ) -> None:
        super().__init__(data_dir, runtime_dir, account=account)
        self._settings = {**SETTINGS, **(settings or {})}
        self._programs = programs or binaries.postgres_programs()

    @property
    def url(self) -> str:
        """The URL of our database on it."""
        return self.url_of(DATABASE)

    @property
    def socket(self) -> Path:
        """The path of its socket."""
        return self.runtime_dir / f".s.PGSQL.{_PORT}"

    def url_of(self, database: str) -> str:
        """Return the URL of a database on it."""
        return f"postgresql://{ROLE}@/{database}?host={quote(str(self.runtime_dir), safe='/')}"

    def start(self) -> str:
        """Start it, wait until it answers, make our database at first use, and return its URL."""
        self.launch()
        self.wait_until_ready()
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if found is None:
                connection.execute(f"CREATE DATABASE {DATABASE}")
        return self.url

    def prepare(self) -> None:
        """Make the data folder at first use, check its version, and write who may connect."""
        if not self.data_dir.exists():
            self._make_data()
        marker = self.data_dir / "PG_VERSION"
        version = marker.read_text().strip() if marker.is_file() else None
        if version is None:
            raise EmbeddedError(f"{self.data_dir} holds no PostgreSQL data (no file PG_VERSION): move it away")
        if version != str(POSTGRES_MAJOR):
            raise EmbeddedError(
                f"{self.data_dir} holds data of PostgreSQL {version}, expected {POSTGRES_MAJOR}: save it "
                f"with pg_dump of PostgreSQL {version} and move it away, or run the arcfleet that made it"
            )
        self._write("pg_hba.conf", f"local all {ROLE} peer map=arcfleet\n")
        self._write("pg_ident.conf", f'arcfleet "{self.account.peer}" {ROLE}\n')
        self._forget_killed_server()

    def program(self) -> child.Program:
        """Return the command of the server process."""
        settings = {
            **self._settings,
            "listen_addresses": "",
            "port": str(_PORT),
            "unix_socket_directories": str(self.runtime_dir),
            "unix_socket_permissions": "0700",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._programs / "postgres"), "-D", str(self.data_dir), *options]
        return child.Program(command, self.log, account=self.account, folder=self.data_dir)

    def answers(self) -> bool:
        """Tell whether it takes connections.

        Raises:
            EmbeddedError: it refuses us for a reason that waiting does not mend.
        """
        try:
            psycopg.connect(self.url_of("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError as error:
            if error.sqlstate is not None and error.sqlstate not in _NOT_YET:
                raise EmbeddedError(f"{self.name} refuses a connection: {str(error).strip()}") from error
            return False
        return True

    def last_words(self) -> str:
        """Return the reason that it wrote last into its log."""
        return child.last_line(self.log, containing=("FATAL", "PANIC", "error:")) or super().last_words()

    def dump(self, target: Path) -> None:
        """Write all of our database into a file that `pg_restore` reads.

        Raises:
            EmbeddedError: the dump failed; nothing is left at `target`.
        """
        partial = target.with_name(target.name + ".part")
        log = target.with_name(target.name + ".log")
        command = [
            str(binaries.postgres_programs() / "pg_dump"),
            "--format=custom",
            f"--file={partial}",
            self.url,
        ]
        dumping = child.start(child.Program(command, log))
        dumping.wait(float("inf"))
        if dumping.exit_code() != 0:
            partial.unlink(missing_ok=True)
            raise EmbeddedError(f"the dump of {self.data_dir} before the upgrade failed (log: {log})")
        partial.replace(target)
        log.unlink(missing_ok=True)

    def _make_data(self) -> None:
        # Made aside and renamed, so that a folder with the final name is always whole.
        fresh = self.data_dir.with_name(self.data_dir.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        self._private_folder(fresh)
        command = [
            *(str(self._programs / "initdb"), "-D", str(fresh), "-U", ROLE, "--auth=peer", "--encoding=UTF8"),
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"),
        ]
        making = child.start(child.Program(command, self.log, account=self.account, folder=fresh))
        if not making.wait(_INITDB_TIMEOUT_S):
            making.kill()
        if making.exit_code() != 0:
            raise EmbeddedError(f"cannot make {self.data_dir}: {self.last_words()} (log: {self.log})")
        fresh.rename(self.data_dir)

    def _write(self, name: str, text: str) -> None:
        fresh = self.data_dir / f"{name}.new"
        fresh.write_text(text)
        fresh.chmod(0o600)
        self.account.own(fresh)
        fresh.replace(self.data_dir / name)

    def _forget_killed_server(self) -> None:
        # Sessions of a server that was killed end within a second or two, and PostgreSQL does not start
        # before. Its lock files stay, and after a restart of the machine or container another program may
        # have the process id in them.
        if not child.await_condition(lambda: not child.working_in(self.data_dir), timeout_s=15):
            pids = " ".join(map(str, child.working_in(self.data_dir)))
            raise EmbeddedError(f"{self.data_dir} is in use by process {pids}: end it first")
        for lock in (self.data_dir / "postmaster.pid", self.socket.with_name(f"{self.socket.name}.lock")):
            lock.unlink(missing_ok=True)
