"""A cluster of its own for a benchmark: real processes in a temporary home, gone afterwards."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

_PROGRAM = [sys.executable, "-m", "api.cli.main"]
_PATIENCE_S = 120.0
#: Slow enough not to take the processor from what is measured.
_POLL_S = 0.02


@dataclass(frozen=True)
class House:
    """A home with its servers."""

    home: Path
    environment: dict[str, str]
    process: subprocess.Popen[str]
    offset: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{8080 + self.offset}/dcm4chee-arc"

    @property
    def trace_file(self) -> Path:
        return self.home / "trace"

    def database_url(self) -> str:
        found = json.loads((self.home / "run.json").read_text())
        return str(found["database_url"])

    def broker_url(self) -> str:
        found = json.loads((self.home / "run.json").read_text())
        return str(found["broker_url"])


@contextmanager
def running(*arguments: str, configuration: str | None = None) -> Iterator[House]:
    """Run `arcfleet up` with these arguments in a home of its own; None: with the shipped configuration."""
    folder = Path(tempfile.mkdtemp(prefix="arcfleet-bench-"))
    home = folder / "home"
    home.mkdir()
    if configuration is not None:
        (home / "config.ldif").write_text(configuration)
    offset = _free_offset()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ARCFLEET_")}
    environment |= {"ARCFLEET_HOME": str(home), "ARCFLEET_TRACE_FILE": str(home / "trace")}
    log = (folder / "up.log").open("w+")
    process = subprocess.Popen(
        [*_PROGRAM, "up", "--offset", str(offset), *arguments], env=environment, stdout=log, stderr=log, text=True
    )
    try:
        wait_until(lambda: "is ready" in Path(log.name).read_text() or process.poll() is not None)
        if process.poll() is not None:
            raise SystemExit(Path(log.name).read_text())
        yield House(home, environment, process, offset)
    finally:
        process.terminate()
        process.wait(30)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def api(house: House) -> Iterator[subprocess.Popen[str]]:
    """Run an API process beside the servers."""
    with (house.home / "api.log").open("w") as log:
        process = subprocess.Popen(
            [*_PROGRAM, "api", "--offset", str(house.offset)], env=house.environment, stderr=log, text=True
        )
        try:
            wait_until(lambda: _answers(f"{house.url}/health/ready"))
            yield process
        finally:
            process.terminate()
            process.wait(30)


def wait_until(holds: Callable[[], bool], patience_s: float = _PATIENCE_S) -> None:
    """Wait for a condition."""
    end = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > end:
            raise SystemExit("waited in vain")
        time.sleep(_POLL_S)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _free_offset() -> int:
    return next(offset for offset in iter(lambda: random.randrange(1000, 20_000), None) if _is_free(offset))


def _is_free(offset: int) -> bool:
    try:
        for port in (8080, 8081, 8082):
            with socket.create_server(("127.0.0.1", port + offset)):
                pass
    except OSError:
        return False
    return True
