"""Become another program that ends with the process that started it (a script of its own, run by its path).

Only the standard library is used, so that it starts in milliseconds with `python -I -S`.
Usage: launch.py PARENT_PID MAP_USER USER GROUP PROGRAM [ARGUMENT...]; `-` stands for "as it is".
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Change the account, tie this process to its parent, and run the program in its place."""
    parent, map_user, user, group, *command = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    if map_user != "-":
        _enter_user_namespace(libc, int(map_user))
    if user != "-":
        os.setgroups([])
        os.setgid(int(group))
        os.setuid(int(user))
    # Last, because a change of credentials clears it.
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        _fail("prctl")
    if os.getppid() != int(parent):
        sys.exit(1)  # the parent ended before the line above: nobody would end us
    os.execv(command[0], command)  # noqa: S606  # that no shell is started is the point


def _enter_user_namespace(libc: ctypes.CDLL, user: int) -> None:
    outside = os.geteuid()
    if libc.unshare(_CLONE_NEWUSER) != 0:
        _fail("unshare")
    with open("/proc/self/uid_map", "w", encoding="ascii") as uid_map:  # noqa: PTH123  # pathlib costs 10 ms here
        uid_map.write(f"{user} {outside} 1")


def _fail(call: str) -> None:
    number = ctypes.get_errno()
    sys.exit(f"{call}: {os.strerror(number)}")


if __name__ == "__main__":
    main(sys.argv[1:])
