"""Flower as a process: on one address, until it is told to end."""

from __future__ import annotations

import logging
import signal

import structlog
from tornado.httpserver import HTTPServer

from api import addresses, security, serving
from api.console.application import Console
from api.console.login import cookie_key
from api.console.work import THREADS
from archive import db, schema
from config import settings
from workers import dispatch, logs
from workers.app import app as celery_app

_log = structlog.get_logger()

#: Bytes of a request: ids of selected tasks, and little else.
_LARGEST_BODY = 1024 * 1024


def serve(offset: int) -> None:
    """Show the cluster until the process is told to end.

    Raises:
        SettingsError: the address is busy, or can be reached from elsewhere although nobody has a token.
        SchemaError: the database does not fit.
    """
    given = settings.current()
    schema.check(given.database())
    given.broker()
    logs.set_up()
    # It would hold whatever is in URLs.
    logging.getLogger("tornado.access").propagate = False
    db.use(db.make_engine(given.database(), pool_size=THREADS, application_name="arcfleet-flower"))
    if given.tls_cert is not None:
        _log.warning("Flower speaks plain HTTP: ARCFLEET_TLS_CERT is not used yet, put a proxy before it")
    where = addresses.flower_address(given, offset=offset)
    addresses.refuse_busy([where])
    listener = serving.bound(where)
    reached = serving.named(where, listener)
    security.refuse_open_door([reached], "Flower")
    console = Console(
        celery_app, cookie_key=cookie_key(given.home), beyond_loopback=not security.is_local(reached)
    )  # fmt: skip
    listener.listen()
    listener.setblocking(False)
    HTTPServer(console, max_body_size=_LARGEST_BODY).add_socket(listener)
    dispatch.start(celery_app)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: console.io_loop.add_callback_from_signal(console.stop))
    _log.info("Flower listens", url=where.url)
    try:
        console.start()
    finally:
        dispatch.stop()
        serving.end()
