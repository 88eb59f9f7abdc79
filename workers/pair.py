"""What keeps the two nodes of a device running: there once for each device, so that it imports as little as it can."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from workers.supervise import Command, Supervisor

#: Seconds that both nodes may take to hand their tasks back and end.
_STOP_S = 10.0
_CHECK_S = 0.5

#: Where our packages lie is put behind all else: nothing in it stands before what Python itself brings.
_BEGIN = "import sys; sys.path.append(sys.argv.pop(1)); from workers import pair; pair.main()"


class Node(NamedTuple):
    """A node to be kept running."""

    name: str
    command: Sequence[str]
    log: Path


def become(device: str, nodes: Sequence[Node]) -> NoReturn:
    """Replace this process, which has looked whether all is well, by one that keeps the nodes running."""
    sys.stdout.flush()
    sys.stderr.flush()
    told = json.dumps([(node.name, list(node.command), str(node.log)) for node in nodes])
    packages = str(Path(__file__).resolve().parents[1])
    # -P: what lies in the working directory is none of ours.
    os.execv(sys.executable, [sys.executable, "-P", "-c", _BEGIN, packages, "--device", device, told])  # noqa: S606


def main() -> None:
    """Keep the nodes running that the command line names, until the process is told to end."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    supervisor = Supervisor(_say)
    for name, command, log in json.loads(sys.argv[-1]):
        supervisor.start(Command(name, command, Path(log)))
    while not ended.wait(_CHECK_S):
        supervisor.check()
    supervisor.stop(timeout_s=_STOP_S)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is its log
