"""`arcfleet intake`: a small Celery worker that turns the messages of other services into tasks.

Its message is the only copy of a job, so it is acknowledged only when the row of the task, or the reason
of its refusal, is committed; what is delivered twice is recognized by its id.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import structlog
from celery import Celery, bootsteps, signals
from celery.exceptions import Reject
from celery.worker import state
from sqlalchemy.exc import InternalError, ProgrammingError

from archive import db
from config.errors import ConfigError
from tasks import intake, job_messages
from tasks.errors import InvalidError
from tasks.intake import Answer, Message
from tasks.job_schema import PREFIX
from tasks.registry import load_kinds
from workers import celery_options, dispatch, node
from workers.app import app as engine_app
from workers.queues import INTAKE, declared

_log = structlog.get_logger()

#: Seconds between two tries while the database is away.
_RETRY_EVERY_S = 0.5

#: What is no fault of the message: trying again later helps (a schema that is being upgraded is a ProgrammingError).
_AWAY = (*db.OUTAGES, InternalError, ProgrammingError, ConfigError)

#: Seconds between two looks at what may run: a look costs as much as two messages.
_DISPATCH_PAUSE_S = 0.25

T = TypeVar("T")


class StoppingError(Exception):
    """The worker stops while the database is away; the message must come again."""


def receive(request: Any, *args: Any, **said: Any) -> None:
    """Celery's entrance, one for each kind: answer one message."""
    context = request.request
    kind = names()[context.task]
    try:
        answer = hold(lambda: _answer(context.id, context.task, kind, _Content(args, said, context.origin)))
    except StoppingError as error:
        raise Reject(str(error), requeue=True) from error
    _tell(answer)


def refuse(message_id: object, why: str) -> None:
    """Keep that a message is refused before it could be read; one without a usable id leaves only a line in the log.

    Raises:
        StoppingError: the worker stops, and nothing is kept.
    """
    try:
        usable = intake.check_id(message_id)
    except InvalidError as error:
        _log.warning("message refused", error=f"{why}; {error}")
        return
    _tell(hold(lambda: intake.refuse(usable, why)))


def hold(answer: Callable[[], T]) -> T:
    """Return the answer, tried again while the database or the configuration is away.

    Raises:
        StoppingError: the worker was asked to stop meanwhile.
    """
    while True:
        try:
            return answer()
        except _AWAY as outage:
            _log.warning("database away, the message waits", error=db.first_line(outage))
            if state.should_stop is not None or state.should_terminate is not None:
                raise StoppingError("the worker stops while the database is away") from outage
            time.sleep(_RETRY_EVERY_S)


@cache
def names() -> Mapping[str, str]:
    """Return the kinds of task by the name of the message that asks for one."""
    return {PREFIX + kind.slug: name for name, kind in load_kinds().items()}


def make_app() -> Celery:
    """Return the application: one Celery task for each kind, `schedule.export` and its like."""
    made = Celery(INTAKE, set_as_current=False)
    made.add_defaults(celery_options.of_intake)
    for name in names():
        # Not shared: no worker of a device takes these, and this one takes nothing else.
        made.task(receive, name=name, bind=True, shared=False)
    made.steps["worker"].add(IntakeStep)
    return made


def run(log_level: str) -> None:
    """Serve the channel until the process is told to end."""
    app.worker_main(["--quiet", "worker", "--loglevel", log_level, "--without-mingle", "--without-gossip"])


def begin_anew() -> None:
    """Replace this process by a new one of the same command and id: what Celery keeps of a lost broker is unsound."""
    if _life is not None:
        _life.end()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command line


class IntakeStep(bootsteps.Step):  # type: ignore[misc]
    """Gives the worker its channel, its name and its signs of life before anything of it starts."""

    def __init__(self, parent: Any, **options: Any) -> None:
        global _life
        super().__init__(parent, **options)
        node.await_schema()
        registered = node.register(node.Place("", INTAKE, parent.hostname.partition("@")[2]), 1)
        parent.hostname = registered.name
        parent.app.amqp.queues = [declared(INTAKE)]
        _life = node.SignsOfLife(registered)
        _life.start()
        dispatch.start(engine_app, pause_s=_DISPATCH_PAUSE_S)
        signals.worker_shutdown.connect(_stopped, weak=False)


@dataclass(frozen=True, slots=True)
class _Content:
    positional: tuple[Any, ...]
    said: Mapping[str, Any]
    origin: str | None


def _answer(message_id: object, name: str, kind: str, content: _Content) -> Answer | None:
    try:
        usable = intake.check_id(message_id)
    except InvalidError as error:
        _log.warning("message refused", error=str(error))
        return None
    if content.positional:
        return intake.refuse(usable, f"{name}: expected keyword arguments only")
    message = Message(usable, name, kind, content.said, _host(content.origin))
    try:
        return intake.accept(message)
    except _AWAY:
        raise
    except Exception:  # noqa: BLE001 - a defect met by one message must not hold up all others
        _log.exception("message refused by a defect", message=usable)
        return intake.refuse(usable, "unexpected error, see the log of intake")


def _tell(answer: Answer | None) -> None:
    if answer is None or answer.repeated:
        return
    if answer.refused is None:
        _log.info("message accepted", message=answer.message_id, tasks=answer.task_ids)
    else:
        _log.warning("message refused", message=answer.message_id, error=answer.refused)


def _host(origin: str | None) -> str:
    """Return the host of a sender, which Celery writes as `gen42@host`."""
    host = origin.rpartition("@")[2] if isinstance(origin, str) else ""
    return host[: job_messages.LONGEST_KEY] if host.isprintable() and host else "unknown"


def _stopped(**_: Any) -> None:
    if _life is not None:
        _life.end()
    dispatch.stop()


_life: node.SignsOfLife | None = None

app = make_app()
