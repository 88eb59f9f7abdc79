"""`run.json`: what runs in a home and how it is reached; and the lock that lets only one `up` run there."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from config.running import FILE_NAME
from workers.embedded.errors import EmbeddedError

LOCK_NAME = "up.lock"


@dataclass(frozen=True, slots=True)
class Running:
    """What `arcfleet up` runs in a home."""

    pid: int
    home: str
    #: What was added to all ports that are not set explicitly.
    offset: int = 0
    #: None: not ours; the settings name it.
    database_url: str | None = None
    broker_url: str | None = None
    postgres_socket: str | None = None
    valkey_socket: str | None = None
    api_urls: tuple[str, ...] = ()
    #: `dicom://AE_TITLE@host:port`
    dicom_urls: tuple[str, ...] = ()
    flower_url: str | None = None


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold a home for this process; the kernel gives it back when the process ends, however that happens.

    Raises:
        EmbeddedError: another process holds it, or the folder cannot be written.
    """
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(home / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EmbeddedError(f"home {home} cannot be used: {error.strerror}; expected a writable folder") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.pread(descriptor, 20, 0).decode().strip() or "unknown"
            raise EmbeddedError(
                f"home {home} is used by another `arcfleet up`, process {pid}: stop it or choose another home"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def write(running: Running) -> None:
    """Write `run.json` into the home, whole or not at all, readable by its owner only."""
    target = Path(running.home) / FILE_NAME
    fresh = target.with_name(f"{FILE_NAME}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(running), file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(target)


def remove(home: Path) -> None:
    """Remove `run.json`; nothing happens if there is none."""
    (home / FILE_NAME).unlink(missing_ok=True)
