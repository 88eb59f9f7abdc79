"""`arcfleet up` of the sample cluster as a process of its own, in a home of its own."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.embedded import child

PROJECT = Path(__file__).resolve().parents[2]
#: REST itself, archive-a and archive-b.
PORTS = (8080, 8081, 8082)
#: By the AE that listens there.
DICOM_PORTS = {"ARCHIVE_A": 11112, "ARCHIVE_B": 11113}
FLOWER_PORT = 5555


@dataclass(frozen=True, slots=True)
class Program:
    """How arcfleet is started, and where: as it lies in this project, unless said otherwise."""

    command: Sequence[str] = (sys.executable, "-m", "api.cli.main")
    folder: Path = PROJECT
    #: Variables that it does not get.
    without: frozenset[str] = frozenset()

    def environment(self, home: Path) -> dict[str, str]:
        """Return its environment: nothing of arcfleet's but this home."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("ARCFLEET_") and name not in self.without
        }
        # Sockets of an `up` that is killed stay; below the home's folder they go with it.
        return kept | {"ARCFLEET_HOME": str(home), "TMPDIR": str(home.parent)}

    def run(self, home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command that ends by itself within a minute."""
        return subprocess.run(
            [*self.command, *arguments],
            cwd=self.folder,
            env=self.environment(home) | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


HERE = Program()


@contextmanager
def running_up(
    home: Path, *options: str, program: Program = HERE, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Start `arcfleet up` and wait until it says that it is ready; it is killed at the end.

    Raises:
        AssertionError: it ended before; the text has all that it said.
    """
    with subprocess.Popen(
        [*program.command, "up", *options],
        cwd=program.folder,
        env=program.environment(home) | dict(variables or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                if line.startswith("arcfleet is ready"):
                    break
            else:
                raise AssertionError(f"`arcfleet up` did not get ready: {''.join(said)}")
            yield process
        finally:
            process.kill()


def run_file(home: Path) -> dict[str, Any]:
    """Return what the `arcfleet up` of a home says of itself."""
    content: dict[str, Any] = json.loads((home / "run.json").read_text())
    return content


def processes_of(home: Path) -> list[int]:
    """Return the processes that name the home in their command or environment, or work in it."""
    marker = os.fsencode(home)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and child.is_alive(int(entry.name)):
            try:
                seen = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                seen += os.fsencode((entry / "cwd").readlink())
            except OSError:
                continue  # another user's, or it has just ended
            if marker in seen:
                found.append(int(entry.name))
    return found


def free_offset() -> int:
    """Return an offset at which all ports of the sample cluster are free."""
    while True:
        offset = random.randrange(1000, 40000)
        with ExitStack() as stack, suppress(OSError):
            for port in (*PORTS, *DICOM_PORTS.values(), FLOWER_PORT):
                stack.enter_context(socket.create_server(("127.0.0.1", port + offset)))
            return offset
