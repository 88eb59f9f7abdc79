"""What `--device` does to a Celery worker: its channel, its name, its size, its heartbeat."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from typing import Any

import structlog
from celery import bootsteps, signals
from celery.worker import state as worker_state
from sqlalchemy import Engine, func, insert, select
from sqlalchemy.orm import Session

from archive import configuration, db
from config import settings
from config.device import Device
from tasks import deletion_task, slots
from tasks.control import DEAD_AFTER, WorkerNode
from workers import beat, dispatch, revoke, version
from workers.execute import Node
from workers.heartbeat import Heartbeat, Held
from workers.parent import end_with_parent
from workers.queues import channel_of, declared, ids_of

_log = structlog.get_logger()

#: Processes of a housekeeping node besides those that delete: they do what beat sends, also while one is long.
HOUSEKEEPING_PROCESSES = 2

#: Seconds between two looks for a database that is away at the start.
_SCHEMA_AGAIN_S = 1.0

#: Processes of a worker at most, unless `--concurrency` says otherwise.
MOST_PROCESSES = 8

#: Database connections of a worker itself: for the heartbeat, for sending, and to stand in for beat.
NODE_CONNECTIONS = 3
#: Those of each process of its pool: for the run, and for sending.
RUN_CONNECTIONS = 2


class DeviceStep(bootsteps.Step):  # type: ignore[misc]
    """Binds the worker to one device before anything of it starts."""

    def __init__(self, parent: Any, device: str | None = None, housekeeping: bool = False, **options: Any) -> None:
        super().__init__(parent, **options)
        _await_schema()
        found = _device(device)
        channel = channel_of(found.name, housekeeping=housekeeping)
        # `celery worker` without -n calls itself celery@host.
        name, _, host = parent.hostname.partition("@")
        most = int(options.get("concurrency") or MOST_PROCESSES)
        self.wanted = housekeeping_processes(found) if housekeeping else processes(found, most)
        node = _register(found.name, channel, None if name == "celery" else name, host, self.wanted)
        parent.hostname = node.name
        parent.concurrency = parent.min_concurrency = self.wanted
        parent.app.amqp.queues = [declared(channel)]
        settings.export_node(str(node.id))
        parent.arcfleet = Binding(node, found.name, channel, None if housekeeping else most)


class Binding:
    """What this worker is bound to."""

    def __init__(self, node: Node, device: str, channel: str, follows_up_to: int | None) -> None:
        self.node = node
        self.device = device
        self.channel = channel
        #: Grow and shrink with the configuration up to so many processes; None: stay.
        self.follows_up_to = follows_up_to


class HeartbeatStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Starts the heartbeat when the pool is there; it goes on until the last run has ended."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._worker = parent
        self._heartbeat: Heartbeat | None = None

    def start(self, parent: Any) -> None:
        """Start heartbeat and dispatcher, and tell them when runs die and when the worker stops."""
        binding: Binding = parent.arcfleet
        engine = _own_engine()
        dispatcher = dispatch.start(parent.app)
        stand_in = beat.Tick(binding.node.name, dispatcher)
        heartbeat = Heartbeat(binding.node, binding.device, engine, held_runs, self._follow, stand_in)
        heartbeat.start()
        self._heartbeat = heartbeat

        def ready(**_: Any) -> None:
            dispatcher.look_again(binding.device, all_of_them=True)

        def failed(task_id: str, **_: Any) -> None:
            # Our handler reports all errors itself: what arrives here is a process that has died.
            if (found := ids_of(task_id)) is not None:
                heartbeat.died(found[1])

        def stopping(**_: Any) -> None:
            heartbeat.shut_down()

        def stopped(**_: Any) -> None:
            heartbeat.end()
            dispatch.stop()

        def revoked(request: Any, **_: Any) -> None:
            # Terminated by remote control: no failure is told, but the process is gone.
            failed(task_id=request.id)

        revoke.replace_command()
        signals.worker_ready.connect(ready, weak=False)
        signals.task_revoked.connect(revoked, weak=False)
        signals.task_failure.connect(failed, weak=False)
        signals.worker_shutting_down.connect(stopping, weak=False)
        signals.worker_shutdown.connect(stopped, weak=False)

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - Celery gives it
        """Ask runs to stop, and end nothing yet: their leases must be renewed until they have.

        A shutdown by remote control sends no signal of its own; the pool, which waits for its runs, stops after us.
        """
        if self._heartbeat is not None:
            self._heartbeat.shut_down()

    terminate = stop

    def _follow(self, device: Device) -> None:
        """Grow or shrink the pool when the configured parallelism has changed."""
        binding: Binding = self._worker.arcfleet
        if binding.follows_up_to is None:
            return
        wanted = processes(device, binding.follows_up_to)
        if wanted != self._worker.concurrency and self._worker.pool is not None and self._worker.consumer is not None:
            self._worker.consumer.call_soon(resize, self._worker, wanted)


def resize(worker: Any, wanted: int) -> None:
    """Grow or shrink the pool of a worker as far as that goes now; in Celery's main thread."""
    before = worker.concurrency
    try:
        while worker.concurrency < wanted:
            worker.pool.grow(1)
            worker.concurrency += 1
        while worker.concurrency > wanted:
            worker.pool.shrink(1)
            worker.concurrency -= 1
    except ValueError:
        pass  # all processes are busy: what is left goes when one is idle
    if worker.concurrency != before:
        _log.info("pool follows the configuration", processes=worker.concurrency, before=before, wanted=wanted)


