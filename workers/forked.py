"""A supervised process that is forked from the nursery, or a new interpreter where there is none."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from workers.embedded import child
from workers.nursery import Birth, Nursery, NurseryGoneError
from workers.supervise import Command, Running

_log = structlog.get_logger()

_POLL_S = 0.02


class Forked:
    """A running process that the nursery has borne: our child."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None
        self._lock = threading.Lock()

    def exit_code(self) -> int | None:
        """Return how it ended (negative: by that signal), or None while it runs."""
        with self._lock:
            if self._code is None:
                ended, status = os.waitpid(self.pid, os.WNOHANG)
                if ended:
                    self._code = os.waitstatus_to_exitcode(status)
            return self._code

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.exit_code() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, timeout_s: float) -> bool:
        """Wait until it has ended; False: it has not within the time."""
        end = time.monotonic() + timeout_s
        while self.exit_code() is None:
            if time.monotonic() > end:
                return False
            time.sleep(_POLL_S)
        return True

    def kill(self) -> None:
        """End it and what it started at once, and wait until all is gone."""
        family = child.descendants(self.pid)
        for pid in [self.pid, *family]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wait(_AT_LONGEST_S)


#: A process that is in the middle of a read from a disk that is away ends when the disk is back.
_AT_LONGEST_S = 10.0


class ForkedCommand(Command):
    """A command whose process shares memory with others of the same nursery."""

    def __init__(
        self, name: str, log: Path, *, nursery: Nursery | None, birth: Birth, arguments: Sequence[str]
    ) -> None:
        """Make it.

        Args:
            name: for messages.
            log: where the process writes.
            nursery: None: there is none.
            birth: what the process is told.
            arguments: the command line that does the same without a nursery.
        """
        super().__init__(name, arguments, log, descriptors=birth.descriptors)
        self._nursery = nursery
        self._birth = birth

    def _begin(self) -> Running:
        if self._nursery is not None:
            try:
                return Forked(self._nursery.bear(self._birth))
            except NurseryGoneError as error:
                _log.warning("no process can be forked, a new interpreter is started", error=str(error))
        return super()._begin()
