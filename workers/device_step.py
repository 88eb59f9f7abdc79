"""What `--device` does to a Celery worker: its channel, its name, its size, its heartbeat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from billiard import process
from celery import bootsteps, signals
from celery.worker import state as worker_state

from archive import configuration, db
from config import settings
from config.device import Device
from tasks import deletion_task, slots
from workers import beat, dispatch, node, revoke
from workers.execute import Node
from workers.heartbeat import Heartbeat, Held
from workers.parent import end_with_parent
from workers.queues import channel_of, declared, ids_of

_log = structlog.get_logger()

#: Processes of a housekeeping node besides those that delete: they do what beat sends, also while one is long.
HOUSEKEEPING_PROCESSES = 2

#: What billiard calls a process that it did not start.
_MAIN_PROCESS = "MainProcess"

#: Processes of a worker at most, unless `--concurrency` says otherwise.
MOST_PROCESSES = 8


class DeviceStep(bootsteps.Step):  # type: ignore[misc]
    """Binds the worker to one device before anything of it starts."""

    def __init__(self, parent: Any, device: str | None = None, housekeeping: bool = False, **options: Any) -> None:
        super().__init__(parent, **options)
        node.await_schema()
        found = _device(device)
        channel = channel_of(found.name, housekeeping=housekeeping)
        # `celery worker` without -n calls itself celery@host.
        name, _, host = parent.hostname.partition("@")
        most = int(options.get("concurrency") or MOST_PROCESSES)
        self.wanted = housekeeping_processes(found) if housekeeping else _processes(found, most)
        place = node.Place(found.name, channel, host, None if name == "celery" else name)
        registered = node.register(place, self.wanted)
        parent.hostname = registered.name
        parent.concurrency = parent.min_concurrency = self.wanted
        parent.app.amqp.queues = [declared(channel)]
        settings.export_node(str(registered.id))
        parent.arcfleet = Binding(registered, found.name, channel, None if housekeeping else most)


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
        engine = node.own_engine()
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
        wanted = _processes(device, binding.follows_up_to)
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


def _device(name: str | None) -> Device:
    cluster = configuration.current()
    known = ", ".join(cluster.ours) or "none"
    if name is None:
        raise SystemExit(f"arcfleet: --device is missing, expected one of {known}")
    device = cluster.devices.get(name)
    if device is None or not device.is_ours:
        raise SystemExit(f"arcfleet: unknown device {name!r} in --device, expected one of {known}")
    return device


def _processes(device: Device, most: int) -> int:
    return max(1, min(most, sum(queue.max_tasks_parallel for queue in device.queues.values())))


def housekeeping_processes(device: Device) -> int:
    """Return how many processes the housekeeping node of a device has: all of its deletions leave some free."""
    deleting = device.queues.get(deletion_task.QUEUE)
    return HOUSEKEEPING_PROCESSES + (deleting.max_tasks_parallel if deleting is not None else 0)


def _child_starts(**_: Any) -> None:
    """Prepare a process of the pool: it ends with its parent, and has connections of its own."""
    if process.current_process().name == _MAIN_PROCESS:
        return  # a pool without processes of its own (that of intake) says so of the main process
    end_with_parent()
    db.use(db.make_engine(settings.current().database(), pool_size=2, application_name="arcfleet run", pre_ping=False))
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
