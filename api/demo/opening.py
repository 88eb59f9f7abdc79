"""The first steps: the cluster comes up, and gets studies; and the last one: it goes, and leaves nothing."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

from api.demo import evidence, material
from api.demo.cluster import PROGRAM
from api.demo.report import StepFailed
from api.demo.stage import FIRST, SECOND, Stage
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


def import_studies(stage: Stage) -> str:
    """Import pydicom's files and the long series on the first device."""
    folder = material.bundled()
    result = _import(folder)
    sources = [path for path in folder.rglob("*") if path.is_file()]
    refused = sorted(Path(one["path"]).name for one in result["refused"])
    there_already = result["duplicates"] + len(result["differing"])
    stage.studies = sorted(result["studies"])
    stage.report.equal(
        f"{result['stored']} stored, {there_already} of an object that was there already, "
        f"{len(refused)} refused; files in all",
        result["stored"] + there_already + len(refused),
        len(sources),
    )
    stage.report.say(f"refused as no storable DICOM objects: {', '.join(refused)}")
    _expect_stored(stage, sources, result["stored"])

    fresh = stage.house.home / "long-series"
    stage.long_study = material.make_long_series(fresh)
    long_result = _import(fresh)
    stage.report.equal("objects of one long series stored", long_result["stored"], material.LONG)
    counts = evidence.counts()
    stage.report.equal("instances in the index", counts["instances"], result["stored"] + material.LONG)
    return f"{counts['studies']} studies, {counts['instances']} objects, {len(refused)} files refused"


def stop(stage: Stage) -> str:
    """End everything, and see that no process is left."""
    before = len(stage.up.processes())
    db.use(None)
    stage.report.equal("exit code of `arcfleet up` on SIGTERM", stage.up.stop(), 0)
    stage.report.equal(f"processes left of {before}", len(stage.up.processes()), 0)
    return f"{before} processes ended"


def _is_served(channel: str) -> bool:
    return bool(evidence.workers(channel))


def _import(folder: Path) -> Any:
    command = [*PROGRAM, "import", "--device", FIRST, "--json", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_IMPORT_S)
    if done.returncode != 0:
        raise StepFailed(f"`arcfleet import {folder}` ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def _expect_stored(stage: Stage, sources: list[Path], stored: int) -> None:
    """Verify that index, archive's files and source files agree."""
    given = {evidence.digest(path) for path in sources}
    objects = evidence.objects(stage.studies, FIRST)
    whole = [o for o in objects if o.path and o.sha256 in given and evidence.digest(o.path) == o.sha256]
    stage.report.equal("objects in the index", len(objects), stored)
    stage.report.equal("files in the archive, byte for byte those that were imported", len(whole), stored)
