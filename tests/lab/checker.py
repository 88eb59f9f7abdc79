"""Pure: prove from what was recorded that nothing went wrong, or name what did.

The evidence is independent of the engine's own checks: every transition, every run row, and the moments at
which the processes themselves say that they began a sub-operation.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from tasks.history import Transition
from tasks.run import Ending
from tasks.state import REPORTS, TRANSITIONS, Event, Status, next_status

T = TypeVar("T")


class Wrong(StrEnum):
    """What can be wrong."""

    NO_SUCH_ARROW = "a transition that the table does not have"
    GAP = "a transition that does not begin where the one before ended"
    OTHER_END = "the row is not what its last transition says"
    LOST = "a task that vanished without a delete"
    NOT_DONE = "a task that did not end"
    STUCK = "a task in process without an open run"
    FOREIGN_REPORT = "a report of a run that was not the task's own changed the task"
    CLAIMED_TWICE = "a run that was claimed twice"
    OTHER_ENDING = "the run row ended otherwise than the transition of its report"
    NO_CLAIM = "a run worked that no transition claimed"
    TWO_AT_ONCE = "two runs of a task began sub-operations in the same interval"
    TWO_OPEN = "two runs of a task were open at once"
    SLOT_SHARED = "two runs held one slot at once"
    TOO_MANY = "more runs were open than the queue allows"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, of one task or queue."""

    wrong: Wrong
    #: Task id, or device/queue.
    where: str
    detail: str

    def __str__(self) -> str:
        return f"{self.where}: {self.wrong}: {self.detail}"


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the row of a run says."""

    id: int
    task_id: int
    device: str
    queue: str
    slot: int
    came_from: str
    reserved_at: datetime
    claimed_at: datetime | None
    ended_at: datetime | None
    ending: str | None


@dataclass(frozen=True, slots=True)
class Mark:
    """One line of the trace: a process began or ended a sub-operation of a run."""

    what: str
    at_ns: int
    task_id: int
    run_id: int
    pid: int
    sop_uid: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was recorded."""

    #: Status by task id of the rows that exist at the end.
    statuses: Mapping[int, str]
    #: In the order of their sequence numbers.
    transitions: Sequence[Transition]
    runs: Sequence[RunFacts]
    #: In the order of time.
    marks: Sequence[Mark] = ()
    #: dcmMaxTasksParallel by device and queue; the largest if it was changed meanwhile.
    limits: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def summary(self) -> str:
        """Return in one line how much was looked at."""
        begins = sum(1 for mark in self.marks if mark.what == "begin")
        return (
            f"{len(self.statuses)} tasks, {len(self.transitions)} transitions, {len(self.runs)} runs, "
            f"{begins} sub-operations begun"
        )


#: Which ending of a run row belongs to the transition of its report.
_ENDINGS = {
    Event.SUCCEED: Ending.COMPLETED,
    Event.WARN: Ending.WARNING,
    Event.FAIL: Ending.FAILED,
    Event.RETRY: Ending.RETRY,
    Event.LOSE: Ending.LOST,
    Event.GIVE_BACK: Ending.GIVEN_BACK,
}
_OF_A_RUN = frozenset({Event.CLAIM, *REPORTS})


def faults(evidence: Evidence, *, all_done: bool = True) -> list[Fault]:
    """Return everything that is wrong.

    Args:
        evidence: what was recorded, of a cluster that stands still or goes on.
        all_done: every task must have reached a status in which nothing more happens to it.
    """
    return [
        *_paths(evidence),
        *_ends(evidence, all_done=all_done),
        *_runs_and_transitions(evidence),
        *_sub_operations(evidence),
        *_open_runs(evidence),
        *_admission(evidence),
    ]


