"""`arcfleet dicom`: the DICOM service of a device."""

from __future__ import annotations

import click

from api import addresses
from api.cli import program
from archive.dicom import listening
from archive.errors import NotConfigured
from tasks.operations import our_device
from workers import dicom as service

#: Connections that wait until a process takes them.
_BACKLOG = 512


@click.command()
@click.option("--device", required=True, help="Name of the archive device whose AEs are served.")
@click.option("--offset", type=click.IntRange(0, 50000), default=0, help="Added to each port.")
@click.option("--processes", type=click.IntRange(1, 64), help="Default: one per core, at most 4.")
@click.option("--inherited", hidden=True, help="Be one of the processes, with these descriptors.")
def dicom(device: str, offset: int, processes: int | None, inherited: str | None) -> None:
    """Answer C-ECHO and C-STORE on the DICOM connections of a device.

    Example: arcfleet dicom --device archive-a
    """
    if inherited is None:
        _run(device, offset, processes or service.processes_by_default())
    else:
        service.serve(device, service.Shared.heard(inherited))


def _run(device: str, offset: int, processes: int) -> None:
    nursery = service.open_nursery()
    service.prepare()
    found = our_device(device)
    places = listening.of(found, offset=offset)
    for connection in listening.for_tls(found):
        _say(f"connection {connection.name} of device {device} is for TLS, which is not spoken yet: not listened on")
    if not places:
        raise NotConfigured(
            f"device {device} has no DICOM connection with a port, without TLS, on which one of its AEs accepts "
            "associations; expected at least one"
        )
    listeners = [
        (addresses.listen(address, backlog=_BACKLOG), place.connections)
        for address, place in zip(addresses.of_dicom([found], offset=offset), places, strict=True)
    ]
    where = "; ".join(f"{place.host}:{place.port} ({', '.join(place.titles)})" for place in places)
    service.Parent(device, listeners, processes, nursery).run(
        [*program.command(), "dicom", "--device", device, "--inherited"],
        ready=lambda: click.echo(f"arcfleet dicom: {device} listens on {where}"),
        say=_say,
    )


def _say(line: str) -> None:
    click.echo(f"arcfleet dicom: {line}", err=True)
