"""The wheel in an environment that holds nothing but the locked dependencies, used from a folder of somebody else."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.demo.story import STEPS
from tests.lab.up import PROJECT, Program, free_offset, processes_of, run_file, running_up

PACKAGES = {"api", "archive", "config", "tasks", "workers"}
#: Beside its packages a project has these; none of them may be in the wheel.
NOT_OURS = ("*.pyc", "__pycache__", "*.egg-info", ".*")
#: What would let a fresh environment find what is not in it.
LEADS_ELSEWHERE = frozenset({"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"})
#: What pip says where no index of packages answers.
OFFLINE = re.compile(r"NewConnectionError|ConnectTimeout|Temporary failure in name resolution|Network is unreachable")
DEMO_S = 280

#: Imports every module that the wheel has installed; none may be missing what only developers have.
IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if module.name != "archive.migrations.env":  # only alembic can
            importlib.import_module(module.name)
"""


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """A folder for all that this module makes; whatever still runs there is ended."""
    folder = Path(tempfile.mkdtemp(prefix="arcfleet-test-"))
    yield folder
    for pid in processes_of(folder):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def wheel(scratch: Path) -> Path:
    """The wheel, built without an index; from a copy, since building leaves files behind."""
    source = scratch / "source"
    shutil.copytree(PROJECT, source, ignore=shutil.ignore_patterns(*NOT_OURS, "build", "dist"))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run([*pip, "--wheel-dir", str(scratch / "dist"), str(source)], scratch)
    [built] = (scratch / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(scratch: Path, wheel: Path) -> Path:
    """An environment with the locked dependencies and the wheel; returns the folder of its programs."""
    run([sys.executable, "-m", "venv", str(scratch / "venv")], scratch)
    programs = scratch / "venv" / "bin"
    pip = [str(programs / "python"), "-m", "pip", "install", "--quiet"]
    done = attempt([*pip, "--require-hashes", "-r", str(PROJECT / "requirements.lock")], scratch)
    if done.returncode != 0 and OFFLINE.search(done.stderr):
        pytest.skip("no index of packages answers: go online")
    assert done.returncode == 0, done.stderr
    run([*pip, "--no-deps", "--no-index", str(wheel)], scratch)
    return programs


@pytest.fixture
def installed(environment: Path, scratch: Path) -> Program:
    """The installed program, in a folder that has Python packages of the same names as ours."""
    elsewhere = scratch / "elsewhere"
    for name in PACKAGES:
        (elsewhere / name).mkdir(parents=True, exist_ok=True)
        (elsewhere / name / "__init__.py").write_text("raise SystemExit('of somebody else')\n")
    return Program((str(environment / "arcfleet"),), elsewhere, LEADS_ELSEWHERE)


def attempt(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in LEADS_ELSEWHERE}
    return subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, check=False)


def run(command: list[str], folder: Path) -> None:
    done = attempt(command, folder)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"


def test_wheel_holds_every_file_of_our_packages_and_nothing_else(wheel: Path) -> None:
    wanted = {
        str(path.relative_to(PROJECT))
        for name in PACKAGES
        for path in (PROJECT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }

    with zipfile.ZipFile(wheel) as content:
        found = {name for name in content.namelist() if ".dist-info/" not in name}

    assert sorted(found) == sorted(wanted)


def test_lock_satisfies_what_the_wheel_requires(environment: Path, scratch: Path) -> None:
    run([str(environment / "python"), "-m", "pip", "check"], scratch)


def test_every_module_is_imported_without_what_developers_have(environment: Path, scratch: Path) -> None:
    run([str(environment / "python"), "-I", "-W", "error", "-c", IMPORT_ALL, *sorted(PACKAGES)], scratch)


def test_up_runs_and_serves_its_pages_from_another_folder(installed: Program, scratch: Path) -> None:
    home = scratch / "home"

    with running_up(home, "--offset", str(free_offset()), program=installed) as up:
        flower = run_file(home)["flower_url"]
        page = httpx.get(f"{flower}/archive/tasks", trust_env=False)
        files = re.findall(r'(?:href|src)="(/archive/static/[^"]+)"', page.text)
        assert page.status_code == 200
        assert len(files) >= 2
        for name in files:
            assert httpx.get(f"{flower}{name}", trust_env=False).status_code == 200
        assert installed.run(home, "task", "count").returncode == 0
        up.send_signal(signal.SIGTERM)
        assert up.wait(15) == 0


def test_demo_verifies_each_step_from_another_folder(installed: Program, scratch: Path) -> None:
    done = subprocess.run(
        [*installed.command, "demo"],
        cwd=installed.folder,
        env=installed.environment(scratch / "none"),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEMO_S,
    )

    assert (done.returncode, done.stderr) == (0, ""), f"{done.stdout[-2000:]}{done.stderr}"
    assert f"All {len(STEPS)} steps were verified in the database and on disk" in done.stdout
