"""Kill one worker after another while tasks arrive and the broker fails, and see that nothing goes wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tasks.state import Status
from tests.lab.cluster import Lab
from tests.lab.member import Member
from tests.lab.waiting import wait_until

#: Seconds between two kills at least, and how long a worker that is ready is given to get a task before it is killed.
_EVERY_S = 1.0
_MERCY_S = 3.0


@dataclass(slots=True)
class Toll:
    """What a storm did."""

    kills: int = 0
    #: Kills that hit a worker while it had a task.
    hits: int = 0
    #: Workers that ended by themselves while they started.
    ended_alone: int = 0
    took_s: float = 0.0


class Storm:
    """So many kills, each of the next worker in turn; a share of the tasks is scheduled before each.

    A worker is killed as soon as it has a task, not sooner than a second after the kill before, and not
    before it is ready again (on a busy machine a start takes longer than its turn). While the broker is
    away, nobody can get ready or get a task: then it is killed as it is. With `by_the_clock` it always is: a
    kill each second, whatever the victim is doing.
    """

    def __init__(
        self, lab: Lab, workers: Sequence[Member], *, tasks: int, kills: int, by_the_clock: bool = False
    ) -> None:
        self._lab = lab
        self._workers = workers
        self._devices = sorted({_device_of(worker) for worker in workers})
        self._tasks = tasks
        self._kills = kills
        self._by_the_clock = by_the_clock
        self._last_s = 0.0
        self._broker_away = False
        self.task_ids: list[int] = []
        self.toll = Toll()

    def rage(self, faults: Mapping[int, str]) -> Toll:
        """Do it all.

        Args:
            faults: number of a kill to what happens to the broker before it: flush, stop, start, freeze,
                thaw, restart.
        """
        began = time.monotonic()
        for number in range(self._kills):
            if number in faults:
                self._fault(faults[number])
            victim = self._workers[number % len(self._workers)]
            self._stand_up(victim)
            self._feed(until=self._tasks * (number + 1) // self._kills)
            self._kill(victim)
        self.toll.took_s = time.monotonic() - began
        return self.toll

    def calm(self) -> None:
        """Wait until everything is done, and prove that it went well."""
        began = time.monotonic()
        self._lab.await_status(self.task_ids, Status.COMPLETED, timeout_s=180)
        after_s = time.monotonic() - began
        self._lab.await_idle()
        seen = self._lab.prove()
        lost = sum(1 for run in seen.runs if run.ending == "lost")
        toll = self.toll
        print(
            f"{seen.summary()}; {toll.kills} kills in {toll.took_s:.0f} s, {toll.hits} of a worker with a task, "
            f"{lost} runs lost; all done {after_s:.0f} s after the last; the history checker found nothing"
        )

    @property
    def _as_it_is(self) -> bool:
        return self._by_the_clock or self._broker_away

    def _stand_up(self, worker: Member) -> None:
        # One that ends by itself is started again, as its supervisor would.
        wait_until(
            lambda: self._as_it_is or worker.said(" ready.") or not worker.is_running, "it is ready", say=worker.tail
        )
        if not worker.is_running:
            self.toll.ended_alone += 1
            worker.start()

    def _feed(self, *, until: int) -> None:
        for device in self._devices:
            share = (until - len(self.task_ids)) // (len(self._devices) if device != self._devices[-1] else 1)
            if share > 0:
                self.task_ids += self._lab.schedule(share, device=device)

    def _kill(self, victim: Member) -> None:
        given_until = time.monotonic() + _MERCY_S
        wait_until(
            lambda: (
                time.monotonic() >= self._last_s + _EVERY_S
                and (self._as_it_is or self._lab.run_at(victim) is not None or time.monotonic() >= given_until)
            ),
            "its turn has come",
        )
        self.toll.kills += 1
        self.toll.hits += self._lab.run_at(victim) is not None
        victim.kill()
        self._last_s = time.monotonic()
        victim.start()

    def _fault(self, name: str) -> None:
        does: dict[str, Callable[[], object]] = {
            "flush": self._lab.flush_broker,
            "stop": self._lab.valkey.stop,
            "start": self._lab.valkey.start,
            "freeze": self._lab.valkey.freeze,
            "thaw": self._lab.valkey.thaw,
            "restart": self._lab.restart_broker,
            "restart database": self._lab.restart_postgres_at_once,
        }
        does[name]()
        self._broker_away = name in ("stop", "freeze") or (self._broker_away and name not in ("start", "thaw"))


def _device_of(worker: Member) -> str:
    return next(name for name in ("archive-a", "archive-b") if name in worker.name)
