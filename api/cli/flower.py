"""`arcfleet flower`: Flower with pages of ours."""

from __future__ import annotations

import click

from api.console import serve


@click.command()
@click.option("--offset", type=click.IntRange(0, 50000), default=0, help="Added to the port if it is not set.")
def flower(offset: int) -> None:
    """Show workers, runs and tasks in a browser, on ARCFLEET_FLOWER_HOST and ARCFLEET_FLOWER_PORT.

    Example: arcfleet flower --offset 100
    """
    serve.serve(offset)
