"""Celery's `revoke` means what it says: the task's row is cancelled first, then its run stops.

No handler of `task_revoked` could keep that promise: a plain revoke of an active run gives no signal, and
a dead worker gives none at all (docs/decisions/0009). So the remote control command itself is replaced.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import structlog
from celery.worker.control import Panel

from archive import db
from tasks import operations, slots
from tasks.errors import ConflictError, NotFoundError
from tasks.query import TaskQuery
from tasks.store import By
from workers.queues import ids_of

_log = structlog.get_logger()

_COMMAND = "revoke"


def replace_command() -> None:
    """Put our command in the place of Celery's; once per worker process."""
    original = Panel.data[_COMMAND]

    def revoke(state: Any, task_id: Any, terminate: bool = False, signal: str | None = None, **options: Any) -> Any:
        """Cancel the tasks of these runs; stop the runs, at once where `terminate` is given."""
        asked = [task_id] if isinstance(task_id, str) else list(task_id or ())
        runs = [name for name in asked if ids_of(name) is not None]
        others = [name for name in asked if name not in runs]
        # The main thread must not wait for the database.
        threading.Thread(target=_cancel, args=(runs, terminate, signal, original, state), daemon=True).start()
        if others:
            return original(state, others, terminate=terminate, signal=signal, **options)
        return {"ok": f"tasks of runs {', '.join(runs)} are cancelled"}

    Panel.data[_COMMAND] = revoke


def is_open(run_id: int) -> bool:
    """Tell whether a run has not ended; its task may have been rescheduled and run anew since."""
    with db.transaction() as session:
        found = slots.leases(session, [run_id])
    return bool(found) and not found[0].has_ended


def _cancel(runs: Iterable[str], terminate: bool, signal: str | None, original: Any, state: Any) -> None:
    for name in runs:
        found = ids_of(name)
        if found is None:
            continue
        task_id, run_id = found
        try:
            if not is_open(run_id):
                # Revoking an old run must not cancel a new one.
                _log.info("revoke changes nothing", run=name, why="the run has ended")
                continue
            operations.cancel_one(task_id, TaskQuery(), By("remote control", "revoked"))
        except (ConflictError, NotFoundError) as said:
            # Every worker hears the command; the first one has cancelled it.
            _log.info("revoke changes nothing", run=name, why=str(said))
        except db.OUTAGES as outage:
            _log.error("database away, not revoked", run=name, error=db.first_line(outage))
            continue
        if terminate:
            original(state, [name], terminate=True, signal=signal or "KILL")
