"""Keep child processes running: start them, start again those that end, stop them all in time."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from workers.embedded import child
from workers.embedded.errors import EmbeddedError

#: A child that has run for this long starts again after the first delay.
STEADY_S = 60.0
MAX_DELAY_S = 30.0

_KEEP_LOG_BYTES = 20_000_000


class Supervised(Protocol):
    """What can be started again: a command, or an embedded server."""

    name: str
    log: Path

    def launch(self) -> None:
        """Start the process and do not wait for it."""

    def exit_code(self) -> int | None:
        """Return how it ended, or None while it runs."""

    def last_words(self) -> str:
        """Return the last line of its log."""


class Running(Protocol):
    """A process of ours that runs, or has ended."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def exit_code(self) -> int | None:
        """Return how it ended (negative: by that signal), or None while it runs."""

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""

    def wait(self, timeout_s: float) -> bool:
        """Wait until it has ended; False: it has not within the time."""

    def kill(self) -> None:
        """End it and what it started at once, and wait until all is gone."""


class Command:
    """A command that is to run as long as we do."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log = log
        self._program = child.Program(arguments, log, environment=environment, descriptors=descriptors)
        self._child: Running | None = None

    @property
    def pid(self) -> int | None:
        """Its process id; None before the first start."""
        return self._child.pid if self._child else None

    def launch(self) -> None:
        """Start it; a log that has grown large is put aside first."""
        if self.log.exists() and self.log.stat().st_size > _KEEP_LOG_BYTES:
            self.log.replace(self.log.with_name(self.log.name + ".1"))
        self._child = self._begin()

    def _begin(self) -> Running:
        return child.start(self._program)

    def exit_code(self) -> int | None:
        """Return how it ended, or None while it runs."""
        return self._child.exit_code() if self._child else None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it does not run."""
        if self._child is not None:
            self._child.send(number)

    def end(self, *, timeout_s: float) -> None:
        """Wait until it has ended; at the end of the time it and what it started is killed."""
        if self._child is not None and not self._child.wait(timeout_s):
            self._child.kill()

    def last_words(self) -> str:
        """Return the last line of its log."""
        return child.last_line(self.log) or "it wrote nothing"


@dataclass(slots=True)
class _Watch:
    """What the supervisor knows of one child."""

    item: Supervised
    started: float
    delay_s: float = 0.0
    #: None: it runs.
    start_at: float | None = None


class Supervisor:
    """Watches children; `say` gets one line for each event."""

    def __init__(self, say: Callable[[str], None], *, first_delay_s: float = 1.0) -> None:
        self._say = say
        self._first_delay_s = first_delay_s
        self._watched: list[_Watch] = []

    def start(self, command: Command) -> None:
        """Start a command and watch it."""
        command.launch()
        self.watch(command)

    def watch(self, running: Supervised) -> None:
        """Watch what was already started."""
        self._watched.append(_Watch(running, time.monotonic()))

    def check(self) -> None:
        """Look at each child once: note which have ended, start those whose delay is over."""
        now = time.monotonic()
        for watch in self._watched:
            if watch.start_at is None:
                self._notice_end(watch, now)
            elif now >= watch.start_at:
                self._start_again(watch, now)

    def stop(self, *, timeout_s: float) -> None:
        """End all commands, the last first, within the time; servers are left to their owner."""
        end = time.monotonic() + timeout_s
        commands = [watch.item for watch in reversed(self._watched) if isinstance(watch.item, Command)]
        for command in commands:
            command.send(signal.SIGTERM)
        for command in commands:
            command.end(timeout_s=max(0.0, end - time.monotonic()))
        self._watched.clear()

    def _notice_end(self, watch: _Watch, now: float) -> None:
        code = watch.item.exit_code()
        if code is None:
            return
        steady = now - watch.started >= STEADY_S
        watch.delay_s = next_delay(0.0 if steady else watch.delay_s, first_s=self._first_delay_s)
        watch.start_at = now + watch.delay_s
        self._say(
            f"{watch.item.name} ended ({describe_exit(code)}), starts again in {watch.delay_s:g} s: "
            f"{watch.item.last_words()} (log: {watch.item.log})"
        )

    def _start_again(self, watch: _Watch, now: float) -> None:
        try:
            watch.item.launch()
        except (EmbeddedError, OSError) as error:
            watch.delay_s = next_delay(watch.delay_s, first_s=self._first_delay_s)
            watch.start_at = now + watch.delay_s
            self._say(f"{watch.item.name} cannot be started, tried again in {watch.delay_s:g} s: {error}")
            return
        watch.started, watch.start_at = now, None


def next_delay(last_s: float, *, first_s: float = 1.0) -> float:
    """Return the pause before the next start: 1, 2, 4 ... 30 s; 0 stands for no start yet."""
    return min(last_s * 2, MAX_DELAY_S) if last_s else first_s


def describe_exit(code: int) -> str:
    """Return an exit code in words: `exit code 1`, `signal SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
