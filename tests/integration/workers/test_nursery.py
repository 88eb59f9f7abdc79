"""The nursery in a process of its own: what it bears is a child like any other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from workers.embedded import child

CASES = (
    "descriptors_keep_their_numbers",
    "child_is_ours_and_named",
    "environment_session_and_log_are_as_told",
    "defect_ends_the_process_with_its_traceback",
    "signals_for_a_group_do_not_end_the_nursery",
    "children_outlive_a_nursery_that_is_killed",
    "nursery_is_refused_behind_a_thread",
)


def run(case: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.lab.nursed", case, str(folder / "log")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("case", CASES)
def test_nursery(case: str, tmp_path: Path) -> None:
    done = run(case, tmp_path)

    assert done.returncode == 0, done.stderr


def test_all_end_with_the_one_who_asked(tmp_path: Path) -> None:
    done = run("all_end_with_the_one_who_asked", tmp_path)

    assert done.returncode == -signal.SIGKILL, done.stderr
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert child.await_condition(lambda: not any(child.is_alive(pid) for pid in pids), timeout_s=30)
