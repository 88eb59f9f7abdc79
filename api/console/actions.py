"""Flower's own actions, kept true: revoking cancels the row first, the rest is for operators and audited."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import cast
from urllib.parse import urlencode

import structlog
from flower.api.control import ControlHandler
from flower.utils import strtobool
from tornado.web import HTTPError, RequestHandler

from api import audit, steering
from api.answers import Busy, Forbidden
from api.audit import Entry
from api.console.guard import Guarded
from api.gate import AwayError
from api.security import Caller
from archive import db
from archive.accounts import Role
from tasks import history
from tasks.errors import ConflictError, NotFoundError
from tasks.query import TaskQuery
from tasks.run import Run, Stop
from tasks.state import Event
from workers import revoke
from workers.broker import BrokerError
from workers.queues import ids_of

_log = structlog.get_logger()

#: Seconds that a run has to stop by itself before Celery ends its process.
_KILL_AFTER_S = 5.0
_SURE_SIGNAL = "SIGKILL"

#: What would make Flower say something that is not so, by the name of its handler: why, and what to do instead.
REFUSED = MappingProxyType(
    {
        "TaskApply": "tasks are made through REST or the intake channel, where they get their row",
        "TaskAsyncApply": "tasks are made through REST or the intake channel, where they get their row",
        "TaskSend": "tasks are made through REST or the intake channel, where they get their row",
        "TaskRateLimit": "runs that are held back by Celery would be sent again and again: "
        "set dcmMaxTasksParallel of the queue",
        "WorkerQueueAddConsumer": "a worker runs the tasks of its own device alone: start one with "
        "`arcfleet worker --device NAME`, or move the tasks",
        "WorkerQueueCancelConsumer": "its messages would be sent in vain: pause the device with "
        "`arcfleet device pause NAME`",
    }
)


class Refused(Guarded):
    """An action of Flower that would not keep what it says."""

    async def post(self, *_: str) -> None:
        """Say why not, and what to do instead."""
        name = type(self).__name__
        raise Forbidden(f"{name}: not done, {REFUSED[name]}")


class Audited(Guarded):
    """An action of Flower that is done as it is, and written down. Put in front of Flower's handler."""

    async def post(self, *of: str) -> None:
        """Do it, between the two halves of a row in the audit."""
        told = {name: [value.decode("utf-8", "replace") for value in values] for name, values in self._told().items()}
        what = f"{self.request.path}?{urlencode(told, doseq=True)}".rstrip("?")
        row_id = await self.work.run(partial(audit.begin, self.caller, type(self).__name__, what))
        outcome: str | None = "broke off"
        try:
            await cast("Awaitable[None]", super().post(*of))
            status = self.get_status()
            outcome = None if status < HTTPStatus.BAD_REQUEST else f"HTTP {status}"
        except HTTPError as error:
            outcome = f"HTTP {error.status_code}: {error.get_message()}"
            raise
        finally:
            with suppress(AwayError, *db.OUTAGES):  # then it stays unfinished
                await self.work.run(partial(audit.complete, row_id, Entry(count=1), outcome))

    def _told(self) -> dict[str, list[bytes]]:
        return {name: values for name, values in sorted(self.request.arguments.items()) if name != "_xsrf"}


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What revoking a run has done to its task."""

    text: str
    #: The run has not ended: its process may have to be stopped.
    run_is_open: bool


class Revoke(Guarded, ControlHandler):  # type: ignore[misc]
    """Revoke, terminate and abort: the task of the run is cancelled, then its run stops.

    A plain revoke gives the run 5 s to stop by itself; terminate ends its process at once.
    """

    roles = MappingProxyType({"POST": Role.SUBMITTER})

    async def post(self, name: str) -> None:
        """Cancel, then tell the workers."""
        terminate = strtobool(self.get_argument("terminate", "false"))
        # Celery takes a process for ended when it has sent the signal: it must be one that cannot be put off.
        signal = self.get_argument("signal", _SURE_SIGNAL)
        ids = ids_of(name)
        if ids is None:
            await self._revoke_other(name, terminate=terminate, signal=signal)
            return
        done = await self.work.run(partial(cancel_task_of_run, *ids, self.caller, insist=terminate))
        text = done.text
        if done.run_is_open and terminate:
            text += await self._tell_workers(name, signal)
        elif done.run_is_open:
            loop = self.console.io_loop
            loop.call_later(_KILL_AFTER_S, loop.spawn_callback, self._end_process, name, ids[1])
        self.write({"message": text})

    async def _tell_workers(self, name: str, signal: str) -> str:
        try:
            await self.console.tell_workers(name, terminate=True, signal=signal)
        except BrokerError as error:
            # Cancelled it is: its worker sees that in the database.
            return f"; its worker was not told ({error}), and ends it within {_KILL_AFTER_S:.0f} s"
        return ", its process is ended"

    async def _end_process(self, name: str, run_id: int) -> None:
        # Its worker does the same, as long as it reaches the database.
        with suppress(AwayError, *db.OUTAGES):
            if await self.work.run(partial(revoke.is_open, run_id)):
                _log.warning("run does not stop, its worker is told to end it", run=name)
                await self._tell_workers(name, _SURE_SIGNAL)

    async def _revoke_other(self, name: str, *, terminate: bool, signal: str) -> None:
        """Revoke what is no run of a task: a job of housekeeping, which comes again when it is due."""
        self.caller.must_be(Role.OPERATOR)
        entry = Entry(count=1)
        await self.work.run(partial(audit.write, self.caller, "RevokeMessage", name, entry))
        try:
            await self.console.tell_workers(name, terminate=terminate, signal=signal)
        except BrokerError as error:
            raise Busy(f"the broker does not answer ({error}); try again") from error
        self.write({"message": f"Revoked {name}"})


def cancel_task_of_run(task_id: int, run_id: int, caller: Caller, *, insist: bool) -> Cancelled:
    """Cancel the task that a run is or was an attempt of, unless it was rescheduled since.

    Args:
        task_id: the task.
        run_id: the run, which may have ended: Celery calls all attempts of a task by one name.
        caller: who wants it.
        insist: a run that still ends, of a task that is cancelled already, is no conflict.

    Raises:
        Forbidden: a submitter did not make the task.
        ConflictError: there is nothing to cancel any more.
        NotFoundError: the task is gone.
    """
    with db.transaction() as session:
        run = session.get(Run, run_id)
        if run is None or run.task_id != task_id:
            raise NotFoundError(f"No such Run : {task_id}.{run_id}")
        rescheduled = run.stop_reason == Stop.RESCHEDULE or any(
            one.event == Event.RESCHEDULE and one.at >= run.reserved_at for one in history.of_task(session, task_id)
        )
    try:
        if rescheduled:
            raise ConflictError(f"Task {task_id} was rescheduled since run {run_id}: cancel it on its own page")
        steering.cancel_one(task_id, TaskQuery(), caller, action="RevokeTask")
    except (ConflictError, NotFoundError) as said:
        if not (insist and revoke.is_open(run_id)):
            raise
        return Cancelled(f"{said}; its run {run_id} still ends", run_is_open=True)
    return Cancelled(f"Task {task_id} is CANCELED", run_is_open=revoke.is_open(run_id))


def replaced(handler: type[RequestHandler]) -> type[RequestHandler]:
    """Return what stands in the place of a handler of Flower: guarded, audited, refused or ours."""
    name = handler.__name__
    if name in {"TaskRevoke", "TaskAbort"}:
        return Revoke
    if name in REFUSED:
        return type(name, (Refused, handler), {})
    if name == "TasksDataTable":
        # It takes its filters in the body.
        return type(name, (Guarded, handler), {"roles": {"GET": Role.READER, "POST": Role.READER}})
    if "post" in vars(handler) and issubclass(handler, ControlHandler):
        return type(name, (Audited, handler), {})
    return type(name, (Guarded, handler), {})
