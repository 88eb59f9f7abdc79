"""What Linux knows of parents and children: who ends with whom, who gets orphans, and whether one has ended."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any

from workers.embedded import child

#: prctl(2): the signal that this process gets when the thread that started it ends.
_PR_SET_PDEATHSIG = 1
#: prctl(2): the name of this process, in `ps -o comm`.
_PR_SET_NAME = 15
#: prctl(2): orphans below this process become its children.
_PR_SET_CHILD_SUBREAPER = 36


def end_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends; ends at once if the parent is gone already."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of processes below this one whose own parent ends (Linux)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def be_called(name: str) -> None:
    """Give this process a name for `ps -o comm`, at most 15 characters (Linux)."""
    _prctl(_PR_SET_NAME, ctypes.create_string_buffer(name.encode()[:15]))


def has_ended(pid: int) -> bool:
    """Tell whether a process of ours has ended; one that nobody has waited for yet has."""
    if not sys.platform.startswith("linux"):
        return not _answers(pid)
    return not child.is_alive(pid)


def _prctl(option: int, value: Any) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
