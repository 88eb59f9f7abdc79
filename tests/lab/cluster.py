"""A whole cluster in a temporary folder: real servers, real processes, a configuration of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import pytest
from sqlalchemy import select

from archive import configuration, db, schema
from config import settings
from tasks.control import WorkerNode
from tests.lab import ldif
from tests.lab.board import BY, Board
from tests.lab.member import Member
from tests.lab.waiting import wait_until
from workers import dispatch
from workers.app import make_app
from workers.embedded.postgres import EmbeddedPostgres
from workers.embedded.servers import Servers
from workers.embedded.valkey import EmbeddedValkey

__all__ = ["BY", "Lab", "cluster", "free_port"]

_TOO_LOUD = ("ARCFLEET_", "COVERAGE", "PYTEST")


class Lab(Board):
    """A cluster: `with Lab(folder, changes) as lab:` runs its servers; its processes are started by name.

    Inside the block this process is one of the cluster, as REST is: it has the cluster's settings, database
    and configuration, and sends what it schedules (unless `sends=False`). Of two of them, one inside the other,
    it belongs to the inner one; further variables are settings of all processes.
    """

    def __init__(
        self,
        folder: Path,
        changes: Iterable[ldif.Change] = (),
        *,
        sends: bool = True,
        broker_url: str | None = None,
        **variables: str,
    ) -> None:
        super().__init__(folder / "home", folder / "trace")
        self._variables = variables
        #: None: a Valkey of its own.
        self._broker_url = broker_url
        self.members: list[Member] = []
        self._changes = tuple(changes)
        self._sends = sends
        self._servers = Servers(self.home, broker_url=broker_url)
        self._open = ExitStack()

    @property
    def postgres(self) -> EmbeddedPostgres:
        """The database server: `restart()`, `kill()`, `freeze()`, `thaw()`, `stop()`, `start()`."""
        assert self._servers.postgres is not None
        return self._servers.postgres

    @property
    def valkey(self) -> EmbeddedValkey:
        """The broker: the same."""
        assert self._servers.valkey is not None
        return self._servers.valkey

    @property
    def broker_url(self) -> str:
        """Where messages are sent."""
        return self._broker_url or self.valkey.url

    def __enter__(self) -> Self:
        """Start the servers and join the cluster."""
        with ExitStack() as stack:
            ldif.make(self.home / "config.ldif", self._changes)
            stack.callback(self._end_servers)
            self._servers.start()
            schema.upgrade(self.postgres.url)
            self._join(stack)
            stack.callback(self._end_members)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End everything that was started, at once."""
        self._open.close()

    # ---- processes

    def worker(self, device: str, *, housekeeping: bool = False, concurrency: int = 2) -> Member:
        """Start a worker of a device; `ready` waits for it."""
        command = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "--device", device]
        command += ["--without-mingle", "--without-gossip", "--loglevel", "INFO", "--concurrency", str(concurrency)]
        return self._start(f"worker-{device}", [*command, "--housekeeping"] if housekeeping else command)

    def beat(self) -> Member:
        """Start a beat."""
        return self._start("beat", [sys.executable, "-m", "api.cli.main", "beat"])

    def intake(self) -> Member:
        """Start an intake; `await_ready` waits for it."""
        return self._start("intake", [sys.executable, "-m", "api.cli.main", "intake"])

    def api(self, *arguments: str) -> tuple[Member, str]:
        """Start REST on a free port of loopback; returns it and its base URL."""
        port = free_port()
        command = [sys.executable, "-m", "api.cli.main", "api", *arguments]
        member = self._start("api", command, ARCFLEET_API_HOST="127.0.0.1", ARCFLEET_API_PORT=str(port))
        return member, f"http://127.0.0.1:{port}/dcm4chee-arc"

    def dicom(self, device: str, *arguments: str) -> Member:
        """Start the DICOM service of a device and wait until it listens: `ldif.connection` says where."""
        command = [sys.executable, "-m", "api.cli.main", "dicom", "--device", device, *arguments]
        member = self._start(f"dicom-{device}", command)
        wait_until(
            lambda: member.said(" listens on ") or not member.is_running, f"{member.name} listens", say=member.tail
        )
        assert member.is_running, f"{member.name} ended with {member.exit_code}: {member.tail()}"
        return member

    def flower(self, **variables: str) -> tuple[Member, str]:
        """Start Flower on a free port of loopback and wait until it answers; returns it and its base URL."""
        port = free_port()
        command = [sys.executable, "-m", "api.cli.main", "flower"]
        given = {"ARCFLEET_FLOWER_HOST": "127.0.0.1", "ARCFLEET_FLOWER_PORT": str(port), **variables}
        member = self._start("flower", command, **given)
        wait_until(
            lambda: member.said("Flower listens") or not member.is_running, f"{member.name} listens", say=member.tail
        )
        assert member.is_running, f"{member.name} ended with {member.exit_code}: {member.tail()}"
        return member, f"http://127.0.0.1:{port}"

    def ready(self, *members: Member) -> None:
        """Wait until these workers consume; all of the lab's workers if none is named."""
        for member in members or [one for one in self.members if one.name.startswith("worker") and one.is_running]:
            member.await_ready()

    def node_id(self, member: Member) -> int:
        """Return the id of a worker's row, that its runs refer to."""
        return self._node(member).id

    def node_name(self, member: Member) -> str:
        """Return what a worker is called in Celery. A dead worker's number is free again only after a while."""
        return self._node(member).name

    # ---- faults of the servers

    def flush_broker(self) -> None:
        """Empty the broker: all messages are lost."""
        with self.valkey.client() as client:
            client.flushall()

    def restart_postgres_at_once(self) -> None:
        """Restart the database without letting anything finish (`immediate`): sessions break, it recovers."""
        os.kill(self.postgres.pid, signal.SIGQUIT)
        wait_until(lambda: self.postgres.exit_code() is not None, "PostgreSQL has ended")
        self.postgres.start()

    def restart_broker(self) -> None:
        """End the broker in an orderly way and start it again on its data."""
        self.valkey.restart()

    def depth(self, device: str) -> int:
        """Return how many messages the broker holds for a device."""
        with self.valkey.client() as client:
            return int(client.llen(device))

    def broker_bytes(self) -> int:
        """Return the memory that the broker uses for data."""
        with self.valkey.client() as client:
            return int(client.info("memory")["used_memory_dataset"])

    def configure(self, *changes: ldif.Change) -> None:
        """Change the configuration while it is in use; seen by all within 10 s."""
        ldif.apply(self.home / "config.ldif", changes)

    def describe(self) -> str:
        """Return what a reader of a failed test wants to know."""
        ends = "\n".join(f"--- {m.name} ({'runs' if m.is_running else 'ended'})\n{m.tail()}" for m in self.members)
        return f"Log ends:\n{ends}"

    # ---- private

    def _node(self, member: Member) -> WorkerNode:
        newest = select(WorkerNode).where(WorkerNode.pid == member.pid).order_by(WorkerNode.id.desc()).limit(1)
        return self.ask(lambda session: session.scalars(newest).one())

    def _start(self, name: str, command: Sequence[str], **variables: str) -> Member:
        known = {m.name for m in self.members}
        full = next(n for n in (name, *(f"{name}-{i}" for i in range(2, 100))) if n not in known)
        member = Member(full, command, self.home / "logs" / f"{full}.log", self.environment() | variables)
        self.members.append(member)
        return member.start()

    def environment(self) -> dict[str, str]:
        """Return the environment of its processes."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_TOO_LOUD)}
        return kept | {
            "ARCFLEET_HOME": str(self.home),
            "ARCFLEET_DATABASE_URL": self.postgres.url,
            "ARCFLEET_BROKER_URL": self.broker_url,
            "ARCFLEET_TRACE_FILE": str(self.trace_file),
            "ARCFLEET_TIMEZONE": "UTC",
            "PYTHONFAULTHANDLER": "1",
            **self._variables,
        }

    def _join(self, stack: ExitStack) -> None:
        patch = pytest.MonkeyPatch()
        stack.callback(self._leave)
        stack.callback(patch.undo)
        for name in [name for name in os.environ if name.startswith("ARCFLEET_")]:
            patch.delenv(name)
        for name, value in self.environment().items():
            if re.match("ARCFLEET_", name):
                patch.setenv(name, value)
        settings.reload()
        configuration.reset()
        db.use(db.make_engine(self.postgres.url, application_name="arcfleet lab"))
        if self._sends:
            stack.callback(dispatch.stop)
            dispatch.start(make_app())

    def _leave(self) -> None:
        db.use(None)
        configuration.reset()
        settings.reload()

    def _end_servers(self) -> None:
        for server in self._servers.embedded:
            server.kill()  # their data is thrown away
        self._servers.stop()

    def _end_members(self) -> None:
        for member in self.members:
            if member.is_running:
                member.kill()


@contextmanager
def cluster(*changes: ldif.Change, sends: bool = True, **variables: str) -> Iterator[Lab]:
    """Run a lab in a folder that is gone afterwards; further variables are settings of all its processes."""
    with (
        tempfile.TemporaryDirectory(prefix="arcfleet-lab-") as folder,
        Lab(Path(folder), changes, sends=sends, **variables) as lab,
    ):
        yield lab


def free_port() -> int:
    """Return a port of loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