def _paths(evidence: Evidence) -> Iterator[Fault]:
    came_from = {run.id: run.came_from for run in evidence.runs}
    for task_id, path in _grouped(evidence.transitions, lambda t: t.task_id).items():
        before: str | None = None
        for number, step in enumerate(path):
            text = f"{step.event}: {step.from_status} -> {step.to_status} (seq {step.seq}, run {step.run_id})"
            if not _is_arrow(step, came_from.get(step.run_id or 0)):
                yield Fault(Wrong.NO_SUCH_ARROW, f"task {task_id}", text)
            if step.from_status != before or (number > 0 and before is None):
                yield Fault(Wrong.GAP, f"task {task_id}", f"it was {before}, then {text}")
            before = step.to_status


def _is_arrow(step: Transition, came_from: str | None) -> bool:
    event = Event(step.event)
    if event is Event.CREATE:
        return step.from_status is None and step.to_status == Status.SCHEDULED
    if step.from_status is None or (Status(step.from_status), event) not in TRANSITIONS:
        return False
    origin = Status(came_from) if came_from is not None else None
    return step.to_status == next_status(Status(step.from_status), event, came_from=origin)


def _ends(evidence: Evidence, *, all_done: bool) -> Iterator[Fault]:
    last = {step.task_id: step for step in evidence.transitions}
    running = {run.task_id for run in evidence.runs if run.ended_at is None and run.claimed_at is not None}
    for task_id, step in last.items():
        status = evidence.statuses.get(task_id)
        if status is None and step.to_status is not None:
            yield Fault(Wrong.LOST, f"task {task_id}", f"it was {step.to_status}, and no row is left")
        elif status != step.to_status:
            yield Fault(Wrong.OTHER_END, f"task {task_id}", f"the row is {status}, history says {step.to_status}")
    for task_id, status in evidence.statuses.items():
        if task_id not in last:
            yield Fault(Wrong.OTHER_END, f"task {task_id}", f"the row is {status}, history knows nothing of it")
        if status == Status.IN_PROCESS and task_id not in running:
            yield Fault(Wrong.STUCK, f"task {task_id}", "nothing will ever report")
        if all_done and not Status(status).is_done:
            yield Fault(Wrong.NOT_DONE, f"task {task_id}", f"it is {status}")


def _runs_and_transitions(evidence: Evidence) -> Iterator[Fault]:
    by_run = _grouped([s for s in evidence.transitions if s.run_id is not None], lambda step: step.run_id)
    for run in evidence.runs:
        yield from _one_run(run, by_run.pop(run.id, []))
    for run_id, steps in by_run.items():
        yield Fault(Wrong.FOREIGN_REPORT, f"task {steps[0].task_id}", f"{steps[0].event} by run {run_id}: no such run")
    own: dict[int, int | None] = {}
    for step in evidence.transitions:
        if step.event in REPORTS and own.get(step.task_id) != step.run_id:
            text = f"{step.event} by run {step.run_id}, the task's own was run {own.get(step.task_id)}"
            yield Fault(Wrong.FOREIGN_REPORT, f"task {step.task_id}", text)
        own[step.task_id] = step.run_id if step.event == Event.CLAIM else None


def _one_run(run: RunFacts, steps: Sequence[Transition]) -> Iterator[Fault]:
    where = f"task {run.task_id}"
    if any(step.task_id != run.task_id or step.event not in _OF_A_RUN for step in steps):
        yield Fault(Wrong.FOREIGN_REPORT, where, f"run {run.id} is named by the transition of another task")
    claims = [step for step in steps if step.event == Event.CLAIM]
    if len(claims) > 1:
        yield Fault(Wrong.CLAIMED_TWICE, where, f"run {run.id}: {len(claims)} times")
    if run.claimed_at is not None and not claims:
        yield Fault(Wrong.NO_CLAIM, where, f"run {run.id} has a time of claim, but no transition has")
    reports = [Event(step.event) for step in steps if step.event in REPORTS]
    expected = [_ENDINGS[event] for event in reports]
    # A run that was stopped, or ended late, changes its row only: it has an ending, but no transition.
    silent = {None, Ending.STOPPED, Ending.WITHDRAWN, Ending.UNSENT, Ending.LOST}
    if (expected and [run.ending] != expected) or (not expected and run.ending not in silent):
        told = ", ".join(reports) or "nothing"
        yield Fault(Wrong.OTHER_ENDING, where, f"run {run.id} ended {run.ending!r}, reported was {told}")


