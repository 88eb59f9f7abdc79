"""`arcfleet demo` as a user runs it: to its end, with a fault in the middle, and interrupted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.demo.story import STEPS
from workers.embedded import child

PROJECT = Path(__file__).resolve().parents[2]
DEMO = [sys.executable, "-m", "api.cli.main", "demo"]
#: What the project promises, with the machine to itself; tests share it with others.
PROMISED_S = 120


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder for all temporary files of a demonstration."""
    folder = Path(tempfile.mkdtemp(prefix="arcfleet-test-"))
    yield folder
    for pid in processes_in(folder):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def start(place: Path, *options: str) -> subprocess.Popen[str]:
    """Start a demonstration in an environment whose settings must not count."""
    environment = {**os.environ, "TMPDIR": str(place), "ARCFLEET_DATABASE_URL": "postgresql://nobody@nowhere/real"}
    return subprocess.Popen(
        [*DEMO, *options], cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def read_until(demo: subprocess.Popen[str], beginning: str) -> None:
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.strip().startswith(beginning):
            return
    pytest.fail(f"the demo ended before it said {beginning!r}: {demo.communicate()[1]}")


def processes_in(place: Path) -> list[int]:
    """Return the processes whose home lies in the folder."""
    marker = b"ARCFLEET_HOME=" + os.fsencode(place)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and child.is_alive(int(entry.name)):
            try:
                if marker in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue  # another user's, or it has just ended
    return found


def process_of_up(place: Path) -> int:
    """Return the process `arcfleet up`."""
    (pid,) = (pid for pid in processes_in(place) if b"\0up\0" in command_of(pid))
    return pid


def command_of(pid: int) -> bytes:
    """Return the command line of a process; empty if it has just ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def test_demo_verifies_each_step_and_leaves_nothing(place: Path) -> None:
    demo = start(place)

    printed, complaints = demo.communicate(timeout=2 * PROMISED_S)

    assert (demo.returncode, complaints) == (0, "")
    for number, (title, _) in enumerate(STEPS, start=1):
        assert f"Step {number}: {title}" in printed
    assert f"All {len(STEPS)} steps were verified in the database and on disk" in printed
    assert "FAILED \n" not in printed.partition("What was shown")[2]
    assert processes_in(place) == []
    assert list(place.iterdir()) == []


def test_demo_names_the_step_that_fails_and_keeps_its_logs(place: Path) -> None:
    demo = start(place)
    read_until(demo, "Step 2")
    (home,) = place.glob("arcfleet-demo-*/home")

    os.kill(process_of_up(place), signal.SIGKILL)
    printed, complaints = demo.communicate(timeout=PROMISED_S)

    assert demo.returncode == 1
    assert complaints.startswith("arcfleet: step 2 (")
    assert len(complaints.strip().splitlines()) == 1
    assert "`arcfleet up` ended (signal SIGKILL)" in complaints
    assert complaints.rstrip().endswith(f"logs: {home / 'logs'}")
    assert "FAILED" in printed
    assert (home / "logs" / "up.log").stat().st_size > 0
    assert sorted(path.name for path in home.iterdir()) == ["config.ldif", "logs"]
    assert list(home.parent.iterdir()) == [home]
    assert list(place.iterdir()) == [home.parent]
    assert processes_in(place) == []


def test_interrupted_demo_leaves_nothing(place: Path) -> None:
    demo = start(place)
    read_until(demo, "Step 2")

    demo.send_signal(signal.SIGINT)
    printed, _ = demo.communicate(timeout=PROMISED_S)

    assert demo.returncode == 130
    assert "interrupted" in printed
    assert processes_in(place) == []
    assert list(place.iterdir()) == []


def test_demo_does_not_touch_a_home_in_use(place: Path) -> None:
    (place / "config.ldif").write_text("of somebody")

    demo = start(place, "--home", str(place))
    _, complaints = demo.communicate(timeout=PROMISED_S)

    assert demo.returncode == 1
    assert complaints == (
        f"arcfleet: home {place} is not empty: expected a new or an empty folder, the demo touches no other\n"
    )
    assert [path.name for path in place.iterdir()] == ["config.ldif"]
