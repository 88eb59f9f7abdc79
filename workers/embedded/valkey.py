"""The embedded Valkey: no TCP, a private socket, an append-only file that survives a restart."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import redis

from workers.embedded import binaries, child
from workers.embedded.account import Account
from workers.embedded.errors import EmbeddedError
from workers.embedded.server import Server

_VERSION_FILE = "VALKEY_VERSION"


class EmbeddedValkey(Server):
    """A Valkey server of ours."""

    name = "valkey"
    stop_timeout_s = 1.5

    def __init__(
        self,
        data_dir: Path,
        runtime_dir: Path,
        *,
        account: Account | None = None,
        program: Path | None = None,
    ) -> None:
        super().__init__(data_dir, runtime_dir, account=account)
        self._program = program or binaries.valkey_server()

    @property
    def url(self) -> str:
        """The URL as Celery writes it."""
        return f"redis+socket://{self.socket}"

    @property
    def socket(self) -> Path:
        """The path of its socket."""
        return self.runtime_dir / "valkey.sock"

    def client(self) -> redis.Redis:
        """Return a client for it."""
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=2)

    def prepare(self) -> None:
        """Make the data folder at first use, and check its version."""
        self._private_folder(self.data_dir)
        major = self._major()
        marker = self.data_dir / _VERSION_FILE
        version = marker.read_text().strip() if marker.is_file() else major
        if version != major:
            raise EmbeddedError(
                f"{self.data_dir} holds data of Valkey {version}, expected {major}: move the folder away "
                "(no task is lost by that: what is due is sent again)"
            )
        marker.write_text(major)

    def program(self) -> child.Program:
        """Return the command of the server process."""
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.data_dir),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "logfile": "",
        }
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return child.Program([str(self._program), *options], self.log, account=self.account, folder=self.data_dir)

    def answers(self) -> bool:
        """Tell whether it takes commands."""
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.exceptions.ConnectionError:  # not listening yet
                return False
            except redis.exceptions.TimeoutError:
                return False

    def _major(self) -> str:
        told = subprocess.run([str(self._program), "--version"], capture_output=True, text=True, check=False)
        found = re.search(r"v=(\d+)", told.stdout)
        if found is None:
            raise EmbeddedError(f"{self._program} does not tell its version: {(told.stdout + told.stderr).strip()}")
        return found[1]
