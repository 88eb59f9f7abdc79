"""`arcfleet worker`: the two Celery nodes of a device, started and ended together."""

from __future__ import annotations

import sys
from pathlib import Path

import click

import workers
from archive import schema
from config import settings
from tasks.operations import our_device
from workers import pair

#: Between two signs of life that Flower hears; by its own default of 2 s it takes a worker for dead after 4.
_EVENTS_EVERY_S = "5"

_BEGIN = "import sys; sys.path.append(sys.argv.pop(1)); import workers.app; from celery.__main__ import main; main()"


@click.command()
@click.option("--device", required=True, help="Name of the archive device whose tasks are run.")
@click.option("--concurrency", type=click.IntRange(1, 256), help="Processes at most; default 8.")
def worker(device: str, concurrency: int | None) -> None:
    """Run the tasks of a device, and its housekeeping in a node of its own.

    The same as `celery -A workers.app worker --device NAME`, and once more with `--housekeeping`.

    Example: arcfleet worker --device archive-a
    """
    schema.check(settings.current().database())
    settings.current().broker()
    found = our_device(device)
    pair.become(found.name, commands(found.name, concurrency))


def commands(device: str, concurrency: int | None) -> list[pair.Node]:
    """Return the commands of the two nodes."""
    base = [*_celery(), "-A", "workers.app", "worker", "--device", device]
    base += ["--without-mingle", "--without-gossip", "--loglevel", settings.current().log]
    base += ["--heartbeat-interval", _EVENTS_EVERY_S]
    size = ["--concurrency", str(concurrency)] if concurrency else []
    logs_folder = settings.current().home / "logs"
    return [
        pair.Node(f"worker {device}", [*base, *size], logs_folder / f"node-{device}.log"),
        pair.Node(f"housekeeping {device}", [*base, "--housekeeping"], logs_folder / f"node-{device}-housekeeping.log"),
    ]


def _celery() -> list[str]:
    # Celery's own script looks for `workers` in the working directory first; here it is imported before that.
    return [sys.executable, "-P", "-c", _BEGIN, str(Path(workers.__file__).resolve().parents[1])]
