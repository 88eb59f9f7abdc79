"""Long exports that are cut off: by a worker that is killed, and by an operator who cancels."""

from __future__ import annotations

import shutil
import time
from datetime import datetime

from api.demo import evidence, material
from api.demo.cluster import kill
from api.demo.house import FIRST, SECOND
from api.demo.report import StepFailed
from api.demo.stage import Stage
from tasks.run import Ending, Run
from tasks.state import Event, Status

#: Objects that are recorded as arrived when the run is cut off.
_ENOUGH = 100
_RUN_S = 60.0


def kill_worker(stage: Stage) -> str:
    """Kill the worker of the second device in the middle of a long export."""
    task_id = stage.export(SECOND, stage.long_study)
    first = _well_begun(stage, task_id)
    (worker,) = evidence.workers(SECOND)
    number = kill(worker.pid)
    stage.report.say(f"kill -9 of {worker.name}: process {worker.pid} and the {number - 1} that it had started")

    waited_s = stage.wait("the run to be ended", lambda: _run(task_id, 0).ended_at is not None, timeout_s=30)
    lost = _run(task_id, 0)
    stage.report.equal("ending of the first run", lost.ending, Ending.LOST)
    stage.report.holds(
        f"rescued {waited_s:.1f} s after the kill, {_after(lost):.1f} s after the end of its lease", _after(lost) >= 0
    )
    (done,) = stage.wait_for([task_id], Status.COMPLETED, timeout_s=_RUN_S)
    newest = evidence.workers(SECOND)[-1]
    stage.report.holds(f"the supervisor has started the worker again, as process {newest.pid}", newest.id != worker.id)

    runs = evidence.runs([task_id])
    stage.report.equal("its runs", ", ".join(run.ending or "open" for run in runs), "lost, completed")
    stage.report.only("device of both", (run.device for run in runs), SECOND)
    before, after = evidence.confirmed(first.id), evidence.confirmed(runs[-1].id)
    stage.report.equal(
        f"{len(before)} objects confirmed before the kill, {len(after)} after it; sent again", len(before & after), 0
    )
    stage.report.equal("objects confirmed in all", len(before | after), material.LONG)
    stage.expect_arrived([stage.long_study], SECOND)
    told = [t for t in evidence.transitions(task_id) if t.event == Event.LOSE]
    stage.report.equal("lost leases in the history", len(told), 1)
    stage.report.say(f"{told[0].actor}: {told[0].reason}")
    return f"{len(before)} objects before the kill, {len(after)} after it, task {task_id} is {done.status}"


def cancel(stage: Stage) -> str:
    """Cancel a running export through the other device."""
    shutil.rmtree(stage.house.exports / stage.long_study)
    task_id = stage.export(FIRST, stage.long_study)
    _well_begun(stage, task_id)
    asked_s = time.monotonic()
    stage.rest.call(SECOND, f"POST /monitor/export/{task_id}/cancel", 204)
    status = evidence.task(task_id).status
    stage.report.holds(
        f"the task is CANCELED {(time.monotonic() - asked_s) * 1000:.0f} ms after the call",
        status is Status.CANCELED,
        otherwise=f"the task is {status} after the call, expected CANCELED",
    )
    stage.wait("the run to end", lambda: evidence.open_runs([task_id]) == 0, timeout_s=10)
    took_s = time.monotonic() - asked_s
    run = _run(task_id, 0)
    stage.report.equal(f"the run has ended {took_s:.1f} s after the call; ending", run.ending, Ending.STOPPED)

    there = _expect_part(stage)
    # A transfer that went on would bring some 50 more meanwhile.
    time.sleep(1)
    stage.report.equal("objects there one second later", _part(stage).same, there)
    stage.report.equal("status of the task", evidence.task(task_id).status, Status.CANCELED)
    stage.report.equal("runs of the task", len(evidence.runs([task_id])), 1)
    stage.rest.call(SECOND, f"POST /monitor/export/{task_id}/cancel", 409)
    return f"stopped after {there} of {material.LONG} objects"


def _well_begun(stage: Stage, task_id: int) -> Run:
    """Wait until so many objects of a task have arrived that it is worth while to cut it off."""

    def is_so() -> bool:
        runs = evidence.runs([task_id])
        return bool(runs) and len(evidence.confirmed(runs[0].id)) >= _ENOUGH

    stage.wait(f"task {task_id} to have sent {_ENOUGH} objects", is_so, timeout_s=_RUN_S)
    task = evidence.task(task_id)
    if task.status is not Status.IN_PROCESS:
        raise StepFailed(f"task {task_id} is {task.status} already, expected IN PROCESS: the export was too short")
    run = _run(task_id, 0)
    sent = len(evidence.confirmed(run.id))
    stage.report.holds(
        f"task {task_id} is IN PROCESS on {run.device}, {sent} of {material.LONG} objects recorded as arrived",
        sent < material.LONG,
    )
    return run


def _expect_part(stage: Stage) -> int:
    """Verify that what arrived is whole, and not everything; returns the number of objects."""
    found = _part(stage)
    stage.report.holds(
        f"{found.same} of {material.LONG} objects are in the folder, all whole",
        0 < found.same < material.LONG and not found.wrong,
        otherwise=f"{found.same} of {material.LONG} objects are in the folder; not whole: {'; '.join(found.wrong)}",
    )
    return found.same


def _part(stage: Stage) -> evidence.Arrived:
    return evidence.arrived(evidence.objects([stage.long_study], FIRST), stage.house.exports)


def _run(task_id: int, number: int) -> Run:
    return evidence.runs([task_id])[number]


def _after(run: Run) -> float:
    """Return how many seconds after its lease a run was ended."""
    ended: datetime = run.ended_at or run.lease_until
    return (ended - run.lease_until).total_seconds()
