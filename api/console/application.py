"""Flower's application with our handlers and templates: what is matched first is ours."""

from __future__ import annotations

import threading
from typing import Any

import flower.urls
from flower.app import Flower
from flower.options import default_options
from tornado.ioloop import IOLoop
from tornado.routing import URLSpec
from tornado.web import RedirectHandler, StaticFileHandler, url

from api.console.actions import replaced
from api.console.change import ChangeTasks
from api.console.health import Alive, Ready
from api.console.listener import Listener
from api.console.live import Follower, Live
from api.console.login import Login, Logout
from api.console.rendering import STATIC_FOLDER, STATIC_PATH, Templates
from api.console.task import TaskPage
from api.console.tasks import TasksPage
from api.console.work import Work
from api.rest import health
from workers.broker import Broker

#: Runs that Flower remembers: 4.6 KB each.
_MOST_RUNS = 20_000
_MOST_WORKERS = 1000
#: How long a connection to the broker is tried: Source: kombu, failover options among those of the transport.
_ONE_MOMENT = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}
#: Seconds after which a worker that is gone is forgotten.
_FORGET_WORKERS_AFTER_S = 600

#: What needs no login: files of Flower's, which anybody can have from its wheel, and its sign of life.
_OPEN = frozenset({"StaticFileHandler", "Healthcheck"})


class Console(Flower):  # type: ignore[misc]
    """Flower with an *Archive* menu."""

    def __init__(self, celery_app: Any, *, cookie_key: str, beyond_loopback: bool) -> None:
        """Make the application; it listens on nothing yet.

        Args:
            celery_app: whose workers are shown.
            cookie_key: signs cookies.
            beyond_loopback: it can be reached from elsewhere, so that each request needs a token.
        """
        options = default_options
        options.max_tasks = _MOST_RUNS
        options.purge_offline_workers = _FORGET_WORKERS_AFTER_S
        # What tells runs apart: device, task and study are in the arguments.
        options.tasks_columns = "name,args,state,received,runtime,worker,uuid"
        # A broker that is away must hold up nobody: what needs it says so after a moment.
        celery_app.conf.broker_transport_options = {**celery_app.conf.broker_transport_options, **_ONE_MOMENT}
        settings = flower.urls.settings | {
            "cookie_secret": cookie_key,
            "template_loader": Templates(),
            "xsrf_cookie_kwargs": {"samesite": "Lax"},
        }
        loop = IOLoop.current()
        events = Listener(celery_app, loop, most_runs=_MOST_RUNS, most_workers=_MOST_WORKERS)
        super().__init__(options=options, capp=celery_app, events=events, io_loop=loop, **settings)
        self.beyond_loopback = beyond_loopback
        self.work = Work(health.database_probe())
        self.broker_probe = health.broker_probe()
        self._broker, self._broker_lock = Broker(celery_app), threading.Lock()
        self.follower = Follower(self.work)
        self.add_handlers(".*", [*_ours(), *_flowers()])

    async def tell_workers(self, name: str, *, terminate: bool, signal: str) -> None:
        """Send Celery's revoke of a message to all workers.

        Raises:
            BrokerError: it is not known to be sent.
        """
        arguments = {"task_id": name, "terminate": terminate, "signal": signal}

        def send() -> None:
            with self._broker_lock:
                self._broker.tell_workers("revoke", arguments)

        await self.work.begin(send)

    def stop(self) -> None:
        """Stop as Flower does, and our threads with it."""
        self.work.stop()
        super().stop()


def _ours() -> list[URLSpec]:
    return [
        url(r"/archive/?", RedirectHandler, {"url": "/archive/tasks", "permanent": False}, name="archive"),
        url(r"/archive/tasks", TasksPage, name="archive tasks"),
        url(r"/archive/tasks/change", ChangeTasks),
        url(r"/archive/tasks/([0-9]+)", TaskPage, name="archive task"),
        url(r"/archive/live", Live),
        url(STATIC_PATH + r"(.*)", StaticFileHandler, {"path": str(STATIC_FOLDER)}),
        url(r"/health/live", Alive),
        url(r"/health/ready", Ready),
        url(r"/login/?", Login),
        url(r"/logout", Logout),
    ]


def _flowers() -> list[URLSpec]:
    """Return all routes of Flower, each behind our login."""
    found = []
    for given in flower.urls.handlers:
        spec = given if isinstance(given, URLSpec) else url(*given)
        handler = spec.handler_class
        if handler.__name__ not in _OPEN:
            handler = replaced(handler)
        found.append(url(spec.regex.pattern, handler, spec.kwargs, spec.name))
    return found
