"""How intake takes messages: none that cannot be read is lost without a trace, and a lost broker is begun with anew."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from celery.worker import state
from kombu.exceptions import KombuError

from workers import intake
from workers.consumer import Consumer

_log = structlog.get_logger()

#: What Celery would obey behind the sender's back or ours; and what to do instead.
_NOT_HERE = {
    "eta": "Celery's eta and countdown are not obeyed here: expected scheduledTime in the message",
    "expires": "Celery's expires is not obeyed here: expected a message without it",
}

#: What reading a body can raise.
_UNREADABLE = (KombuError, ValueError, TypeError, LookupError, OSError, zlib.error)


class IntakeConsumer(Consumer):
    """Celery's consumer; what it would only log, or stumble over, is kept as a refusal."""

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Return what takes each message."""
        inner = super().create_task_handler(*args, **kwargs)

        def take(message: Any) -> None:
            why = _improper(message)
            if why is None:
                inner(message)
            else:
                self._refuse(message, why)

        return take

    def on_invalid_task(self, body: Any, message: Any, exc: Any) -> None:
        """Refuse what Celery finds wrong besides."""
        del body
        self._refuse(message, f"unreadable: {exc}")

    def on_decode_error(self, message: Any, exc: Any) -> None:
        """Refuse what cannot even be unpacked."""
        self._refuse(message, f"unreadable: {exc}")

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Begin anew when the broker was away."""
        _log.warning("broker away, beginning anew", error=str(exc))
        intake.begin_anew()

    def _refuse(self, message: Any, why: str) -> None:
        try:
            intake.refuse(_headers(message).get("id"), why)
        except intake.StoppingError:
            return  # not acknowledged: it comes again
        message.ack_log_error(_log, self.connection_errors)


def _improper(message: Any) -> str | None:
    """Return why a message cannot be taken as it is; None: it can."""
    headers = _headers(message)
    if "task" not in headers or "id" not in headers:
        return "expected a Celery message, protocol 2"
    if headers["task"] not in intake.names():
        return f"unknown task {ascii(headers['task'])[:80]}, expected one of {', '.join(sorted(intake.names()))}"
    if isinstance(headers["id"], str) and headers["id"] in state.revoked:
        return "revoked by an operator before it was taken"
    try:
        body = message.payload
    except _UNREADABLE as error:
        return f"unreadable: {error}"
    match body:
        case [list(), dict(), dict() as further] if any(further.values()):
            # They would let a sender that may write to this channel alone send to all others.
            return "Celery's callbacks, chains and chords are not obeyed here: expected a message without them"
        case [list(), dict(), dict()]:
            return next((why for name, why in _NOT_HERE.items() if headers.get(name)), None)
    return "expected a body of arguments, keyword arguments and options: [[], {...}, {}]"


def _headers(message: Any) -> Mapping[str, Any]:
    return message.headers if isinstance(message.headers, Mapping) else {}
