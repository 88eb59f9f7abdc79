"""The first steps: the cluster comes up, and gets studies; and the last one: it goes, and leaves nothing."""

from __future__ import annotations

from functools import partial

from api.demo import evidence
from api.demo.house import FIRST, SECOND
from api.demo.stage import Stage
from archive import db
from workers.embedded import child
from workers.queues import channel_of

_UP_S = 90.0
_IMPORT_S = 90.0


def start(stage: Stage) -> str:
    """Start `arcfleet up` and see that all of it is there."""
    stage.up.start()
    took_s = stage.wait("`arcfleet up` to say that it is ready", lambda: stage.up.is_ready, timeout_s=_UP_S)
    stage.report.say(child.last_line(stage.up.log, containing=("arcfleet is ready:",)))
    channels = [channel_of(device, housekeeping=other) for device in (FIRST, SECOND) for other in (False, True)]
    for channel in channels:
        stage.wait(f"a worker of {channel}", partial(_is_served, channel), timeout_s=_UP_S)
    stage.wait("a beat that leads", lambda: evidence.leader() is not None, timeout_s=_UP_S)
    nodes = [node for channel in channels for node in evidence.workers(channel)]
    stage.report.equal("workers that the database knows as alive", len(nodes), len(channels))
    stage.report.say(", ".join(f"{node.name} (process {node.pid})" for node in nodes))
    stage.report.holds(f"the clock is led by {evidence.leader()}", evidence.leader() is not None)
    for device in (FIRST, SECOND):
        listed = stage.rest.call(device, "GET /devices", 200, quietly=True)
        names = {entry["dicomDeviceName"] for entry in listed}
        stage.report.holds(f"REST of {device} answers at {stage.up.urls[device]}", {FIRST, SECOND} <= names)
    return f"{len(stage.up.processes())} processes, ready after {took_s:.1f} s"


def stop(stage: Stage) -> str:
    """End everything, and see that no process is left."""
    before = len(stage.up.processes())
    stage.remote.stop()
    db.use(None)
    stage.report.equal("exit code of `arcfleet up` on SIGTERM", stage.up.stop(), 0)
    stage.report.equal(f"processes left of {before}", len(stage.up.processes()), 0)
    return f"{before} processes ended"


def _is_served(channel: str) -> bool:
    return bool(evidence.workers(channel))
