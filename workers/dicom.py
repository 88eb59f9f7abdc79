"""The DICOM service of a device: a parent that holds the sockets, and processes that take connections from them.

One process per core, because the threads of one Python share a lock. Whoever ends is started again, and what
it held of the device's associations is free again.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import configure_mappers

from archive import configuration, db, schema
from archive.dicom.places import Places
from archive.dicom.server import Listener, Server
from archive.dicom.store_scp import StoreScp
from archive.errors import ArchiveError
from archive.storage import file_systems
from config import settings
from config.device import Device, FileSystemGroup
from tasks import stored
from workers import logs
from workers.forked import ForkedCommand
from workers.nursery import Birth, Nursery
from workers.supervise import Command, Supervisor

_log = structlog.get_logger()

#: Of a process that takes connections, in `ps -o comm`.
NAME = "arcfleet-dicom"

_CHECK_S = 0.1
#: The same when all processes are there.
_LOOK_S = 0.5
#: Processes may take 3.5 s for what is in flight; all is over within 5 s.
_STOP_S = 4.5
#: How often the parent looks whether the device's file systems are all there.
_ENSURE_EVERY_S = 2.0
#: How long the database may think about a statement: after that the sender is told that there is no place.
_DATABASE_S = 20.0
#: Files and sockets that a process would like to have open.
DESCRIPTORS = 8192
#: Database connections of the parent, and of each process that takes associations.
PARENT_CONNECTIONS = 1
PROCESS_CONNECTIONS = 2 * db.POOL_SIZE
#: More processes would only wait for the disk.
_MOST_BY_DEFAULT = 4


@dataclass(frozen=True, slots=True)
class Shared:
    """What each process inherits from the parent, by descriptor."""

    #: Listening sockets, each with the names of the device's connections that it stands for.
    listeners: tuple[tuple[int, tuple[str, ...]], ...]
    places: int

    def told(self) -> str:
        """Return it as an argument of a command line."""
        return json.dumps([self.listeners, self.places])

    @classmethod
    def heard(cls, told: str) -> Self:
        """Return what the parent told. Raises ValueError or TypeError if it is something else."""
        listeners, places = json.loads(told)
        return cls(tuple((int(number), tuple(names)) for number, names in listeners), int(places))


class Parent:
    """Starts the processes of a device, and starts those again that end."""

    def __init__(
        self,
        device: str,
        listeners: Sequence[tuple[socket.socket, tuple[str, ...]]],
        processes: int,
        nursery: Nursery | None,
    ) -> None:
        """Make it.

        Args:
            device: its name.
            listeners: sockets that listen, each with the names of the device's connections that it stands for.
            processes: how many.
            nursery: from which they are forked; None: each is a new interpreter.
        """
        self._device = device
        self._listeners = tuple(listeners)
        self._nursery = nursery
        self._places = Places.make(processes)
        self._processes = processes
        self._commands: list[Command] = []
        self._swept: set[int] = set()

    def run(self, command: Sequence[str], *, ready: Callable[[], None], say: Callable[[str], None]) -> None:
        """Run the processes until this one is told to end.

        Args:
            command: starts one; what it shares with the others is added to it.
            ready: called once when all take connections.
            say: gets one line for each process that ends.
        """
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        threading.Thread(target=self._keep_file_systems, args=(ended,), name="file-systems", daemon=True).start()
        supervisor = Supervisor(say)
        self._commands = self._made(command)
        for one in self._commands:
            supervisor.start(one)
        is_ready = False
        while not ended.wait(_LOOK_S if is_ready else _CHECK_S):
            self._sweep()
            supervisor.check()
            if not is_ready and len(self._places.processes()) == self._processes:
                is_ready = True
                ready()
        supervisor.stop(timeout_s=_STOP_S)

    def _made(self, command: Sequence[str]) -> list[Command]:
        for listener, _ in self._listeners:
            listener.setblocking(False)
        shared = Shared(
            tuple((listener.fileno(), names) for listener, names in self._listeners), self._places.descriptor
        )
        descriptors = [*(number for number, _ in shared.listeners), shared.places]
        return [self._process(number, command, shared, descriptors) for number in range(1, self._processes + 1)]

    def _process(self, number: int, command: Sequence[str], shared: Shared, descriptors: Sequence[int]) -> Command:
        log = settings.current().home / "logs" / f"dicom-{self._device}-process-{number}.log"
        return ForkedCommand(
            f"DICOM process {number} of {self._device}",
            log,
            nursery=self._nursery,
            birth=Birth(
                "workers.dicom:serve_told",
                NAME,
                (self._device, shared.told()),
                descriptors=descriptors,
                log=str(log),
                own_session=True,
            ),
            arguments=[*command, shared.told()],
        )

    def _sweep(self) -> None:
        """Give back the places of processes that have ended."""
        alive = {one.pid for one in self._commands if one.pid is not None and one.exit_code() is None}
        if alive != self._swept:
            self._places.sweep(alive)
            self._swept = alive

    def _keep_file_systems(self, ended: threading.Event) -> None:
        """Make the file systems that the configuration names; the service runs whether that succeeds or not."""
        done: dict[str, FileSystemGroup] = {}
        said: dict[str, str] = {}
        while True:
            device = device_now(self._device)
            for name, group in device.file_system_groups.items():
                if done.get(name) != group:
                    problem = _ensure(device, group)
                    if problem is None:
                        done[name] = group
                    elif problem != said.get(name):
                        _log.error("file systems are not all there", group=name, error=problem)
                    said[name] = problem or ""
            if ended.wait(_ENSURE_EVERY_S):
                return


def _ensure(device: Device, group: FileSystemGroup) -> str | None:
    """Make the file systems of a group; return why that did not succeed. Other groups do not depend on it."""
    try:
        with db.transaction() as session:
            alone = replace(device, file_system_groups={group.id: group})
            file_systems.ensure(session, alone, settings.current().home)
    except (ArchiveError, SQLAlchemyError) as error:
        return db.first_line(error)
    return None


def processes_by_default() -> int:
    """Return how many processes a device's service has unless it is told: one per core of this machine, at most 4."""
    return min(_MOST_BY_DEFAULT, os.cpu_count() or 1)


