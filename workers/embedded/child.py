"""A process that ends when we end: started as a direct child, signalled by its id only."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from workers.embedded.account import LAUNCHER, Account

_AS_WE_ARE = Account(peer="")
_POLL_S = 0.02
_TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Program:
    """What is to be run."""

    command: Sequence[str]
    #: Standard output and error are appended to it.
    log: Path
    account: Account = _AS_WE_ARE
    #: None: our own.
    environment: Mapping[str, str] | None = None
    folder: Path | None = None
    #: Open files and sockets of ours that it gets, under the same numbers.
    descriptors: Sequence[int] = ()


class Child:
    """A running process of ours."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id (the program's own, not that of a wrapper)."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """Return how it ended (negative: by that signal), or None while it runs."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Wait until it has ended; False: it has not within the time."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, number: signal.Signals, *, timeout_s: float) -> None:
        """End it in an orderly way by this signal, and at once when the time is over."""
        self.thaw()
        self.send(number)
        if not self.wait(timeout_s):
            self.kill()

    def freeze(self) -> None:
        """Stop it and what it started, as a machine that hangs."""
        self.send(signal.SIGSTOP)  # first, so that it starts nothing more
        for pid in descendants(self.pid):
            _signal(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it and what it started go on."""
        for pid in [*descendants(self.pid), self.pid]:
            _signal(pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it and what it started at once, as a power cut, and wait until all is gone."""
        family = descendants(self.pid)
        self.send(signal.SIGKILL)
        for pid in family:
            _signal(pid, signal.SIGKILL)
        self._process.wait()
        await_condition(lambda: not any(is_alive(pid) for pid in family), timeout_s=10)


def start(program: Program) -> Child:
    """Start a program in a session of its own; it gets SIGKILL when this process ends, in whatever way."""
    answer: Future[Child] = Future()
    _starter().put((program, answer))
    return answer.result()


def descendants(pid: int) -> list[int]:
    """Return the ids of the processes that `pid` started, and of those that they started."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := stat_fields(int(entry.name))):
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        born = parents.get(waiting.pop(), [])
        found += born
        waiting += born
    return found


def stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the name, state and parent first; empty: no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def is_alive(pid: int) -> bool:
    """Tell whether a process exists that has not ended (one that its parent did not collect yet has)."""
    fields = stat_fields(pid)
    return bool(fields) and fields[0] not in "ZX"


def working_in(folder: Path) -> list[int]:
    """Return the ids of the processes that we can see whose working directory is this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # another user's, or it has just ended
                if (entry / "cwd").samefile(folder) and is_alive(int(entry.name)):
                    found.append(int(entry.name))
    return found


def last_line(log: Path, *, containing: Sequence[str] = ("",)) -> str:
    """Return the last line of a log in which one of the texts stands; empty: there is none."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    fitting = [line.strip() for line in lines if line.strip() and any(text in line for text in containing)]
    return fitting[-1] if fitting else ""


def await_condition(holds: Callable[[], bool], *, timeout_s: float) -> bool:
    """Wait until the condition holds; False: it did not within the time."""
    end = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_S)
    return True


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
        os.kill(pid, number)


_requests: queue.SimpleQueue[tuple[Program, Future[Child]]] | None = None
_requests_lock = threading.Lock()


def _starter() -> queue.SimpleQueue[tuple[Program, Future[Child]]]:
    # The kernel ends a child when the *thread* that forked it ends. One thread that lives as long as the
    # process forks them all, so that a server may be started from any thread.
    global _requests
    with _requests_lock:
        if _requests is None:
            _requests = queue.SimpleQueue()
            threading.Thread(target=_serve, args=(_requests,), name="child-starter", daemon=True).start()
        return _requests


def _serve(requests: queue.SimpleQueue[tuple[Program, Future[Child]]]) -> None:
    while True:
        program, answer = requests.get()
        try:
            answer.set_result(_fork(program))
        except OSError as error:
            answer.set_exception(error)


def _fork(program: Program) -> Child:
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *program.account.arguments()]
    program.log.parent.mkdir(parents=True, exist_ok=True)
    with program.log.open("ab") as log:
        process = subprocess.Popen(
            [*launcher, *program.command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=program.environment,
            cwd=program.folder,
            pass_fds=program.descriptors,
            start_new_session=True,
        )
    return Child(process)
