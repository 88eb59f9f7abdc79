"""`arcfleet beat`: the clock of the cluster; start as many as you like, one leads."""

from __future__ import annotations

import click

from archive import schema
from config import settings
from workers.app import app


@click.command()
def beat() -> None:
    """Sweep, rescue, and send housekeeping to the devices; one of several leads.

    Example: arcfleet beat
    """
    schema.check(settings.current().database())
    app.start(["beat", "--loglevel", settings.current().log])
