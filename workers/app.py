"""The Celery application: `celery -A workers.app worker --device NAME`, `celery -A workers.app beat`."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.signals import setup_logging
from click import Option

from config import settings
from config.errors import SettingsError
from tasks import registry
from workers import execute, housekeeping, logs
from workers.device_step import DeviceStep, HeartbeatStep

#: Seconds that a socket of a worker may stay silent; longer than the broker's own blocking read.
_SOCKET_TIMEOUT_S = 5


def _configuration() -> dict[str, Any]:
    """Return the settings of Celery; read at first use, so that `--help` needs no broker."""
    try:
        current = settings.current()
        broker = current.broker()
    except SettingsError as error:
        # Celery reads this in the middle of its own start: a line for the user, not its traceback.
        raise SystemExit(f"arcfleet: {error}") from error
    return {
        "broker_url": broker,
        # A spawned process of the pool imports this first; tasks are shared with the copy of the app it gets.
        "include": ["workers.app"],
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # Early acknowledgement, nothing prefetched, no books of unacknowledged messages:
        # the row is the truth, redelivery by the broker is not wanted (docs/decisions/0005).
        "broker_transport_options": {
            "ack_emulation": False,
            "socket_timeout": _SOCKET_TIMEOUT_S,
            "socket_connect_timeout": 1,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
        "task_acks_late": False,
        "task_reject_on_worker_lost": False,
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 1,
        "task_ignore_result": True,
        "result_backend": None,
        "task_store_errors_even_if_ignored": False,
        "task_create_missing_queues": True,
        "accept_content": ["json"],
        "task_serializer": "json",
        "event_serializer": "json",
        "worker_pool_start_method": "spawn",
        # Seconds until a new process of the pool must have said that it is there. Celery's 4 s are too short for a
        # busy machine: each one was killed on its way, and the device stood still as long as the load lasted.
        "worker_proc_alive_timeout": 60.0,
        "worker_send_task_events": True,
        "task_send_sent_event": False,
        "worker_consumer": "workers.consumer:Consumer",
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_enable_prefetch_count_reduction": False,
        "beat_scheduler": "workers.beat:LeaderScheduler",
        "beat_max_loop_interval": 1,
        "timezone": "UTC",
        "enable_utc": True,
    }


def make_app() -> Celery:
    """Return the application with one Celery task for each kind, and what `--device` needs."""
    made = Celery("arcfleet", set_as_current=False)
    made.add_defaults(_configuration)
    for kind in registry.load_kinds().values():
        made.task(execute.run, name=f"run.{kind.slug}", bind=True)
    made.task(housekeeping.run, name="housekeeping.run")
    made.user_options["worker"].add(Option(["--device"], help="Name of the archive device whose tasks are run."))
    made.user_options["worker"].add(
        Option(["--housekeeping"], is_flag=True, help="Serve the device's housekeeping channel.")
    )
    made.steps["worker"].add(DeviceStep)
    made.steps["worker"].add(HeartbeatStep)
    return made


def _set_up_logging(**_: Any) -> None:
    logs.set_up()


setup_logging.connect(_set_up_logging)


app = make_app()
