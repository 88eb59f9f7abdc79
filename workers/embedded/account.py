"""As which user a server runs: PostgreSQL refuses root, and must be able to name its own account."""

from __future__ import annotations

import functools
import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from workers.embedded.errors import EmbeddedError

LAUNCHER = Path(__file__).with_name("launch.py")

#: Accounts that run nothing. Not `nobody`: in a user namespace everybody else would seem to be it.
_IDLE_ACCOUNTS = ("daemon", "bin", "games", "sync")


@dataclass(frozen=True, slots=True)
class Account:
    """Who a server runs as, and how it sees us when we connect."""

    #: The name under which the server knows the processes that may connect.
    peer: str
    #: Run in a user namespace in which we are this user id.
    map_user: int | None = None
    #: Run as this user and group id (only root can).
    user: int | None = None
    group: int | None = None

    def arguments(self) -> list[str]:
        """Return what `launch.py` wants to know of it."""
        values = (self.map_user, self.user, self.group)
        return ["-" if value is None else str(value) for value in values]

    def own(self, path: Path) -> None:
        """Give a path that we have just made to the account."""
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group)


def choose() -> Account:
    """Return the account for this process's servers; no account is made and none is changed.

    An ordinary user runs them as himself. Root, and a user without an entry in the user database, runs
    them in a user namespace; where those are switched off, root runs them as an account that runs nothing.

    Raises:
        EmbeddedError: a user without a name on a machine without user namespaces.
    """
    user = os.geteuid()
    name = _name_of(user)
    if user != 0 and name is not None:
        return Account(peer=name)
    idle = _idle_account()
    if _can_map(idle.pw_uid):
        return Account(peer=idle.pw_name, map_user=idle.pw_uid)
    if user == 0:
        return Account(peer=name or "root", user=idle.pw_uid, group=idle.pw_gid)
    raise EmbeddedError(
        f"user id {user} has no name and user namespaces are switched off, so PostgreSQL cannot run as it: "
        "give it an entry in /etc/passwd, or set ARCFLEET_DATABASE_URL and ARCFLEET_BROKER_URL"
    )


def as_idle_account() -> Account:
    """Return what root uses where user namespaces are switched off."""
    idle = _idle_account()
    return Account(peer=_name_of(0) or "root", user=idle.pw_uid, group=idle.pw_gid)


def _name_of(user: int) -> str | None:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return None


def _idle_account() -> pwd.struct_passwd:
    for name in _IDLE_ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid not in (0, 65534):
            return entry
    raise EmbeddedError(
        f"no account of {', '.join(_IDLE_ACCOUNTS)} exists here, and PostgreSQL must not run as root: start "
        "arcfleet as an ordinary user, or set ARCFLEET_DATABASE_URL and ARCFLEET_BROKER_URL"
    )


@functools.cache
def _can_map(user: int) -> bool:
    command = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(user), "-", "-", "/bin/true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
