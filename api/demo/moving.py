"""Tasks that fail on one device are mended and completed on the other."""

from __future__ import annotations

from collections import Counter

from api.demo import evidence
from api.demo.stage import FIRST, SECOND, Stage
from tasks.run import Ending
from tasks.state import Event, Status

#: The first attempt, and the retries of the queue.
_ATTEMPTS = 3
_IN_THE_WAY = b"a file stands where the folder should be\n"


def fail(stage: Stage) -> str:
    """Export every study into a folder that cannot be written, until each task has given up."""
    # As root too: no mode of a folder would keep root from writing.
    stage.house.exports.write_bytes(_IN_THE_WAY)
    stage.report.say(f"a regular file stands at {stage.house.exports}")
    for number, study_uid in enumerate(stage.studies):
        stage.task_ids.append(stage.export(FIRST, study_uid, quietly=number > 0))
    stage.report.say(f"... and {len(stage.studies) - 1} more like it")
    failed = stage.wait_for(stage.task_ids, Status.FAILED, timeout_s=60)

    runs = evidence.runs(stage.task_ids)
    endings = Counter(run.ending for run in runs)
    retries = len(failed) * (_ATTEMPTS - 1)
    stage.report.equal("tasks FAILED", len(failed), len(stage.studies))
    stage.report.equal("attempts", len(runs), len(failed) * _ATTEMPTS)
    stage.report.equal("of these ended with a retry", endings[Ending.RETRY], retries)
    stage.report.only("failures of each task", (task.failures for task in failed), _ATTEMPTS)
    stage.report.only("device that ran them", (run.device for run in runs), FIRST)
    messages = {task.error_message for task in failed}
    stage.report.holds(
        f"every message names the folder: {next(iter(messages))}",
        all(str(stage.house.exports) in (message or "") for message in messages),
        otherwise=f"messages: {messages}",
    )
    listed = stage.rest.call(SECOND, "GET /monitor/export/count?status=FAILED", 200)
    stage.report.equal("FAILED tasks that the other device counts", listed["count"], len(failed))
    stage.report.holds("nothing was written", stage.house.exports.read_bytes() == _IN_THE_WAY)
    return f"{len(failed)} tasks FAILED after {len(runs)} attempts"


def move(stage: Stage) -> str:
    """Mend the folder, and reschedule all that FAILED to the other device in one call."""
    stage.house.exports.unlink()
    stage.house.exports.mkdir()
    stage.report.say(f"{stage.house.exports} is a folder now")
    number = len(stage.task_ids)
    answer = stage.rest.call(FIRST, f"POST /monitor/export/reschedule?status=FAILED&newDeviceName={SECOND}", 200)
    stage.report.equal("tasks rescheduled by one call", answer["count"], number)
    done = stage.wait_for(stage.task_ids, Status.COMPLETED, timeout_s=60)

    last = {run.task_id: run for run in evidence.runs(stage.task_ids)}
    nodes = sorted(set(evidence.node_names(last.values()).values()))
    stage.report.equal("tasks COMPLETED", len(done), number)
    stage.report.only("device of the tasks", (task.device for task in done), SECOND)
    stage.report.only("device of their last runs", (run.device for run in last.values()), SECOND)
    stage.report.holds(f"run by {', '.join(nodes)}", all(name.startswith(f"{SECOND}.") for name in nodes))
    moves = [t for task_id in stage.task_ids for t in evidence.transitions(task_id) if t.event == Event.RESCHEDULE]
    there = sum((move.from_device, move.to_device) == (FIRST, SECOND) for move in moves)
    stage.report.equal(f"moves from {FIRST} to {SECOND} in the history", there, number)
    query = f"status=COMPLETED&dicomDeviceName={SECOND}"
    listed = stage.rest.call(FIRST, f"GET /monitor/export/count?{query}", 200)
    stage.report.equal(f"COMPLETED tasks of {SECOND} that REST counts", listed["count"], number)
    arrived = stage.expect_arrived(stage.studies, SECOND)
    return f"{len(done)} tasks COMPLETED on {SECOND}, {arrived.same} objects arrived"


def run_again(stage: Stage) -> str:
    """Reschedule a task without naming a device, through another device than its own."""
    objects = Counter(o.study_uid for o in evidence.objects(stage.studies, SECOND))
    before = max(evidence.tasks(stage.task_ids), key=lambda task: objects[task.study_uid or ""])
    runs_before = len(evidence.runs([before.id]))
    stage.rest.call(FIRST, f"POST /monitor/export/{before.id}/reschedule", 204)
    stage.wait("its next run", lambda: len(evidence.runs([before.id])) > runs_before, timeout_s=30)
    (after,) = stage.wait_for([before.id], Status.COMPLETED, timeout_s=30)

    *_, run = evidence.runs([before.id])
    stage.report.equal("device of the task", after.device, SECOND)
    stage.report.equal("device of its new run", run.device, SECOND)
    stage.report.equal("runs more than before", len(evidence.runs([before.id])) - runs_before, 1)
    stage.report.equal("objects sent anew", len(evidence.confirmed(run.id)), objects[before.study_uid or ""])
    stage.expect_arrived([before.study_uid or ""], SECOND)
    return f"task {before.id} ran again on {SECOND}"
