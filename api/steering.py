"""What REST and the pages do alike when they change tasks: whose a caller may cancel, and the line in the audit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from api import audit
from api.answers import Forbidden
from api.security import Caller
from archive import db
from archive.accounts import Role
from tasks import operations
from tasks import query as queries
from tasks.bulk import BulkResult
from tasks.errors import NotFoundError
from tasks.query import TaskQuery
from tasks.state import Event, Status, may

_CANCELABLE = tuple(status for status in Status if may(status, Event.CANCEL))


def cancelable(wanted: TaskQuery, caller: Caller) -> TaskQuery:
    """Return which of these tasks the caller may cancel: a submitter only its own, nobody those that are done."""
    only_of = None if caller.may(Role.OPERATOR) else caller.name
    return replace(wanted, statuses=wanted.statuses or _CANCELABLE, requester_user=only_of)


def cancel_one(task_id: int, path: TaskQuery, caller: Caller, *, action: str = "CancelTask") -> None:
    """Cancel one task, if the caller may.

    Args:
        task_id: the task.
        path: what else it must fit.
        caller: who wants it.
        action: what the audit calls it.

    Raises:
        Forbidden: a submitter did not make the task.
        NotFoundError: there is none with this id that fits the path.
        ConflictError: it is done.
    """
    if not caller.may(Role.OPERATOR):
        _refuse_foreign(task_id, path, caller)
    with audit.recorded(caller, action, str(task_id)) as entry:
        operations.cancel_one(task_id, path, caller.by)
        entry.count = 1


def recorded(caller: Caller, action: str, what: str, run: Callable[[], BulkResult]) -> BulkResult:
    """Make a bulk change, with its line in the audit."""
    with audit.recorded(caller, action, what) as entry:
        result = run()
        entry.count, entry.failed = result.count, result.failed
    return result


def _refuse_foreign(task_id: int, path: TaskQuery, caller: Caller) -> None:
    with db.transaction() as session:
        found = list(queries.find(session, replace(path, ids=(task_id,))))
    if not found:
        raise NotFoundError(f"No such Task : {task_id}")
    if found[0].requester_user != caller.name:
        raise Forbidden(f"Task {task_id} was not made by {caller.name}: a submitter cancels only its own")
