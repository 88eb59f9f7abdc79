"""Another service: a program that has Celery and the URL of the broker, and nothing of ours."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

#: Sends so many jobs, the first ones once more at the end: BROKER_URL, first and last number, times.
_PROGRAM = """
import os, sys
from celery import Celery

app = Celery(broker=os.environ["BROKER_URL"])
first, last, times = map(int, sys.argv[1:])
for _ in range(times):
    for number in range(first, last):
        app.send_task(
            "schedule.export",
            kwargs={
                "version": 1, "requester": "ris", "aet": "ARCHIVE_A", "exporterID": "Noop",
                "studyInstanceUID": f"1.2.{number}",
            },
            queue="arcfleet.intake",
            task_id=f"job-{number}",
        )
assert not any(name.partition(".")[0] in {"tasks", "workers", "archive"} for name in sys.modules)
"""


def run(program: str, broker_url: str, *arguments: str) -> str:
    """Run a Python program with this broker in its environment, in a folder of its own; returns what it printed."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("ARCFLEET_", "PYTHON"))}
    with tempfile.TemporaryDirectory(prefix="arcfleet-other-") as folder:
        Path(folder, "program.py").write_text(program)
        done = subprocess.run(
            [sys.executable, "program.py", *arguments],
            env=plain | {"BROKER_URL": broker_url},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


def send(broker_url: str, number: int, *, first: int = 0, times: int = 1) -> list[str]:
    """Send so many jobs, all of them so many times; returns their message ids."""
    run(_PROGRAM, broker_url, str(first), str(first + number), str(times))
    return [f"job-{n}" for n in range(first, first + number)]
