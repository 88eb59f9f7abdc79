"""`arcfleet worker`: the two Celery nodes of a device, started and ended together."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import click

from archive import schema
from config import settings
from tasks.operations import our_device
from workers import logs
from workers.supervise import Command, Supervisor

#: Seconds that both nodes may take to hand their tasks back and end.
_STOP_S = 10.0


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
    logs.set_up()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    supervisor = Supervisor(lambda line: click.echo(line, err=True))
    for command in commands(found.name, concurrency):
        supervisor.start(command)
    while not ended.wait(0.2):
        supervisor.check()
    supervisor.stop(timeout_s=_STOP_S)


def commands(device: str, concurrency: int | None) -> list[Command]:
    """Return the commands of the two nodes."""
    base = [*_celery(), "-A", "workers.app", "worker", "--device", device]
    base += ["--without-mingle", "--without-gossip", "--loglevel", settings.current().log]
    size = ["--concurrency", str(concurrency)] if concurrency else []
    logs_folder = settings.current().home / "logs"
    return [
        Command(f"worker {device}", [*base, *size], logs_folder / f"node-{device}.log"),
        Command(f"housekeeping {device}", [*base, "--housekeeping"], logs_folder / f"node-{device}-housekeeping.log"),
    ]


def _celery() -> list[str]:
    # The installed script: `python -m` would look for our packages in the working directory first.
    script = Path(sys.executable).with_name("celery")
    return [str(script)] if script.exists() else [sys.executable, "-m", "celery"]
