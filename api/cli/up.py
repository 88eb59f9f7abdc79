"""`arcfleet up`: everything that a cluster needs, on this machine, until it is told to end."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import click
import httpx
from pydantic import SecretStr

from api import addresses, security
from api.addresses import Address
from api.cli import program
from archive import configuration, db, schema
from archive.dicom import echo
from archive.dicom.peer import Limits, Peer
from archive.errors import PeerError, PeerRejected
from config import entries, settings, source
from config.device import Cluster, Device
from config.errors import ConfigError, SettingsError
from config.settings import Settings
from workers.embedded import runfile
from workers.embedded.servers import Servers
from workers.supervise import Command, Supervisor

#: An orderly end may take 15 s; the servers get what is left of it.
_CHILDREN_STOP_S = 11.0
_CHECK_S = 0.1
#: The same when all is there.
_LOOK_S = 1.0
_TELL_WAITING_S = 30.0
_ECHO_LIMITS = Limits(connect_s=1, accept_s=2, response_s=2, send_s=2, release_s=1)
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Stopped(BaseException):
    """Somebody asked for the end; no error, so that nothing on the way takes it for one."""


@click.command()
@click.option("--home", type=click.Path(file_okay=False), help="Folder of all data (ARCFLEET_HOME).")
@click.option("--offset", type=click.IntRange(0, 50000), default=0, help="Added to each port not set explicitly.")
@click.option("--devices", help="Names of the devices to run here, with commas between (ARCFLEET_DEVICES).")
@click.option("--only-servers", is_flag=True, help="Run PostgreSQL and Valkey only.")
def up(home: str | None, offset: int, devices: str | None, *, only_servers: bool) -> None:
    """Run all of arcfleet on this machine, with a database and a broker of its own where none is configured.

    Example: arcfleet up --offset 100
    """
    settings.override(home=home, devices=devices)
    given = settings.current()
    with _until_stopped(), runfile.locked(given.home):
        _say(f"home {given.home}, {_free_space(given.home)} free")
        if only_servers:
            _run_servers(given, offset)
        else:
            _run_all(given, offset)


def commands(devices: Iterable[Device], *, offset: int, logs: Path) -> list[Command]:
    """Return the processes that a cluster needs: a worker and a DICOM service per device, one each of the others."""
    devices = list(devices)
    move = ["--offset", str(offset)]
    receiving = {address.owner for address in addresses.of_dicom(devices, offset=offset)}
    wanted = {f"worker {device.name}": ["worker", "--device", device.name] for device in devices}
    wanted |= {"intake": ["intake"], "beat": ["beat"], "api": ["api", *move], "flower": ["flower", *move]}
    wanted |= {f"dicom {name}": ["dicom", "--device", name, *move] for name in sorted(receiving)}
    begin = program.command()
    return [
        Command(name, [*begin, *arguments], logs / f"{name.replace(' ', '-')}.log")
        for name, arguments in wanted.items()
    ]


def _run_servers(given: Settings, offset: int) -> None:
    with _servers(given, offset) as servers:
        supervisor = Supervisor(_say)
        _watch_servers(supervisor, servers)
        _ready([server.url for server in servers.embedded])
        _supervise_for_ever(supervisor)


def _run_all(given: Settings, offset: int) -> None:
    cluster = _cluster_of_source(given)
    if cluster is not None:
        addresses.refuse_busy(_listening(given, cluster, offset))
    with _servers(given, offset) as servers:
        if cluster is None:
            cluster = configuration.current()
            addresses.refuse_busy(_listening(given, cluster, offset))
        listening = _listening(given, cluster, offset)
        _write_run_file(given.home, servers, offset, listening)
        rest = [address for address in listening if address.ae_title is None]
        security.refuse_open_door([f"{address.host}:{address.port}" for address in rest])
        supervisor = Supervisor(_say)
        _watch_servers(supervisor, servers)
        try:
            for command in commands(_devices(given, cluster), offset=offset, logs=given.home / "logs"):
                supervisor.start(command)
            _wait_for_answers(listening, supervisor)
            _ready([address.url for address in listening])
            _supervise_for_ever(supervisor)
        finally:
            supervisor.stop(timeout_s=_CHILDREN_STOP_S)


@contextmanager
def _until_stopped() -> Iterator[None]:
    """Turn the first signal that asks for the end into the end of the block; later ones change nothing."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise _Stopped

    before = {number: signal.signal(number, stop) for number in _STOP_SIGNALS}
    try:
        yield
    except _Stopped:
        _say("stopped")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _servers(given: Settings, offset: int) -> Iterator[Servers]:
    """Run the servers that no URL names, with the schema of this version in the database."""
    runfile.remove(given.home)  # of one that was killed
    servers = Servers(given.home, database_url=_plain(given.database_url), broker_url=_plain(given.broker_url))
    try:
        servers.start()
        _bring_schema(servers, given.home)
        _write_run_file(given.home, servers, offset, ())
        yield servers
    finally:
        runfile.remove(given.home)
        db.use(None)
        servers.stop()


