"""The settings, the home, and what runs in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from api.doctor.case import Case
from api.doctor.finding import Finding, Subject
from api.doctor.limits import within
from api.doctor.secrets import shown
from api.words import size
from config import running, settings
from config.errors import ConfigError

SAY = Subject("home")

#: Seconds that the disk of the home may take.
_DISK_S = 5.0
#: Free bytes below which the embedded servers stop soon, and below which somebody should look.
_TOO_FEW_BYTES = 200 * 10**6
_FEW_BYTES = 2 * 10**9
_FEW_INODES = 10_000


def settings_are_read(case: Case) -> Iterator[Finding]:
    """Read the settings, and what the `arcfleet up` of the home says of itself."""
    try:
        case.settings = settings.current()
    except ConfigError as error:
        yield SAY.error("settings", str(error), "settings that can be read", "see docs/operating.md")
        return
    try:
        case.up = case.settings.up()
    except ConfigError as error:
        yield SAY.error("run.json", str(error), "what `arcfleet up` writes")
    yield SAY.ok("settings", f"home {case.settings.home}, time zone {case.settings.timezone}")


def writable(case: Case) -> Iterator[Finding]:
    """See that logs, configuration and servers find a folder that they may write to."""
    home = case.given.home
    folder = _existing(home)
    may = within(_DISK_S, lambda: os.access(folder, os.W_OK | os.X_OK))
    if not may:
        yield SAY.error("folder", f"{folder} cannot be written by this user", "a writable folder", "set ARCFLEET_HOME")
    elif folder != home:
        yield SAY.note("folder", f"{home} is not there yet", do="`arcfleet up` makes it")
    else:
        yield SAY.ok("folder", f"{home} is writable")


def space(case: Case) -> Iterator[Finding]:
    """See how much space is left for logs and embedded servers."""
    folder = _existing(case.given.home)
    found = within(_DISK_S, lambda: os.statvfs(folder))
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    said = f"{size(free)} of {size(total)} free at {folder}"
    do = "make room, or move the home to another disk"
    if free < _TOO_FEW_BYTES:
        yield SAY.error("space", said, f"at least {size(_FEW_BYTES)}", do)
    elif free < _FEW_BYTES:
        yield SAY.warning("space", said, f"at least {size(_FEW_BYTES)}", do)
    else:
        yield SAY.ok("space", said)
    # File systems that make inodes as they need them count none.
    if found.f_files and found.f_favail < _FEW_INODES:
        yield SAY.warning("inodes", f"{found.f_favail} of {found.f_files} free at {folder}", f"{_FEW_INODES}", do)


def runs(case: Case) -> Iterator[Finding]:
    """Say which cluster is looked at: that of `arcfleet up`, one that the settings name, or none."""
    given = case.given
    if case.up is not None:
        yield SAY.ok("what runs", f"`arcfleet up`, process {case.up.pid}")
    elif (given.home / running.FILE_NAME).exists():
        found = f"{running.FILE_NAME} of an `arcfleet up` that is gone: it was killed"
        yield SAY.warning("what runs", found, "an `arcfleet up` that runs", "`arcfleet up` starts it again")
    urls = {"database": given.database_url, "broker": given.broker_url}
    for name, url in urls.items():
        if url is not None:
            yield SAY.ok(name, f"configured: {shown(url.get_secret_value())}")
    absent = [name for name, url in urls.items() if url is None]
    if case.up is None and absent:
        what = "nothing runs" if len(absent) == len(urls) else f"no {absent[0]}"
        variables = " and ".join(f"ARCFLEET_{name.upper()}_URL" for name in absent)
        found = f"{what}: {variables} not set, and no `arcfleet up` runs in {given.home}"
        yield SAY.warning("what runs", found, "a cluster", f"start `arcfleet up`, or set {variables}")


def _existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that is there."""
    return next(one for one in (path, *path.parents) if one.exists())
