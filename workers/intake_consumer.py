"""How intake takes messages: none that cannot be read is lost without a trace, and a lost broker is begun with anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from workers import intake
from workers.consumer import Consumer

_log = structlog.get_logger()

#: What would keep a message in this process, or throw it away, behind the sender's back; and what to do instead.
_NOT_HERE = {
    "eta": "Celery's eta and countdown are not obeyed here: expected scheduledTime in the message",
    "expires": "Celery's expires is not obeyed here: expected a message without it",
}


class IntakeConsumer(Consumer):
    """Celery's consumer; what it would only log is kept as a refusal."""

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Return what takes each message."""
        inner = super().create_task_handler(*args, **kwargs)

        def take(message: Any) -> None:
            headers = message.headers if isinstance(message.headers, Mapping) else {}
            why = _improper(headers)
            if why is None:
                inner(message)
            else:
                self._refuse(message, why)

        return take

    def on_invalid_task(self, body: Any, message: Any, exc: Any) -> None:
        """Refuse a body that is not JSON, or no arguments."""
        del body
        self._refuse(message, f"unreadable: {exc}")

    def on_decode_error(self, message: Any, exc: Any) -> None:
        """Refuse a body that cannot be decoded."""
        self._refuse(message, f"unreadable: {exc}")

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Begin anew when the broker was away."""
        _log.warning("broker away, beginning anew", error=str(exc))
        intake.begin_anew()

    def _refuse(self, message: Any, why: str) -> None:
        headers = message.headers if isinstance(message.headers, Mapping) else {}
        try:
            intake.refuse(headers.get("id"), why)
        except intake.StoppingError:
            return  # not acknowledged: it comes again
        message.ack_log_error(_log, self.connection_errors)


def _improper(headers: Mapping[str, Any]) -> str | None:
    """Return why a message cannot be taken as it is; None: it can."""
    if "task" not in headers or "id" not in headers:
        return "expected a Celery message, protocol 2"
    if headers["task"] not in intake.names():
        return f"unknown task {ascii(headers['task'])[:80]}, expected one of {', '.join(sorted(intake.names()))}"
    return next((why for name, why in _NOT_HERE.items() if headers.get(name)), None)