def _sub_operations(evidence: Evidence) -> Iterator[Fault]:
    claimed = {run.id: run.task_id for run in evidence.runs if run.claimed_at is not None}
    begins = [mark for mark in evidence.marks if mark.what == "begin"]
    for run_id, marks in _grouped(begins, lambda mark: mark.run_id).items():
        if claimed.get(run_id) != marks[0].task_id:
            yield Fault(Wrong.NO_CLAIM, f"task {marks[0].task_id}", f"run {run_id} began {marks[0].sop_uid}")
    for task_id, marks in _grouped(begins, lambda mark: mark.task_id).items():
        spans = sorted(
            (run_marks[0].at_ns, run_marks[-1].at_ns, run_id)
            for run_id, run_marks in _grouped(marks, lambda mark: mark.run_id).items()
        )
        for (_, earlier_last, earlier), (later_first, _, later) in _overlapping(spans):
            detail = (
                f"run {earlier} began one {(earlier_last - later_first) / 1e9:.3f} s after the first of run {later}"
            )
            yield Fault(Wrong.TWO_AT_ONCE, f"task {task_id}", detail)


def _overlapping(spans: Sequence[tuple[int, int, int]]) -> Iterator[tuple[tuple[int, int, int], tuple[int, int, int]]]:
    for number, earlier in enumerate(spans):
        for later in spans[number + 1 :]:
            if later[0] < earlier[1]:
                yield earlier, later


def _open_runs(evidence: Evidence) -> Iterator[Fault]:
    for task_id, runs in _grouped(evidence.runs, lambda run: run.task_id).items():
        for one, other in _open_together(runs):
            yield Fault(Wrong.TWO_OPEN, f"task {task_id}", f"runs {one.id} and {other.id}")
    for (device, queue, slot), runs in _grouped(evidence.runs, lambda r: (r.device, r.queue, r.slot)).items():
        for one, other in _open_together(runs):
            yield Fault(Wrong.SLOT_SHARED, f"{device}/{queue}", f"slot {slot}: runs {one.id} and {other.id}")


def _open_together(runs: Iterable[RunFacts]) -> Iterator[tuple[RunFacts, RunFacts]]:
    latest: RunFacts | None = None
    for run in sorted(runs, key=lambda run: (run.reserved_at, run.id)):
        if latest is not None and (latest.ended_at is None or run.reserved_at < latest.ended_at):
            yield latest, run
        if latest is None or (latest.ended_at is not None and (run.ended_at is None or run.ended_at > latest.ended_at)):
            latest = run


def _admission(evidence: Evidence) -> Iterator[Fault]:
    for (device, queue), runs in _grouped(evidence.runs, lambda run: (run.device, run.queue)).items():
        limit = evidence.limits.get((device, queue))
        if limit is None:
            continue
        most, at = _most_open(runs)
        if most > limit:
            yield Fault(Wrong.TOO_MANY, f"{device}/{queue}", f"{most} at {at}, at most {limit} are allowed")
        for run in runs:
            if not 1 <= run.slot <= limit:
                yield Fault(Wrong.TOO_MANY, f"{device}/{queue}", f"run {run.id} had slot {run.slot} of {limit}")


def _most_open(runs: Iterable[RunFacts]) -> tuple[int, datetime | None]:
    most, at = 0, None
    ends: list[datetime] = []
    for_ever = 0
    for run in sorted(runs, key=lambda run: run.reserved_at):
        while ends and ends[0] <= run.reserved_at:
            heapq.heappop(ends)
        if run.ended_at is None:
            for_ever += 1
        else:
            heapq.heappush(ends, run.ended_at)
        if len(ends) + for_ever > most:
            most, at = len(ends) + for_ever, run.reserved_at
    return most, at


K = TypeVar("K")


def _grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    groups: dict[K, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups
