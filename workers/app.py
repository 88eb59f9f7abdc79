"""The Celery application: `celery -A workers.app worker --device NAME`, `celery -A workers.app beat`."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.signals import setup_logging
from click import Option

from tasks import registry
from workers import celery_options, execute, housekeeping, logs
from workers.device_step import DeviceStep, HeartbeatStep


def make_app() -> Celery:
    """Return the application with one Celery task for each kind, and what `--device` needs."""
    made = Celery("arcfleet", set_as_current=False)
    made.add_defaults(celery_options.of_runs)
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
