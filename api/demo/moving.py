"""Tasks that fail on one device, because the AE they send to is down, are completed on the other."""

from __future__ import annotations

from collections import Counter

from api.demo import evidence
from api.demo.house import FIRST, SECOND
from api.demo.stage import Stage
from tasks.state import Event, Status

#: Exporter of the sample cluster that sends to the remote AE by C-STORE.
_TO_PACS = "ToPACS"
_DONE_S = 60.0


def fail(stage: Stage) -> str:
    """Export every study to an AE that is down, until the cluster leaves it alone."""
    peer = stage.remote.peer
    stage.report.holds(f"nobody listens for {peer}", not stage.remote.answers)
    for number, study_uid in enumerate(stage.studies):
        stage.task_ids.append(stage.export(FIRST, study_uid, _TO_PACS, quietly=number > 0))
    stage.report.say(f"... and {len(stage.studies) - 1} more like it")
    stage.wait("the circuit breaker to open", lambda: evidence.is_open(stage.destination), timeout_s=30)
    stage.wait("the runs to end", lambda: evidence.open_runs(stage.task_ids) == 0, timeout_s=30)

    found = evidence.tasks(stage.task_ids)
    failed = [task for task in found if task.status is Status.FAILED]
    waiting = [task for task in found if task.status is Status.SCHEDULED]
    stage.report.equal("tasks FAILED, or held back", len(failed) + len(waiting), len(stage.task_ids))
    stage.report.holds(f"{len(failed)} FAILED, {len(waiting)} not sent in vain", bool(failed) and bool(waiting))
    messages = {task.error_message or "" for task in failed}
    stage.report.holds(
        f"every message names AE and address: {next(iter(messages))}",
        all(str(peer) in message for message in messages),
        otherwise=f"messages: {messages}",
    )
    why = stage.rest.call(SECOND, f"GET /monitor/export/{waiting[0].id}/explain", 200, quietly=True)
    stage.report.say(f"why task {waiting[0].id} waits: {why['reasons'][0]['text']}")
    listed = stage.rest.call(SECOND, "GET /monitor/export/count?status=FAILED", 200)
    stage.report.equal("FAILED tasks that the other device counts", listed["count"], len(failed))
    return f"{len(failed)} tasks FAILED, {len(waiting)} held back by the circuit breaker"


def move(stage: Stage) -> str:
    """Start the AE, and reschedule all that FAILED to the other device in one call; the rest goes on by itself."""
    failed = [task.id for task in evidence.tasks(stage.task_ids) if task.status is Status.FAILED]
    pid = stage.remote.start()
    stage.wait(f"{stage.remote.peer} to listen", lambda: stage.remote.answers, timeout_s=30)
    stage.report.say(f"{stage.remote.peer} is up: process {pid}")
    answer = stage.rest.call(FIRST, f"POST /monitor/export/reschedule?status=FAILED&newDeviceName={SECOND}", 200)
    stage.report.equal("tasks rescheduled by one call", answer["count"], len(failed))
    stage.rest.call(FIRST, f"POST /destinations/{stage.destination}/release", 204)
    done = stage.wait_for(stage.task_ids, Status.COMPLETED, timeout_s=_DONE_S)

    moved = [task for task in done if task.id in failed]
    rest = [task for task in done if task.id not in failed]
    last = {run.task_id: run for run in evidence.runs(stage.task_ids)}
    stage.report.equal("tasks COMPLETED", len(done), len(stage.task_ids))
    stage.report.only(f"device of the {len(moved)} that had FAILED", (task.device for task in moved), SECOND)
    stage.report.only("device of their last runs", (last[task.id].device for task in moved), SECOND)
    stage.report.only(f"device of the {len(rest)} that had waited", (task.device for task in rest), FIRST)
    moves = [t for task_id in failed for t in evidence.transitions(task_id) if t.event == Event.RESCHEDULE]
    there = sum((move.from_device, move.to_device) == (FIRST, SECOND) for move in moves)
    stage.report.equal(f"moves from {FIRST} to {SECOND} in the history", there, len(failed))
    read = {
        o.file_system.owner_device
        for t in moved
        for o in evidence.objects([t.study_uid or ""], SECOND)
        if o.file_system
    }
    stage.report.only(f"owner of the file system that {SECOND} has read", read, FIRST)
    arrived = stage.expect_received(stage.studies)
    return f"{len(moved)} tasks COMPLETED on {SECOND}, {len(rest)} on {FIRST}, {arrived.same} objects arrived"


def run_again(stage: Stage) -> str:
    """Reschedule a task without naming a device, through another device than its own."""
    objects = Counter(o.study_uid for o in evidence.objects(stage.studies, SECOND))
    there = [task for task in evidence.tasks(stage.task_ids) if task.device == SECOND]
    before = max(there, key=lambda task: objects[task.study_uid or ""])
    runs_before = len(evidence.runs([before.id]))
    stage.rest.call(FIRST, f"POST /monitor/export/{before.id}/reschedule", 204)
    stage.wait("its next run", lambda: len(evidence.runs([before.id])) > runs_before, timeout_s=30)
    (after,) = stage.wait_for([before.id], Status.COMPLETED, timeout_s=30)

    *_, run = evidence.runs([before.id])
    stage.report.equal("device of the task", after.device, SECOND)
    stage.report.equal("device of its new run", run.device, SECOND)
    stage.report.equal("runs more than before", len(evidence.runs([before.id])) - runs_before, 1)
    stage.report.equal("objects sent anew", len(evidence.confirmed(run.id)), objects[before.study_uid or ""])
    stage.expect_received([before.study_uid or ""])
    return f"task {before.id} ran again on {SECOND}"
