"""A process that ends with its parent, however the parent ends; and whether one has ended."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from workers.embedded import child

#: prctl(2): the signal that this process gets when the thread that started it ends.
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends; ends at once if the parent is gone already."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def has_ended(pid: int) -> bool:
    """Tell whether a process of ours has ended; one that nobody has waited for yet has."""
    if not sys.platform.startswith("linux"):
        return not _answers(pid)
    return not child.is_alive(pid)


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
