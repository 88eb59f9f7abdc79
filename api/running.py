"""Carries out kept operations in threads of this process, and goes on with those that another one left."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import structlog

from api import audit
from api.security import Caller
from archive import db
from archive.accounts import Role
from archive.errors import ArchiveError
from config.errors import ConfigError
from tasks import kept_operations, wish
from tasks.errors import TaskError
from tasks.kept_operations import Following, Held, TakenOverError
from tasks.store import By

_log = structlog.get_logger()

#: Operations that one process carries out at once; more wait their turn.
_AT_ONCE = 2
#: Seconds between two looks for operations that nobody works on.
_LOOK_EVERY_S = 5.0


class Running:
    """The operations of one process."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._leaving = threading.Event()
        self._lock = threading.Lock()
        self._watch: threading.Thread | None = None

    def start(self) -> None:
        """Look for operations that nobody works on, from now on."""
        self._leaving.clear()
        self._watch = threading.Thread(target=self._look, name="operations", daemon=True)
        self._watch.start()

    def stop(self) -> None:
        """Leave the operations at the end of their chunks; another process, or the next start, goes on with them."""
        self._leaving.set()
        if self._watch is not None:
            self._watch.join()
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)

    def submit(self, operation_id: str) -> None:
        """Carry out an operation when its turn comes."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="operation")
            self._pool.submit(self._carry_out, operation_id)

    def _look(self) -> None:
        while not self._leaving.wait(_LOOK_EVERY_S):
            try:
                for operation_id in kept_operations.abandoned():
                    self.submit(operation_id)
            except db.OUTAGES as error:
                _log.warning("operations not looked for", error=db.first_line(error))

    def _carry_out(self, operation_id: str) -> None:
        try:
            held = None if self._leaving.is_set() else kept_operations.take(operation_id)
            if held is not None:
                self._run(held)
        except TakenOverError as error:
            _log.warning("operation left", operation=operation_id, error=str(error))
        except db.OUTAGES as error:
            # Its lease ends, and whoever looks then goes on.
            _log.warning("operation interrupted", operation=operation_id, error=db.first_line(error))

    def _run(self, held: Held) -> None:
        row = held.operation
        caller = Caller(row.user, Role.OPERATOR, row.host)
        following = Following(held, self._leaving.is_set)
        by = By(caller.by.actor, operation_id=row.id)
        try:
            with audit.recorded(caller, row.action, f"{row.request} (operation {row.id})") as entry:
                result = wish.carry_out(held.wish, by, watch=following)
                entry.count, entry.failed = result.count, result.failed
        except TakenOverError:
            raise
        except (TaskError, ConfigError, ArchiveError) as error:
            kept_operations.end(held, error=str(error))
        except db.OUTAGES:
            raise
        except Exception as error:  # noqa: BLE001  # the border of the thread: an operation must not hang for ever
            _log.error("operation failed", operation=row.id, exc_info=error)
            kept_operations.end(held, error=f"{type(error).__name__}: {db.first_line(error)}")
        else:
            if following.left:
                kept_operations.give_back(held)
            else:
                kept_operations.end(held, was_stopped=result.was_stopped)


#: Those of this process.
operations = Running()
