"""`arcfleet api`: the REST services."""

from __future__ import annotations

import click

from api import serve


@click.command()
@click.option("--device", help="Listen on the HTTP connections of this device only.")
@click.option("--offset", type=click.IntRange(0, 50000), default=0, help="Added to each port not set explicitly.")
def api(device: str | None, offset: int) -> None:
    """Answer REST requests on ARCFLEET_API_HOST and ARCFLEET_API_PORT and on the devices' HTTP connections.

    Example: arcfleet api --device archive-a
    """
    serve.serve(device, offset)
