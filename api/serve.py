"""One REST server on several addresses: its own, and the HTTP connections of devices."""

from __future__ import annotations

import signal
import sys

import structlog
import uvicorn

from api import addresses, security, serving
from api.addresses import Address
from api.app import THREADS, create_app
from archive import configuration, db, schema
from config import settings
from config.device import Device
from tasks.operations import our_device
from workers import logs

_log = structlog.get_logger()

#: Seconds for requests that are being answered when the end is asked for.
_GRACE_S = 3


def listening(device: str | None, offset: int) -> list[Address]:
    """Return where to listen: with a device on its HTTP connections, else also on our own address.

    Raises:
        NotFoundError: there is no such device.
    """
    given = settings.current()
    own = addresses.own_address(given, offset=offset)
    cluster = configuration.current()
    if device is not None:
        of_device = [one for one in addresses.of_api(own, [our_device(device)], offset=offset) if one.owner == device]
        return of_device or [own]
    chosen = [cluster.devices[name] for name in given.devices if name in cluster.devices] or [*cluster.ours.values()]
    return addresses.of_api(own, [one for one in chosen if _is_served(one)], offset=offset)


def serve(device: str | None, offset: int) -> None:
    """Answer requests until the process is told to end.

    Raises:
        SettingsError: an address is busy, or can be reached from elsewhere although nobody has a token.
        SchemaError: the database does not fit.
    """
    given = settings.current()
    schema.check(given.database())
    given.broker()
    logs.set_up()
    # The thread that sends must not wait 5 ms for the one that still writes the answer.
    sys.setswitchinterval(0.001)
    db.use(db.make_engine(given.database(), pool_size=THREADS, application_name="arcfleet-api"))
    if given.tls_cert is not None:
        _log.warning("REST speaks plain HTTP: ARCFLEET_TLS_CERT is not used yet, put a proxy before it")
    where = listening(device, offset)
    addresses.refuse_busy(where)
    sockets = [serving.bound(one) for one in where]
    reached = [serving.named(one, bound) for one, bound in zip(where, sockets, strict=True)]
    security.refuse_open_door(reached)
    app = create_app(beyond_loopback=not all(map(security.is_local, reached)), dispatching=True)
    config = uvicorn.Config(
        app,
        log_config=None,
        # It would hold query strings, and with them tokens.
        access_log=False,
        timeout_graceful_shutdown=_GRACE_S,
        proxy_headers=bool(given.trusted_proxies),
        forwarded_allow_ips=list(given.trusted_proxies),
        server_header=False,
    )
    # After its orderly end uvicorn raises the signal once more: then it has been obeyed.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        uvicorn.Server(config).run(sockets=sockets)
    finally:
        serving.end()


def _is_served(device: Device) -> bool:
    return device.is_ours and device.installed
