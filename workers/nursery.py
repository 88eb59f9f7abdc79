"""A process that others are forked from: it has everything imported, no thread, no connection, and does nothing else.

A new interpreter for each process of a pool holds its own copy of all modules, some 75 MB; forked ones share them.
To fork the worker itself would copy threads and sockets in the middle of their work. So the nursery is forked first
thing, and asked for each process; what it bears becomes a child of the one who asks (PR_SET_CHILD_SUBREAPER), as if
that one had started it: it can be waited for, and ends with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NoReturn, Self

from config import settings
from workers.parent import adopt_orphans, be_called, end_with_parent

#: Descriptors that one process gets at most. Source: SCM_MAX_FD of Linux, less a few.
_MOST_DESCRIPTORS = 200
_LENGTH = struct.Struct("!II")
_PID = struct.Struct("!i")

#: By these a whole group of processes is ended: each ends by itself, the nursery with its asker.
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class NurseryGoneError(OSError):
    """The nursery has ended, or was never there: processes must be started in another way."""


@dataclass(frozen=True, slots=True)
class Birth:
    """What a new process is told."""

    #: `module:function`, called with the arguments; what it returns is the exit code.
    entry: str
    #: Its name in `ps -o comm`, at most 15 characters.
    name: str
    arguments: Sequence[str | int] = ()
    #: Its environment.
    environment: Mapping[str, str] = field(default_factory=settings.environment)
    #: Numbers of the asker's descriptors that it gets, under the same numbers.
    descriptors: Sequence[int] = ()
    #: Where it writes what it says; None: where the asker wrote when the nursery was opened.
    log: str | None = None
    #: In a session of its own.
    own_session: bool = False


class Nursery:
    """The asker's side; safe for threads."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        """Wrap what `open` has made."""
        self._connection = connection
        self._lock = threading.Lock()
        self.pid = pid

    @classmethod
    def open(cls) -> Self | None:
        """Fork the nursery, before this process starts a thread or opens a connection; None: not on this system.

        Raises:
            RuntimeError: a thread runs already.
        """
        if not sys.platform.startswith("linux"):
            return None
        if threading.active_count() > 1:
            raise RuntimeError(f"threads run already: {[one.name for one in threading.enumerate()]}")
        adopt_orphans()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        # What is there now stays: a collector that looked at it would write to it, and end the sharing page by page.
        gc.collect()
        gc.freeze()
        asker = os.getpid()
        # The nursery blocks them from its first moment to its last.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        pid = os.fork()
        if pid == 0:
            ours.close()
            _end_behind(lambda: _live(_Cradle(theirs, asker, before)))
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return cls(ours, pid)

    def bear(self, birth: Birth) -> int:
        """Start a process and return its id.

        Raises:
            NurseryGoneError: the nursery has ended.
        """
        told = json.dumps(asdict(birth)).encode()
        with self._lock:
            try:
                header = _LENGTH.pack(len(told), len(birth.descriptors))
                socket.send_fds(self._connection, [header], list(birth.descriptors))
                self._connection.sendall(told)
                return _PID.unpack(_exactly(self._connection, _PID.size))[0]  # type: ignore[no-any-return]
            except OSError as error:
                raise NurseryGoneError(f"process {self.pid}, from which others are forked, has ended") from error


@dataclass(frozen=True, slots=True)
class _Cradle:
    """What the nursery knows."""

    connection: socket.socket
    #: Who asks, and will be the parent.
    asker: int
    #: Signals that the asker blocks, and that new processes block.
    blocked: set[int | signal.Signals]


def _live(cradle: _Cradle) -> int:
    """Be the nursery until the asker ends.

    The signals that end others stay blocked: what is sent to a new process before it can obey waits for it then.
    """
    end_with_parent()
    be_called("nursery")
    while (asked := _asked(cradle.connection)) is not None:
        birth, received = asked
        pid = _fork(cradle, birth, received)
        for number in received:
            os.close(number)
        cradle.connection.sendall(_PID.pack(pid))
    return 0


def _end_behind(work: Callable[[], int]) -> NoReturn:
    """Do the work and end: this is a fork, and no code of whom it was forked from may go on in it."""
    code = 1
    try:
        code = work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
    except BaseException:  # noqa: BLE001 - see above
        sys.excepthook(*sys.exc_info())
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _asked(connection: socket.socket) -> tuple[Birth, list[int]] | None:
    """Return what is asked for, with the descriptors that came along; None: the asker has ended."""
    header, received, _, _ = socket.recv_fds(connection, _LENGTH.size, _MOST_DESCRIPTORS)
    if not header:
        return None
    length, number = _LENGTH.unpack(header + _exactly(connection, _LENGTH.size - len(header)))
    if len(received) != number:
        raise OSError(f"{len(received)} descriptors came, expected {number}")
    return Birth(**json.loads(_exactly(connection, length))), list(received)


def _fork(cradle: _Cradle, birth: Birth, received: list[int]) -> int:
    """Fork twice: whose parent has ended becomes a child of the asker. Returns the process id."""
    heard, told = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid == 0:
            os.close(heard)
            os.close(told)
            cradle.connection.close()
            _end_behind(lambda: _begin(cradle, birth, received))
        os.write(told, _PID.pack(pid))
        os._exit(0)
    os.close(told)
    try:
        # Collected before the asker is answered: then the new one is its child.
        os.waitpid(between, 0)
        return int(_PID.unpack(os.read(heard, _PID.size))[0])
    finally:
        os.close(heard)


def _begin(cradle: _Cradle, birth: Birth, received: list[int]) -> int:
    """Be a new process: as the asker wants it, then its entry until the end."""
    while (parent := os.getppid()) != cradle.asker:
        if parent == 1:
            return 1  # the asker has ended meanwhile
        time.sleep(0.0005)
    end_with_parent()
    be_called(birth.name)
    for one in _ENDING:
        signal.signal(one, signal.default_int_handler if one is signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, cradle.blocked)
    if birth.own_session:
        os.setsid()
    _take(received, birth.descriptors)
    settings.replace_environment(birth.environment)
    if birth.log is not None:
        _write_to(Path(birth.log))
    module, _, function = birth.entry.partition(":")
    return getattr(importlib.import_module(module), function)(*birth.arguments) or 0


def _take(received: Sequence[int], numbers: Sequence[int]) -> None:
    """Give descriptors the numbers that they have at the asker's."""
    # Out of the way first: one may have come under the number of another.
    above = max([*received, *numbers], default=0) + 1
    for number, wanted in list(zip(list(_moved(received, above)), numbers, strict=True)):
        os.dup2(number, wanted, inheritable=True)
        os.close(number)


def _moved(received: Sequence[int], above: int) -> Iterator[int]:
    for number in received:
        yield fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, above)
        os.close(number)


def _write_to(log: Path) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)


def _exactly(connection: socket.socket, length: int) -> bytes:
    found = b""
    while len(found) < length:
        part = connection.recv(length - len(found))
        if not part:
            raise ConnectionResetError("the other side has ended")
        found += part
    return found
