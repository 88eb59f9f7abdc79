"""Flower's thread that hears what workers do; it comes back a second after its broker did."""

from __future__ import annotations

import time

import structlog
from celery.events import EventReceiver
from flower.events import Events

_log = structlog.get_logger()

_RETRY_EVERY_S = 1.0


class Listener(Events):  # type: ignore[misc]
    """Hears events; Flower's own doubles its pause with every try, and stayed deaf for minutes after an outage."""

    def run(self) -> None:
        """Listen, and connect again whenever that fails."""
        is_away = False
        while True:
            try:
                with self.capp.connection() as connection:
                    receiver = EventReceiver(connection, handlers={"*": self.on_event}, app=self.capp)
                    connection.ensure_connection(max_retries=1)
                    if is_away:
                        _log.info("broker is back, events are heard")
                    is_away = False
                    receiver.capture(limit=None, timeout=None, wakeup=True)
            except Exception as error:  # noqa: BLE001 - whatever a broken connection raises, hearing goes on
                if not is_away:
                    _log.warning("broker away, no events are heard", error=str(error))
                is_away = True
                time.sleep(_RETRY_EVERY_S)
