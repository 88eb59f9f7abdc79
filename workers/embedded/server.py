"""What the two embedded servers have in common: a child process with a data folder and a socket."""

from __future__ import annotations

import os
import signal
import stat
import time
from pathlib import Path

from workers.embedded import account as accounts
from workers.embedded import child
from workers.embedded.account import Account
from workers.embedded.errors import EmbeddedError

#: The kernel takes 107 bytes; some clients add a suffix.
MAX_SOCKET_PATH = 100

_PATIENCE_S = 120.0
_POLL_S = 0.05


class Server:
    """A server process over a data folder, reached by a socket in a runtime folder; both are made."""

    #: As messages call it.
    name: str
    #: What asks it to end in an orderly way.
    stop_signal = signal.SIGTERM
    stop_timeout_s = 4.5

    def __init__(self, data_dir: Path, runtime_dir: Path, *, account: Account | None = None) -> None:
        self.data_dir = data_dir
        self.runtime_dir = runtime_dir
        self.account = accounts.choose() if account is None else account
        self.log = data_dir.parent / "logs" / f"{self.name}.log"
        self._child: child.Child | None = None

    @property
    def url(self) -> str:
        """The URL by which it is reached."""
        raise NotImplementedError

    @property
    def socket(self) -> Path:
        """The path of its socket."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._running().pid

    def exit_code(self) -> int | None:
        """Return how the process ended, or None while it runs."""
        return self._running().exit_code()

    def start(self) -> str:
        """Start it, wait until it answers, and return its URL.

        Raises:
            EmbeddedError: the data folder cannot be used, or the server ended or hangs while it starts.
        """
        self.launch()
        self.wait_until_ready()
        return self.url

    def launch(self) -> None:
        """Start the process and do not wait for it; make the data folder at first use."""
        if len(os.fsencode(self.socket)) >= MAX_SOCKET_PATH:
            raise EmbeddedError(
                f"socket path {self.socket} has {len(os.fsencode(self.socket))} bytes, "
                f"expected fewer than {MAX_SOCKET_PATH}: choose a shorter runtime folder"
            )
        self._private_folder(self.runtime_dir)
        self.prepare()
        self._child = child.start(self.program())

    def wait_until_ready(self) -> None:
        """Wait until it answers, for as long as it makes progress."""
        seen, since = self._progress(), time.monotonic()
        while not self.answers():
            if self.exit_code() is not None:
                raise EmbeddedError(f"{self.name} ended while starting: {self.last_words()} (log: {self.log})")
            if (now := self._progress()) != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > _PATIENCE_S:
                self.kill()
                raise EmbeddedError(
                    f"{self.name} makes no progress for {_PATIENCE_S:.0f} s while starting (log: {self.log})"
                )
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """End it in an orderly way; nothing happens if it does not run."""
        if self._child is not None:
            self._child.stop(self.stop_signal, timeout_s=self.stop_timeout_s)
            self._child = None

    def kill(self) -> None:
        """End it as a power cut would."""
        self._running().kill()

    def restart(self) -> None:
        """Stop it in an orderly way and start it again."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Let it hang: it keeps its connections and answers nothing."""
        self._running().freeze()

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self._running().thaw()

    def prepare(self) -> None:
        """Make or check the data folder before the process starts."""
        raise NotImplementedError

    def program(self) -> child.Program:
        """Return the command of the server process."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Tell whether a client gets an answer now."""
        raise NotImplementedError

    def last_words(self) -> str:
        """Return the last line of the log."""
        return child.last_line(self.log) or "it wrote nothing"

    def _running(self) -> child.Child:
        if self._child is None:
            raise EmbeddedError(f"{self.name} over {self.data_dir} was not started")
        return self._child

    def _private_folder(self, folder: Path) -> None:
        if not folder.exists():
            folder.mkdir(parents=True, mode=0o700)
            self.account.own(folder)
        status = folder.lstat()
        owner = os.geteuid() if self.account.user is None else self.account.user
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner or stat.S_IMODE(status.st_mode) & 0o077:
            raise EmbeddedError(
                f"{folder} is owned by user id {status.st_uid} with mode {stat.S_IMODE(status.st_mode):o}, "
                f"expected a folder of user id {owner} with mode 700: move it away"
            )

    def _progress(self) -> tuple[int, int]:
        ticks = 0
        for pid in [self.pid, *child.descendants(self.pid)]:
            fields = child.stat_fields(pid)
            ticks += int(fields[11]) + int(fields[12]) if fields else 0  # user and system time
        return (self.log.stat().st_size if self.log.exists() else 0, ticks)
