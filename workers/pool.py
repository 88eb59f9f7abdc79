"""Celery's pool of processes, each forked from the nursery instead of being a new interpreter.

To billiard they are spawned: told all they need by a pipe, with the descriptors that they get under the same numbers.
"""

from __future__ import annotations

import io
import os
from contextlib import ExitStack
from typing import Any

import structlog
from billiard import context, popen_fork, popen_spawn_posix, reduction, semaphore_tracker, spawn
from celery.concurrency.prefork import TaskPool
from kombu import Connection
from sqlalchemy.orm import configure_mappers

from archive import configuration
from workers.nursery import Birth, Nursery, NurseryGoneError

_log = structlog.get_logger()

#: Of a process of the pool, in `ps -o comm`.
NAME = "arcfleet-run"

_nursery: Nursery | None = None


def open_nursery(broker: Connection) -> None:
    """Fork the nursery of this worker, before it has a thread or a connection.

    Args:
        broker: not connected to: what that takes is imported now, and what all processes need is prepared.
    """
    global _nursery
    _ = broker.transport_cls
    configure_mappers()
    configuration.read_ahead()
    _nursery = Nursery.open()


class Pool(TaskPool):  # type: ignore[misc]
    """Celery's own, with processes from the nursery where there is one."""

    def on_start(self) -> None:
        """Start the processes."""
        if _nursery is not None:
            self.options["context"] = _Context()
        super().on_start()


class _Kept:
    """A descriptor in what a process is told."""

    def __init__(self, number: int) -> None:
        self.number = number

    def detach(self) -> int:
        """Return it; asked in the process."""
        return self.number


class _Popen(popen_fork.Popen):  # type: ignore[misc]
    """A child of ours that the nursery bears."""

    method = "spawn"
    DupFd = _Kept

    def __init__(self, process_object: Any) -> None:
        self._descriptors: list[int] = []
        super().__init__(process_object)

    def duplicate_for_child(self, number: int) -> int:
        """Let the process have a descriptor, under the same number."""
        self._descriptors.append(number)
        return number

    def _launch(self, process_object: Any) -> None:
        assert _nursery is not None  # noqa: S101 - else the pool has another context
        told, tracker = self._told(process_object), semaphore_tracker.getfd()
        with ExitStack() as ends:
            read, write = os.pipe()
            to_process = ends.enter_context(os.fdopen(write, "wb"))
            ends.callback(os.close, read)
            alive, lives = os.pipe()
            ends.callback(os.close, lives)
            try:
                # Nobody writes to `lives`: that it is closed says that the process has ended.
                given = [*self._descriptors, tracker, read, lives]
                self.pid = _nursery.bear(Birth("workers.pool:begin", NAME, (read, tracker), descriptors=given))
            except NurseryGoneError:
                os.close(alive)
                raise
            self.sentinel = alive
            to_process.write(told)

    def _told(self, process_object: Any) -> bytes:
        written = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(spawn.get_preparation_data(process_object.name), written)
            reduction.dump(process_object, written)
        finally:
            context.set_spawning_popen(None)
        return written.getvalue()


class ForkProcess(context.SpawnProcess):  # type: ignore[misc]
    """A process of the pool; Celery calls it ForkPoolWorker in its log."""

    @staticmethod
    def _Popen(process_object: Any) -> Any:  # noqa: N802 - billiard's name
        try:
            return _Popen(process_object)
        except NurseryGoneError as error:
            _log.warning("no process can be forked, a new interpreter is started", error=str(error))
            return popen_spawn_posix.Popen(process_object)


class _Context(context.SpawnContext):  # type: ignore[misc]
    Process = ForkProcess


def begin(read: int, tracker: int) -> int:
    """Be a process of the pool until its end; return its exit code.

    Args:
        read: descriptor from which it is told what to do.
        tracker: descriptor of billiard's tracker of semaphores.
    """
    semaphore_tracker._semaphore_tracker._fd = tracker
    # What it is told says how processes are started, as if nothing were set yet.
    context._default_context.set_start_method(None, force=True)
    return int(spawn._main(read) or 0)