def _bring_schema(servers: Servers, home: Path) -> None:
    """Upgrade the schema of our own server after a dump; that of another is only checked."""
    try:
        schema.check(servers.database_url)
    except schema.SchemaTooOldError:
        if servers.postgres is None:
            raise
        before = schema.current_revision(servers.database_url)
        if before is not None:
            dumps = home / "dumps"
            dumps.mkdir(mode=0o700, exist_ok=True)
            target = dumps / f"{before}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.dump"
            _say(f"database upgrade from revision {before}; first a dump into {target}")
            servers.postgres.dump(target)
        schema.upgrade(servers.database_url)


def _cluster_of_source(given: Settings) -> Cluster | None:
    """Return the cluster as its source holds it now; None: it cannot be read, so the last good one counts."""
    try:
        found = source.open_source(given.config_url, given.home).entries()
    except ConfigError:
        return None
    return entries.read(found, given.devices, given.cluster).cluster


def _devices(given: Settings, cluster: Cluster) -> list[Device]:
    """Return the devices to run here.

    Raises:
        SettingsError: a name is not that of a device.
    """
    for name in given.devices:
        if name not in cluster.devices:
            known = ", ".join(sorted(cluster.devices)) or "there are none"
            raise SettingsError(f"device {name!r} is not in the configuration; expected one of: {known}")
    chosen = [cluster.devices[name] for name in given.devices] or list(cluster.ours.values())
    return [device for device in chosen if device.installed]


def _listening(given: Settings, cluster: Cluster, offset: int) -> list[Address]:
    own = addresses.own_address(given, offset=offset)
    devices = _devices(given, cluster)
    flower = addresses.flower_address(given, offset=offset)
    return [
        *addresses.of_api(own, devices, offset=offset),
        flower,
        *addresses.of_dicom(devices, offset=offset),
    ]


def _write_run_file(home: Path, servers: Servers, offset: int, listening: Sequence[Address]) -> None:
    # Configured URLs may hold passwords, and each process has them from its own settings.
    runfile.write(
        runfile.Running(
            pid=os.getpid(),
            home=str(home),
            offset=offset,
            database_url=servers.postgres.url if servers.postgres else None,
            broker_url=servers.valkey.url if servers.valkey else None,
            postgres_socket=str(servers.postgres.socket) if servers.postgres else None,
            valkey_socket=str(servers.valkey.socket) if servers.valkey else None,
            api_urls=tuple(
                address.url for address in listening if address.ae_title is None and address.owner != addresses.FLOWER
            ),
            dicom_urls=tuple(address.url for address in listening if address.ae_title is not None),
            flower_url=next((address.url for address in listening if address.owner == addresses.FLOWER), None),
        )
    )


def _watch_servers(supervisor: Supervisor, servers: Servers) -> None:
    for server in servers.embedded:
        supervisor.watch(server)


def _wait_for_answers(listening: Sequence[Address], supervisor: Supervisor) -> None:
    missing = list(listening)
    told = time.monotonic()
    with httpx.Client(timeout=2, trust_env=False) as client:
        while missing:
            supervisor.check()
            missing = [address for address in missing if not _answers(client, address)]
            if time.monotonic() - told > _TELL_WAITING_S:
                told = time.monotonic()
                _say(f"still waiting for {' '.join(address.url for address in missing)}")
            time.sleep(_CHECK_S)


def _answers(client: httpx.Client, address: Address) -> bool:
    if address.ae_title is not None:
        return _answers_echo(Peer(address.ae_title, address.reached_at, address.port))
    try:
        return client.get(f"{address.url}/health/ready").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _answers_echo(peer: Peer) -> bool:
    try:
        return echo.ask(peer, peer.ae_title, _ECHO_LIMITS).is_success
    except PeerRejected as refused:
        return not refused.is_transient  # an AE that takes calls of certain others only, but it is there
    except PeerError:
        return False


def _supervise_for_ever(supervisor: Supervisor) -> None:
    while True:
        supervisor.check()
        time.sleep(_LOOK_S)


def _ready(urls: Sequence[str]) -> None:
    click.echo(" ".join(["arcfleet is ready:", *urls]))


def _say(line: str) -> None:
    click.echo(f"arcfleet: {line}")


def _free_space(folder: Path) -> str:
    return f"{shutil.disk_usage(folder).free / 1e9:.1f} GB"


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
