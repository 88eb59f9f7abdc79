"""Send what may run: after each commit that woke a device, and by sweeps. The row is the truth, the message a hint.

All of it happens in one thread per process, so that a request, the end of a run and beat never wait for
the broker. Nothing is reserved while the broker does not answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import event
from sqlalchemy.orm import Session

from archive import configuration, db
from config.device import Device, Queue
from tasks import circumstances, slots
from tasks.run import Ending
from tasks.slots import RESERVATION_LEASE, Reservation
from workers.broker import Broker, BrokerError
from workers.queues import kinds_by_channel

_log = structlog.get_logger()

#: Seconds between two probes of a broker that is away.
_PROBE_EVERY_S = 1.0

#: Messages that a housekeeping channel may hold; beat sends again what was not sent.
_MOST_JOBS = 50

#: Name of the Celery task of housekeeping jobs.
HOUSEKEEPING_TASK = "housekeeping.run"

#: After so long a message that nobody claimed, and that no channel holds, is taken for lost.
UNCLAIMED_FOR = timedelta(seconds=2)


class Dispatcher:
    """The sending thread of this process."""

    def __init__(self, broker: Broker, *, pause_s: float = 0.0) -> None:
        """Prepare.

        Args:
            broker: to send by; used by the thread alone.
            pause_s: seconds between two looks at what may run, for a process that makes tasks faster than they run.
        """
        self._broker = broker
        self._pause_s = pause_s
        self._woken: set[str] = set()
        #: Devices whose unclaimed reservations shall be looked at; True: all of them, however young.
        self._again: dict[str, bool] = {}
        self._jobs: list[tuple[str, list[str]]] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._away_until = 0.0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to send."""
        self._thread = threading.Thread(target=self._loop, name="dispatch", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Send what was woken before, then end."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def wake(self, devices: Collection[str]) -> None:
        """Look soon at what may run on these devices; never waits."""
        with self._changed:
            self._woken |= set(devices)
            self._changed.notify()

    def look_again(self, device: str, *, all_of_them: bool = False) -> None:
        """Send soon again what nobody has claimed; never waits.

        Args:
            device: whose reservations.
            all_of_them: however young: a worker of the device has just started.
        """
        with self._changed:
            self._again[device] = all_of_them or self._again.get(device, False)
            self._woken.add(device)
            self._changed.notify()

    def send_job(self, channel: str, args: list[str]) -> None:
        """Send a housekeeping job soon; what cannot be sent is sent again by beat."""
        with self._changed:
            self._jobs.append((channel, args))
            self._changed.notify()

    def _loop(self) -> None:
        while True:
            with self._changed:
                while not (self._woken or self._jobs or self._stopping):
                    self._changed.wait()
                if not (self._woken or self._jobs):
                    break
                devices, self._woken = self._woken, set()
                again, self._again = self._again, {}
                jobs, self._jobs = self._jobs, []
            self._send_jobs(jobs)
            try:
                for device in sorted(devices):
                    self._serve(device, again.get(device))
            except db.OUTAGES as outage:
                # The sweep comes back to it.
                _log.warning("database away, not dispatching", error=db.first_line(outage))
            except Exception:  # noqa: BLE001 - a defect met by one device must not end all sending
                _log.exception("not dispatched", devices=sorted(devices))
            if self._pause_s:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping, timeout=self._pause_s)
        self._broker.close()

    def _send_jobs(self, jobs: list[tuple[str, list[str]]]) -> None:
        for channel, args in jobs:
            try:
                if self._depth(channel) < _MOST_JOBS:
                    self._broker.send_task(channel, HOUSEKEEPING_TASK, list(args))
            except BrokerError as error:
                _log.warning("broker away, housekeeping waits", job=args, error=str(error))

    def _serve(self, device_name: str, again: bool | None) -> None:
        device = configuration.current().devices.get(device_name)
        if device is None or not device.is_ours:
            return
        try:
            for channel, kinds in kinds_by_channel(device.name).items():
                self._serve_channel(device, channel, kinds, again)
        except BrokerError as error:
            self._away_until = time.monotonic() + _PROBE_EVERY_S
            _log.warning("broker away, nothing is sent", error=str(error))

    def _serve_channel(self, device: Device, channel: str, kinds: Collection[str], again: bool | None) -> None:
        waiting = self._depth(channel)
        with db.transaction() as session:
            seen = slots.look(session, device.name, device.queues, kinds)
            may_run = [
                device.queues[name]
                for name in seen.due
                if not circumstances.queue_refusals(session, device, name, seen.now)
            ]
        # As many messages as reservations: a worker that lives will come to them.
        if again is not None and seen.is_alive and waiting < seen.unclaimed:
            self._send_again(device, kinds, waiting, all_of_them=again)
        for queue in may_run:
            # Messages of canceled tasks stay until a worker takes them: few of them, so that the channel stays short.
            if waiting - seen.unclaimed < queue.max_tasks_parallel:
                self._send(self._reserve(device, queue))

    def _depth(self, channel: str) -> int:
        if time.monotonic() < self._away_until:
            raise BrokerError("it was away a moment ago")
        return self._broker.depth(channel)

    def _reserve(self, device: Device, queue: Queue) -> list[Reservation]:
        with db.transaction() as session:
            return slots.reserve(session, device.name, queue.name, queue.max_tasks_parallel)

    def _send_again(self, device: Device, kinds: Collection[str], waiting: int, *, all_of_them: bool) -> None:
        # An empty channel has lost the message: a worker that takes one claims it at once.
        older_than = None if all_of_them else RESERVATION_LEASE if waiting else UNCLAIMED_FOR
        with db.transaction() as session:
            renewed = slots.renew_reservations(session, device.name, kinds, older_than=older_than)
        if renewed:
            _log.info("sending again", device=device.name, messages=len(renewed))
        self._send(renewed)

    def _send(self, reserved: Sequence[Reservation]) -> None:
        for number, reservation in enumerate(reserved):
            try:
                self._broker.send(reservation)
            except BrokerError:
                with db.transaction() as session:
                    slots.release(session, [r.run_id for r in reserved[number:]], Ending.UNSENT)
                raise


_dispatcher: Dispatcher | None = None


def start(app: Any, *, pause_s: float = 0.0) -> Dispatcher:
    """Start the dispatcher of this process; from now on commits wake it. See `Dispatcher` for the pause."""
    global _dispatcher
    if _dispatcher is None:
        _dispatcher = Dispatcher(Broker(app), pause_s=pause_s)
        _dispatcher.start()
        event.listen(Session, "after_commit", _after_commit)
    return _dispatcher


def stop(timeout_s: float = 2.0) -> None:
    """Stop the dispatcher of this process; wait at most so long for what it still sends."""
    global _dispatcher
    if _dispatcher is not None:
        event.remove(Session, "after_commit", _after_commit)
        _dispatcher.stop(timeout_s)
        _dispatcher = None


def _after_commit(session: Session) -> None:
    devices = session.info.pop("wake", None)
    if devices and _dispatcher is not None:
        _dispatcher.wake(devices)
