"""`arcfleet up` as a child of the demonstration: its ports, its processes, its end."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from pathlib import Path

from api import addresses
from api.addresses import Address
from api.demo.report import StepFailed
from archive.dicom.peer import Peer
from config import settings
from config.device import Cluster
from config.errors import SettingsError
from workers.embedded import child
from workers.supervise import describe_exit

#: What is run in a process of its own; -P: no folder of somebody else is imported from.
PROGRAM = (sys.executable, "-P", "-m", "api.cli.main")

#: Offsets that keep all ports below those that the kernel gives out by itself.
_OFFSETS = range(1000, 20_000)
_TRIES = 50
_STOP_S = 20.0
_GONE_S = 10.0


class Up:
    """One `arcfleet up` in a home."""

    def __init__(self, home: Path, cluster: Cluster) -> None:
        self.log = home / "logs" / "up.log"
        self.offset = _free_offset(cluster)
        own = addresses.own_address(settings.current(), offset=self.offset)
        listening = addresses.of_api(own, cluster.ours.values(), offset=self.offset)
        #: By device; that of the cluster itself is `REST`.
        self.urls = {address.owner: address.url for address in listening}
        self.cluster = cluster
        self._home = home
        self._others = processes_of(home)
        self._child: child.Child | None = None

    def dicom(self, device: str, title: str) -> Peer:
        """Return where an AE of a device listens."""
        listening = addresses.of_dicom([self.cluster.devices[device]], offset=self.offset)
        found = next(address for address in listening if address.ae_title == title)
        return Peer(title, found.reached_at, found.port)

    def start(self) -> None:
        """Start it and do not wait."""
        command = [*PROGRAM, "up", "--offset", str(self.offset)]
        self._child = child.start(child.Program(command, self.log))

    @property
    def is_ready(self) -> bool:
        """Tell whether it has said that everything answers."""
        return child.last_line(self.log, containing=("arcfleet is ready:",)) != ""

    @property
    def ending(self) -> str:
        """How it has ended; empty: it has not."""
        code = self._child.exit_code() if self._child else None
        return "" if code is None else f"`arcfleet up` ended ({describe_exit(code)}): {child.last_line(self.log)}"

    def expect_running(self) -> None:
        """See that it still runs.

        Raises:
            StepFailed: it has ended; the text says how.
        """
        if self.ending:
            raise StepFailed(self.ending)

    def processes(self) -> list[int]:
        """Return the ids of all processes of the home."""
        return sorted(set(processes_of(self._home)) - set(self._others))

    def stop(self) -> int | None:
        """End it in order, or at once when that takes too long; returns its exit code, None: it was not there."""
        if self._child is None:
            return None
        self._child.stop(signal.SIGTERM, timeout_s=_STOP_S)
        # Whoever was restarted by a supervisor that was killed ends by itself.
        child.await_condition(lambda: not self.processes(), timeout_s=_GONE_S)
        return self._child.exit_code()


def kill(pid: int) -> int:
    """Kill a process and what it started with SIGKILL, as a power cut; returns how many that were."""
    family = [pid, *child.descendants(pid)]
    for member in family:
        try:
            os.kill(member, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended with its parent
    return len(family)


def processes_of(home: Path) -> list[int]:
    """Return the ids of the processes that were started with this home."""
    wanted = b"ARCFLEET_HOME=" + os.fsencode(home)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and child.is_alive(int(entry.name)):
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue  # another user's, or it has just ended
            if wanted in variables:
                found.append(int(entry.name))
    return found


def _free_offset(cluster: Cluster) -> int:
    """Return an offset at which every port of the cluster is free."""
    ports = [settings.current().api_port, settings.current().flower_port]
    ports += [c.port for device in cluster.ours.values() for c in device.connections.values() if c.port]
    for offset in secrets.SystemRandom().sample(_OFFSETS, _TRIES):
        try:
            addresses.refuse_busy(Address("127.0.0.1", port + offset, "REST") for port in ports)
        except SettingsError:
            continue
        return offset
    raise StepFailed(f"ports {', '.join(map(str, ports))}: no offset of {_TRIES} tried at which all are free")
