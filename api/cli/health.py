"""`arcfleet health`: whether a process of ours on this machine does its work, for containers and supervisors."""

from __future__ import annotations

import platform
import socket
from collections.abc import Callable, Mapping

import click
import httpx
from sqlalchemy import func, select

from api import addresses
from api.addresses import Address
from api.cli import connection
from archive import db
from config import settings
from tasks.control import Leader, WorkerNode
from tasks.operations import our_device
from workers import node
from workers.queues import INTAKE, channel_of

#: Seconds for one answer.
_ANSWER_S = 5.0


class _Unwell(click.ClickException):
    """The process does not do its work."""


@click.command()
@click.argument("what", type=click.Choice(["api", "beat", "dicom", "flower", "intake", "worker"]))
@click.option("--device", help="Of a worker or a DICOM service.")
def health(what: str, device: str | None) -> None:
    """See whether a process of this machine works; exit code 1 if it does not.

    Example: arcfleet health worker --device archive-a
    """
    connection.log_little()
    if (what in _OF_A_DEVICE) != (device is not None):
        raise click.UsageError(f"{what}: expected {'--device with it' if device is None else 'no --device with it'}")
    click.echo(_OF_A_DEVICE[what](device) if device is not None else _OF_THE_CLUSTER[what]())


def _worker(device: str) -> str:
    name = our_device(device).name
    return " ".join(_node(channel) for channel in (channel_of(name), channel_of(name, housekeeping=True)))


def _dicom(device: str) -> str:
    found = our_device(device)
    ports = [
        (addresses.reached(one.bind_address or one.hostname), one.port)
        for one in found.installed_connections(tuple(found.connections), "DICOM")
        if one.port is not None
    ]
    if not ports:
        raise _Unwell(f"{device} has no DICOM connection")
    for host, port in ports:
        try:
            socket.create_connection((host, port), timeout=_ANSWER_S).close()
        except OSError as error:
            raise _Unwell(f"{device} at {host}:{port}: {error}") from error
    return " ".join(f"{host}:{port} listens" for host, port in ports)


def _api() -> str:
    return _get(addresses.own_address(settings.current(), offset=0).url + "/health/ready")


def _flower() -> str:
    given = settings.current()
    return _get(f"{Address(given.flower_host, given.flower_port, 'Flower').url}/healthcheck")


def _intake() -> str:
    return _node(INTAKE)


def _beat() -> str:
    # One of several leads, wherever it is; the others are well if they let it.
    with db.transaction() as session:
        holder = session.scalar(select(Leader.holder).where(Leader.until > func.clock_timestamp()))
    if holder is None:
        raise _Unwell("no beat leads")
    return f"{holder} leads"


#: Numbers and names come by the host: a container has a name of its own.
_OF_A_DEVICE: Mapping[str, Callable[[str], str]] = {"worker": _worker, "dicom": _dicom}
_OF_THE_CLUSTER: Mapping[str, Callable[[], str]] = {"api": _api, "beat": _beat, "flower": _flower, "intake": _intake}


def _node(channel: str) -> str:
    here = platform.node()
    with db.transaction() as session:
        found = session.scalars(node.alive(channel).where(WorkerNode.host == here)).first()
    if found is None:
        raise _Unwell(f"no node of {channel} on {here} was seen lately")
    return f"{found} lives"


def _get(url: str) -> str:
    try:
        answer = httpx.get(url, timeout=_ANSWER_S, trust_env=False)
    except httpx.TransportError as error:
        raise _Unwell(f"{url}: {error}") from error
    if answer.status_code != httpx.codes.OK:
        raise _Unwell(f"{url}: status {answer.status_code}: {answer.text[:200]}")
    return f"{url} answers"