def open_nursery() -> Nursery | None:
    """Fork the nursery, which has what a process needs: before this process has a thread or a connection."""
    configure_mappers()
    configuration.read_ahead()
    return Nursery.open()


def prepare() -> None:
    """Prepare the parent: its log, its database connection.

    Raises:
        SettingsError: no database is known.
        SchemaError: the database is of another version; one that is away is no reason not to start.
    """
    logs.set_up()
    url = settings.current().database()
    db.use(db.make_engine(url, pool_size=PARENT_CONNECTIONS, application_name="arcfleet dicom"))
    try:
        schema.check(url)
    except (schema.SchemaTooOldError, schema.SchemaTooNewError):
        raise
    except schema.SchemaError as error:
        _log.warning("database away, objects are refused until it is back", error=str(error))


def serve_told(device: str, told: str) -> None:
    """Serve as a process that was forked; `told` is what the parent shares."""
    serve(device, Shared.heard(told))


def serve(device: str, shared: Shared) -> None:
    """Take connections in this process until it is told to end."""
    logs.set_up()
    device_now(device)  # the first association shall not wait for it
    _raise_descriptor_limit()
    db.use(db.make_engine(settings.current().database(), application_name="arcfleet dicom", answer_s=_DATABASE_S))
    listeners = [Listener(socket.socket(fileno=number), names) for number, names in shared.listeners]
    server = Server(
        listeners, Places(shared.places), lambda: device_now(device), StoreScp(stored.series_stored).services
    )
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _log.info("DICOM process takes connections", device=device)
    in_time = server.serve()
    _log.info("DICOM process ends", device=device, in_time=in_time)
    db.use(None)
    if not in_time:
        os._exit(0)


def device_now(name: str) -> Device:
    """Return a device as it is configured now; one that is not there any more takes nothing."""
    return configuration.current().devices.get(name) or Device(name, installed=False)


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