def held_runs() -> Mapping[int, Held]:
    """Return the runs that this worker's pool has, by id, with the process that runs each."""
    while True:
        try:
            requests = list(worker_state.reserved_requests) + list(worker_state.active_requests)
            break
        except RuntimeError:  # the main thread changed the set meanwhile
            continue
    found = {}
    for request in requests:
        if (ids := ids_of(request.id)) is not None:
            found[ids[1]] = Held(ids[1], request.worker_pid)
    return found


def _await_schema() -> None:
    """Return when the database has our schema; a database that is away is waited for."""
    # Imported here: the processes of the pool import this module too, and need no migrations.
    from archive import schema

    while True:
        try:
            return schema.check(settings.current().database())
        except (schema.SchemaTooOldError, schema.SchemaTooNewError) as error:
            raise SystemExit(f"arcfleet: {error}") from error
        except schema.SchemaError as error:
            _log.warning("database away, waiting for it", error=str(error))
            time.sleep(_SCHEMA_AGAIN_S)


def _device(name: str | None) -> Device:
    cluster = configuration.current()
    known = ", ".join(cluster.ours) or "none"
    if name is None:
        raise SystemExit(f"arcfleet: --device is missing, expected one of {known}")
    device = cluster.devices.get(name)
    if device is None or not device.is_ours:
        raise SystemExit(f"arcfleet: unknown device {name!r} in --device, expected one of {known}")
    return device


def processes(device: Device, most: int) -> int:
    """Return how many processes a worker of a device has: as many as it has slots, up to so many."""
    return max(1, min(most, sum(queue.max_tasks_parallel for queue in device.queues.values())))


def housekeeping_processes(device: Device) -> int:
    """Return how many processes the housekeeping node of a device has: all of its deletions leave some free."""
    deleting = device.queues.get(deletion_task.QUEUE)
    return HOUSEKEEPING_PROCESSES + (deleting.max_tasks_parallel if deleting is not None else 0)


def _register(device: str, channel: str, name: str | None, host: str, concurrency: int) -> Node:
    host = host or platform.node()

    def register(session: Session) -> Node:
        # Numbers are given out one at a time.
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"node of {channel}", 0))))
        alive = select(WorkerNode.name).where(
            WorkerNode.stopped_at.is_(None), WorkerNode.seen_at > func.clock_timestamp() - DEAD_AFTER
        )
        taken = set(session.scalars(alive))
        numbered = (f"{channel}.{number}@{host}" for number in range(1, len(taken) + 2))
        chosen = f"{name}@{host}" if name else next(full for full in numbered if full not in taken)
        made = insert(WorkerNode).values(
            name=chosen, device=device, channel=channel, host=host, pid=os.getpid(), version=version.VERSION,
            concurrency=concurrency,
        )  # fmt: skip
        return Node(session.scalars(made.returning(WorkerNode.id)).one(), chosen)

    return db.insist(register)


def _own_engine() -> Engine:
    return db.make_engine(settings.current().database(), pool_size=1, application_name="arcfleet heartbeat")


def _child_starts(**_: Any) -> None:
    """Prepare a process of the pool: it ends with its parent, and has connections of its own."""
    end_with_parent()
    url = settings.current().database()
    db.use(db.make_engine(url, pool_size=RUN_CONNECTIONS, application_name="arcfleet run", pre_ping=False))
    # The first run must not wait for what all runs need.
    try:
        configuration.current()
        with db.transaction() as session:
            slots.database_time(session)
    except db.OUTAGES as outage:
        _log.warning("database away", error=db.first_line(outage))
    # Imported here: the application imports this module.
    from workers.app import app

    dispatch.start(app)


def _child_ends(**_: Any) -> None:
    dispatch.stop()


signals.worker_process_init.connect(_child_starts)
signals.worker_process_shutdown.connect(_child_ends)
