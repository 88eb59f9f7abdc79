"""A consumer that tries the broker again every second, however long it is away."""

from __future__ import annotations

from typing import Any

import structlog
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.state import maybe_shutdown

_log = structlog.get_logger()

_RETRY_EVERY_S = 1


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """Celery's consumer; stock back-off grows to 32 s and left a device idle long after its broker was back."""

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, trying again every second."""

        def say(error: BaseException, _interval: float) -> None:
            _log.warning("broker away, trying again", broker=conn.as_uri(), error=str(error))

        connected = conn.ensure_connection(
            say,
            None,
            interval_start=_RETRY_EVERY_S,
            interval_step=0,
            interval_max=_RETRY_EVERY_S,
            callback=maybe_shutdown,
        )
        self.first_connection_attempt = False
        self.broker_connection_retry_attempt = 0
        return connected
