"""Looks at disks that may never answer: each in a thread of its own, which is left behind while its disk hangs.

A call to a network file system whose server is gone waits for ever, and nothing in this process can end it. So
whoever looks waits for a limited time; one look of a kind is left behind for a file system at most, and as long as it
hangs nobody else looks: it is known what there is to know.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from archive import errors

T = TypeVar("T")

_log = structlog.get_logger()


class Sort(StrEnum):
    """What is done to the disk; one of a sort at a time, so that a slow write is not taken for a disk that hangs."""

    READ = "read"
    WRITE = "write"
    UNLINK = "unlink"


#: Seconds that each may take; a disk that works much takes its time for writing.
WITHIN_S = {Sort.READ: 5.0, Sort.WRITE: 15.0, Sort.UNLINK: 120.0}


@dataclass(slots=True, eq=False)
class _Look(Generic[T]):
    """One look that has begun."""

    root: str
    sort: Sort
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    #: By the monotonic clock, in seconds.
    began_s: float = field(default_factory=time.monotonic)
    #: Filled when it has ended.
    found: list[T] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def is_overdue(self) -> bool:
        return time.monotonic() - self.began_s >= WITHIN_S[self.sort]

    def refusal(self) -> errors.NoAnswer:
        return errors.NoAnswer(
            f"File system {self.root}: does not answer since {self.began_at:%Y-%m-%d %H:%M:%S %Z} ({self.sort})"
        )


#: Looks that have not ended yet, by what they ask.
_running: dict[tuple[str, Sort], _Look[object]] = {}
_changed = threading.Condition()


def ask(root: str | Path, look: Callable[[], T], sort: Sort = Sort.READ) -> T:
    """Return what a look at a file system finds, and raise what it raises; costs about 0.1 ms.

    Args:
        root: of the file system.
        look: may still run after this has raised NoAnswer; it must do no harm then, and hold no lock.
        sort: what it does.

    Raises:
        NoAnswer: it takes too long, or one before it does so still.
    """
    name = str(root)
    begun: _Look[T] = _begin(name, sort)
    try:
        threading.Thread(target=_do, args=(begun, look), name=f"look at {name}", daemon=True).start()
    except RuntimeError as exc:  # the system allows no more threads
        _end(begun)
        raise errors.StorageError(f"File system {name}: cannot be looked at: {exc}") from exc
    with _changed:
        left_s = begun.began_s + WITHIN_S[sort] - time.monotonic()
        if not _changed.wait_for(lambda: _running.get((name, sort)) is not begun, max(left_s, 0)):
            _log.warning("file system does not answer", root=name, sort=sort)
            raise begun.refusal()
    if begun.error is not None:
        raise begun.error
    return begun.found[0]


def hangs(root: str | Path) -> bool:
    """Tell whether a file system is known not to answer; costs less than a microsecond."""
    if not _running:
        return False
    found = (_running.get((str(root), sort)) for sort in Sort)
    return any(look is not None and look.is_overdue for look in found)


def _begin(name: str, sort: Sort) -> _Look[T]:
    """Begin a look when no other of its sort runs; its turn is waited for as long as the disk answers those before."""
    with _changed:
        while (before := _running.get((name, sort))) is not None:
            if before.is_overdue:
                raise before.refusal()
            _changed.wait(before.began_s + WITHIN_S[sort] - time.monotonic())
        begun: _Look[T] = _Look(name, sort)
        _running[name, sort] = begun  # type: ignore[assignment]  # its findings are read by its own caller only
        return begun


def _do(begun: _Look[T], look: Callable[[], T]) -> None:
    try:
        begun.found.append(look())
    except BaseException as exc:  # noqa: BLE001  # raised again where somebody waits for it
        begun.error = exc
    finally:
        _end(begun)


def _end(begun: _Look[T]) -> None:
    with _changed:
        del _running[begun.root, begun.sort]
        _changed.notify_all()
