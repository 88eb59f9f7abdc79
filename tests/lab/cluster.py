"""A whole cluster in a temporary folder: real servers, real processes, a configuration of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self, TypeVar

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from archive import configuration, db, schema
from config import settings
from tasks import operations, query
from tasks.control import WorkerNode
from tasks.query import TaskQuery
from tasks.record import NewTask, TaskView
from tasks.run import Run
from tasks.state import Status
from tasks.store import By
from tests.lab import checker, evidence, ldif
from tests.lab.member import Member
from tests.lab.waiting import PATIENCE_S, wait_until
from workers import dispatch
from workers.app import make_app
from workers.embedded import child
from workers.embedded.postgres import EmbeddedPostgres
from workers.embedded.servers import Servers
from workers.embedded.valkey import EmbeddedValkey

T = TypeVar("T")

#: Who schedules in a lab.
BY = By("lab@localhost")

_TOO_LOUD = ("ARCFLEET_", "COVERAGE", "PYTEST")


class Lab:
    """A cluster: `with Lab(folder, changes) as lab:` runs its servers; its processes are started by name.

    Inside the block this process is one of the cluster, as REST is: it has the cluster's settings, database
    and configuration, and sends what it schedules (unless `sends=False`).
    """

    def __init__(self, folder: Path, changes: Iterable[ldif.Change] = (), *, sends: bool = True) -> None:
        self.home = folder / "home"
        self.trace_file = folder / "trace"
        self.members: list[Member] = []
        self._changes = tuple(changes)
        self._sends = sends
        self._servers = Servers(self.home)
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

    def __enter__(self) -> Self:
        """Start the servers and join the cluster."""
        with ExitStack() as stack:
            ldif.make(self.home / "config.ldif", self._changes)
            stack.callback(self._servers.stop)
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

    def api(self, *arguments: str) -> tuple[Member, str]:
        """Start REST on a free port of loopback; returns it and its base URL."""
        port = free_port()
        command = [sys.executable, "-m", "api.cli.main", "api", *arguments]
        member = self._start("api", command, ARCFLEET_API_HOST="127.0.0.1", ARCFLEET_API_PORT=str(port))
        return member, f"http://127.0.0.1:{port}/dcm4chee-arc"

    def ready(self, *members: Member) -> None:
        """Wait until these workers consume; all of the lab's workers if none is named."""
        for member in members or [one for one in self.members if one.name.startswith("worker") and one.is_running]:
            member.await_ready()

    def node_id(self, member: Member) -> int:
        """Return the id of a worker's row, that its runs refer to."""
        newest = select(WorkerNode.id).where(WorkerNode.pid == member.pid).order_by(WorkerNode.id.desc()).limit(1)
        return self.ask(lambda session: session.scalars(newest).one())

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

    # ---- tasks

    def configure(self, *changes: ldif.Change) -> None:
        """Change the configuration while it is in use; seen by all within 10 s."""
        ldif.apply(self.home / "config.ldif", changes)

    def schedule(
        self, number: int = 1, device: str = "archive-a", exporter: str = "Noop", **values: object
    ) -> list[int]:
        """Schedule EXPORT tasks and return their ids."""
        found = operations.our_device(device)
        new = NewTask("EXPORT", found.name, "", exporter_id=exporter, **{"study_uid": "1.2.3", **values})  # type: ignore[arg-type]
        return [task.id for task in operations.schedule_all([new] * number, BY)]

    def task(self, task_id: int) -> TaskView:
        """Return a task."""
        found = self.ask(lambda session: query.get(session, task_id))
        assert found is not None, f"task {task_id} is gone"
        return found

    def runs(self, task_id: int) -> list[Run]:
        """Return all runs of a task, oldest first."""
        return self.ask(
            lambda session: list(session.scalars(select(Run).where(Run.task_id == task_id).order_by(Run.id)))
        )

    def count(self, **wanted: object) -> dict[Status, int]:
        """Return the number of tasks by status; arguments are those of `TaskQuery`."""
        return self.ask(lambda session: query.count_by_status(session, TaskQuery(**wanted)))  # type: ignore[arg-type]

    def ask(self, work: Callable[[Session], T]) -> T:
        """Do this in a transaction, again while the database is away."""
        return db.insist(work, for_s=PATIENCE_S)

    def await_status(self, task_ids: Collection[int], status: Status, *, timeout_s: float = PATIENCE_S) -> None:
        """Wait until all these tasks have that status."""
        ids = tuple(task_ids)
        wait_until(
            lambda: self.count(ids=ids).get(status, 0) == len(ids),
            f"{len(ids)} tasks are {status}",
            timeout_s=timeout_s,
            say=lambda: f"They are {self.count(ids=ids)}; {self.describe()}",
        )

    def await_running(self, task_id: int) -> Run:
        """Wait until a worker runs the task and has begun its first sub-operation; returns the run."""

        def begun() -> Run | None:
            open_runs = [run for run in self.runs(task_id) if run.claimed_at is not None and run.ended_at is None]
            return next((run for run in open_runs if self.process_of(run.id) is not None), None)

        found = wait_until(begun, f"task {task_id} runs", say=self.describe)
        assert found is not None
        return found

    def process_of(self, run_id: int) -> int | None:
        """Return the process that began sub-operations of a run; None: none has."""
        marks = [mark for mark in evidence.read_trace(self.trace_file) if mark.run_id == run_id]
        return marks[-1].pid if marks else None

    def begins(self, task_id: int) -> list[checker.Mark]:
        """Return what the task's runs have begun, in the order of time."""
        return [m for m in evidence.read_trace(self.trace_file) if m.task_id == task_id and m.what == "begin"]

    def prove(self, *, all_done: bool = True) -> checker.Evidence:
        """Prove from all that was recorded that nothing went wrong; returns what was looked at.

        Raises:
            AssertionError: something did; each fault is named.
        """
        seen = self.ask(lambda session: evidence.gather(session, self.trace_file))
        found = checker.faults(seen, all_done=all_done)
        assert not found, f"{len(found)} faults:\n" + "\n".join(map(str, found[:20]))
        return seen

    def describe(self) -> str:
        """Return what a reader of a failed test wants to know."""
        ends = "\n".join(f"--- {m.name} ({'runs' if m.is_running else 'ended'})\n{m.tail()}" for m in self.members)
        return f"Log ends:\n{ends}"

    # ---- private

    def _start(self, name: str, command: Sequence[str], **variables: str) -> Member:
        known = {m.name for m in self.members}
        full = next(n for n in (name, *(f"{name}-{i}" for i in range(2, 100))) if n not in known)
        member = Member(full, command, self.home / "logs" / f"{full}.log", self._environment() | variables)
        self.members.append(member)
        return member.start()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_TOO_LOUD)}
        return kept | {
            "ARCFLEET_HOME": str(self.home),
            "ARCFLEET_DATABASE_URL": self.postgres.url,
            "ARCFLEET_BROKER_URL": self.valkey.url,
            "ARCFLEET_TRACE_FILE": str(self.trace_file),
            "ARCFLEET_TIMEZONE": "UTC",
            "PYTHONFAULTHANDLER": "1",
        }

    def _join(self, stack: ExitStack) -> None:
        patch = pytest.MonkeyPatch()
        stack.callback(self._leave)
        stack.callback(patch.undo)
        for name in [name for name in os.environ if name.startswith("ARCFLEET_")]:
            patch.delenv(name)
        for name, value in self._environment().items():
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

    def _end_members(self) -> None:
        for member in self.members:
            if member.is_running:
                member.kill()


@contextmanager
def cluster(*changes: ldif.Change, sends: bool = True) -> Iterator[Lab]:
    """Run a lab in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="arcfleet-lab-") as folder, Lab(Path(folder), changes, sends=sends) as lab:
        yield lab


def free_port() -> int:
    """Return a port of loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def signal_process(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process of a lab, such as one of a pool."""
    assert child.is_alive(pid), f"process {pid} has ended already"
    os.kill(pid, number)
