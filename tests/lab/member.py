"""One process of a cluster: started, stopped, killed, frozen and woken by its process id."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab.waiting import PATIENCE_S, wait_until
from workers.embedded import child

_PROJECT = Path(__file__).resolve().parents[2]


class Member:
    """A process of a cluster with all that it starts; may be started again after its end."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        self._program = child.Program(command, log, environment=environment, folder=_PROJECT)
        self._child: child.Child | None = None
        self._log_from = 0

    @property
    def pid(self) -> int:
        """The process id of its main process."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether its main process runs."""
        return self._child is not None and self._child.exit_code() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended (negative: by that signal), None while it runs."""
        return self._running().exit_code()

    def start(self) -> Member:
        """Start it and do not wait for it."""
        assert not self.is_running, f"{self.name} runs already"
        self._log_from = self.log.stat().st_size if self.log.exists() else 0
        self._child = child.start(self._program)
        return self

    def said(self, text: str) -> bool:
        """Tell whether it has written this text since its last start."""
        return text in self.log_since_start()

    def log_since_start(self) -> str:
        """Return what it has written since its last start."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(self._log_from)
            return file.read().decode(errors="replace")

    def await_ready(self) -> None:
        """Wait until this worker consumes."""
        wait_until(lambda: self.said(" ready.") or not self.is_running, f"{self.name} is ready", say=self.tail)
        assert self.is_running, f"{self.name} ended with {self.exit_code}: {self.tail()}"

    def pool(self) -> list[int]:
        """Return the process ids of the worker's pool, those that run tasks."""
        return [pid for pid in child.descendants(self.pid) if b"spawn_main" in _command_of(pid)]

    def stop(self) -> int | None:
        """Ask it to end in an orderly way and wait; returns its exit code."""
        running = self._running()
        running.thaw()
        running.send(signal.SIGTERM)
        assert running.wait(PATIENCE_S), f"{self.name} did not end by SIGTERM; its log ends {self.tail()}"
        return running.exit_code()

    def kill(self) -> None:
        """End it and all that it started at once, as a power cut."""
        self._running().kill()

    def kill_main(self) -> None:
        """End its main process alone; what it started must find out."""
        os.kill(self.pid, signal.SIGKILL)
        assert self._running().wait(PATIENCE_S)

    def freeze(self) -> None:
        """Stop all its processes, as a machine that hangs."""
        self._running().freeze()

    def freeze_one(self, pid: int) -> None:
        """Stop one process of its pool, as one that hangs in the middle of something."""
        assert pid in self.pool(), f"process {pid} is none of {self.name}"
        os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self._running().thaw()

    def tail(self, lines: int = 15) -> str:
        """Return the end of its log."""
        return "\n".join(self.log_since_start().splitlines()[-lines:])

    def _running(self) -> child.Child:
        assert self._child is not None, f"{self.name} was not started"
        return self._child


def _command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
