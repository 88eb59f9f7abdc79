"""What Celery is told: the broker, how patient its sockets are, and when a message is gone."""

from __future__ import annotations

from typing import Any

from config import settings
from config.errors import SettingsError

#: Seconds that a socket of a worker may stay silent; longer than the broker's own blocking read.
_SOCKET_TIMEOUT_S = 5

#: Seconds after which a message that its taker did not acknowledge is given to another one.
VISIBILITY_TIMEOUT_S = 60

#: Messages that intake holds at once on RabbitMQ; one by one each would wait for the broker's answer to the last.
_PREFETCHED = 50


def of_runs() -> dict[str, Any]:
    """Return the options of the devices' workers and of whoever sends to them: a message is gone when taken.

    The row is the truth, redelivery by the broker is not wanted (docs/decisions/0005).
    """
    broker = _broker()
    books = {"ack_emulation": False} if _is_redis(broker) else {}
    return {
        **_common(broker, books),
        # A spawned process of the pool imports this first; tasks are shared with the copy of the app it gets.
        "include": ["workers.app"],
        "task_acks_late": False,
        "task_reject_on_worker_lost": False,
        "worker_disable_prefetch": _is_redis(broker),
        "worker_pool_start_method": "spawn",
        # Seconds until a new process of the pool must have said that it is there. Celery's 4 s are too short for a
        # busy machine: each one was killed on its way, and the device stood still as long as the load lasted.
        "worker_proc_alive_timeout": 60.0,
        "worker_consumer": "workers.consumer:Consumer",
        "beat_scheduler": "workers.beat:LeaderScheduler",
        "beat_max_loop_interval": 1,
    }


def of_intake() -> dict[str, Any]:
    """Return the options of intake: its message is the only copy of a job, and is kept until its row is committed."""
    broker = _broker()
    books = {
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        # Books of its own: what other programs on this broker have taken must not be given out again by us.
        "unacked_key": "arcfleet.intake.unacked",
        "unacked_index_key": "arcfleet.intake.unacked_index",
        "unacked_mutex_key": "arcfleet.intake.unacked_mutex",
    }
    return {
        **_common(broker, books if _is_redis(broker) else {}),
        "task_acks_late": True,
        "worker_pool": "solo",
        "worker_concurrency": 1,
        # RabbitMQ gives out at once what a dead taker held, Redis after the visibility timeout.
        "worker_prefetch_multiplier": 1 if _is_redis(broker) else _PREFETCHED,
        "worker_consumer": "workers.intake_consumer:IntakeConsumer",
    }


def _common(broker: str, books: dict[str, Any]) -> dict[str, Any]:
    return {
        "broker_url": broker,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # Seconds; of RabbitMQ, Redis knows none.
        "broker_heartbeat": 10,
        "broker_transport_options": {**_sockets(broker), **books},
        "worker_prefetch_multiplier": 1,
        "task_ignore_result": True,
        "result_backend": None,
        "task_store_errors_even_if_ignored": False,
        "task_create_missing_queues": True,
        "accept_content": ["json"],
        "task_serializer": "json",
        "event_serializer": "json",
        "worker_send_task_events": True,
        "task_send_sent_event": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_enable_prefetch_count_reduction": False,
        "timezone": "UTC",
        "enable_utc": True,
    }


def _sockets(broker: str) -> dict[str, Any]:
    if _is_redis(broker):
        return {
            "socket_timeout": _SOCKET_TIMEOUT_S,
            "socket_connect_timeout": 1,
            "socket_keepalive": True,
            "health_check_interval": 25,
        }
    # RabbitMQ: what is published counts as sent only when the broker has confirmed it.
    return {"confirm_publish": True}


def _broker() -> str:
    try:
        return settings.current().broker()
    except SettingsError as error:
        # Celery reads this in the middle of its own start: a line for the user, not its traceback.
        raise SystemExit(f"arcfleet: {error}") from error


def _is_redis(broker: str) -> bool:
    return broker.partition("://")[0].startswith("redis")
