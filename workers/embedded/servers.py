"""The servers that a home needs: those without a configured URL are embedded."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from workers.embedded import account as accounts
from workers.embedded import binaries
from workers.embedded.account import Account
from workers.embedded.postgres import EmbeddedPostgres
from workers.embedded.server import Server
from workers.embedded.valkey import EmbeddedValkey

#: Where data goes that the account of the servers could not reach in the home.
ELSEWHERE = Path("/var/lib/arcfleet")


class Servers:
    """PostgreSQL and Valkey of one home.

    Give a URL for a server that runs elsewhere; that one is not started.
    """

    def __init__(
        self,
        home: Path,
        *,
        database_url: str | None = None,
        broker_url: str | None = None,
        account: Account | None = None,
        elsewhere: Path = ELSEWHERE,
    ) -> None:
        self.home = home.absolute()
        self.postgres: EmbeddedPostgres | None = None
        self.valkey: EmbeddedValkey | None = None
        self._database_url = database_url
        self._broker_url = broker_url
        self._runtime: Path | None = None
        self._account = account
        self._elsewhere = elsewhere

    @property
    def database_url(self) -> str:
        """The URL of the database: the configured one or ours."""
        return self._database_url or (self.postgres.url if self.postgres else "")

    @property
    def broker_url(self) -> str:
        """The URL of the broker: the configured one or ours."""
        return self._broker_url or (self.valkey.url if self.valkey else "")

    @property
    def embedded(self) -> list[Server]:
        """The servers that are ours, in the order of their start."""
        return [server for server in (self.postgres, self.valkey) if server is not None]

    def start(self) -> None:
        """Start what has no configured URL, and wait until it answers.

        Raises:
            EmbeddedError: a server cannot be started; those that were are stopped.
        """
        if self._database_url and self._broker_url:
            return
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._arrange()
        try:
            for server in self.embedded:
                server.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop what was started, the last first, and remove the sockets' folder."""
        for server in reversed(self.embedded):
            server.stop()
        if self._runtime is not None:
            shutil.rmtree(self._runtime, ignore_errors=True)

    def _arrange(self) -> None:
        account = self._account or accounts.choose()
        data, runtime = self._data_folder(account), _runtime_folder(self.home, account)
        postgres, valkey = binaries.postgres_programs(), binaries.valkey_server()
        if not (binaries.is_reachable(postgres, account) and binaries.is_reachable(valkey, account)):
            postgres, valkey = binaries.copied_to(self._elsewhere / "programs")
        self._runtime = runtime
        if not self._database_url:
            self.postgres = EmbeddedPostgres(data / "postgres", runtime / "pg", account=account, programs=postgres)
        if not self._broker_url:
            self.valkey = EmbeddedValkey(data / "valkey", runtime / "vk", account=account, program=valkey)
        for server in self.embedded:
            server.log = self.home / "logs" / server.log.name

    def _data_folder(self, account: Account) -> Path:
        if binaries.is_reachable(self.home / "any", account):
            return self.home
        for folder in (self._elsewhere, self._elsewhere / _mark(self.home)):
            if not folder.exists():
                folder.mkdir(parents=True)
                folder.chmod(0o711)
        return folder


def outside(home: Path, elsewhere: Path = ELSEWHERE) -> list[Path]:
    """Return the folders outside of a home in which servers of it have, or had, data or sockets."""
    mark = _mark(home.absolute())
    user = os.geteuid()
    parents = {Path(f"/run/user/{user}"), Path(tempfile.gettempdir()), Path("/tmp")}  # noqa: S108  # only looked into
    candidates = [elsewhere / mark, *(parent / f"arcfleet-{mark}" for parent in sorted(parents))]
    return [folder for folder in candidates if _is_ours(folder, user)]


def _runtime_folder(home: Path, account: Account) -> Path:
    # The same for each run over a home, so that nothing piles up after kills; another user's folder of that
    # name (anybody may write into /tmp) is passed by.
    user = os.geteuid()
    login = Path(f"/run/user/{user}")
    parent = login if _is_ours(login, user) and account.user is None else Path(tempfile.gettempdir())
    if len(os.fsencode(parent)) > 60:
        parent = Path("/tmp")  # noqa: S108  # the folder's owner and mode are checked
    folder = parent / f"arcfleet-{_mark(home)}"
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not _is_ours(folder, user):
            folder = Path(tempfile.mkdtemp(prefix="arcfleet-", dir=parent))
    if account.user is not None:
        folder.chmod(0o711)  # the account must pass; the sockets' folders in it are closed
    return folder


def _is_ours(folder: Path, user: int) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == user and not status.st_mode & 0o022


def _mark(home: Path) -> str:
    return hashlib.sha256(f"{os.geteuid()} {home}".encode()).hexdigest()[:10]
