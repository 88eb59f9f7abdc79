"""The disks of this machine: whether each file system that should be mounted here is there, and has room."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from api.doctor import file_systems
from api.doctor.case import Case
from api.doctor.file_systems import SAY
from api.doctor.finding import Finding
from api.doctor.limits import NoAnswer, each
from api.words import size, some
from archive.model import FileSystem
from archive.storage import choosing, health
from config.device import Cluster

#: Seconds for all disks together, longer than `archive.storage.answers` gives one: to be read, and to be written.
_READ_S, _WRITE_S = 10.0, 19.0
_FEW_INODES = 1000
#: What such a file system holds is gone with the power.
_IN_MEMORY = ("tmpfs", "ramfs")


class _Trouble(NamedTuple):
    """Something that is not as it should be although the file system is the right one."""

    what: str
    found: str
    expected: str
    do: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a look at a file system from here has found."""

    #: Why it is not what its row says; None: it is.
    unhealthy: str | None = None
    #: Why no new objects fit; None: they do.
    full: str | None = None
    troubles: Sequence[_Trouble] = ()
    free_bytes: int = 0


def seen_here(case: Case) -> Iterator[Finding]:
    """Look at the file systems that should be mounted on this machine, because workers that use them run here."""
    rows = file_systems.owned([one for one in case.known.ours.values() if one.installed])
    mounted = [row for row in rows if _users(row) & case.here and any(map(case.is_meant, _users(row)))]
    if rows and not mounted:
        found = "no worker of their devices was seen on this machine"
        yield SAY.note("disks", f"not looked at: {found}", do="run doctor where they are mounted")
    limit_s = _WRITE_S if case.wishes.write_probe else _READ_S
    full: dict[tuple[str, str], list[str]] = {}
    for row, seen in each(limit_s, mounted, lambda row: _look(row, case)):
        what, device = f"{row.path} from here", row.owner_device
        if isinstance(seen, NoAnswer) or seen.unhealthy is not None:
            found = str(seen) if isinstance(seen, NoAnswer) else str(seen.unhealthy)
            users = some(sorted(_users(row) & case.here))
            do = "mount it; nothing is written to it meanwhile"
            yield SAY.error(what, f"{found} (used here by {users})", "the file system of its row", do, device=device)
            continue
        if seen.full is not None and row.status in file_systems.TAKE_NEW:
            full.setdefault((device, row.group_id), []).append(seen.full)
        for one in seen.troubles:
            yield SAY.warning(f"{one.what} of {row.path}", one.found, one.expected, one.do, device=device)
        if seen.full is None and not seen.troubles:
            yield SAY.ok(what, f"{row.status.value}, {size(seen.free_bytes)} free", device=device)
    for (device, group), said in full.items():
        yield _without_room(device, group, said, rows)


def _look(row: FileSystem, case: Case) -> _Seen:
    is_owner = row.owner_device in case.here
    probe = case.wishes.write_probe and is_owner
    unhealthy = health.problem_of(row) if probe else health.marker_problem_of(row)
    if unhealthy is not None:
        return _Seen(unhealthy)
    found = os.statvfs(row.path)
    troubles = [*_forbidden(row, is_owner=is_owner, is_read_only=bool(found.f_flag & os.ST_RDONLY))]
    # File systems that make inodes as they need them count none.
    if found.f_files and found.f_favail < _FEW_INODES:
        said = f"{found.f_favail} of {found.f_files} free"
        troubles.append(_Trouble("inodes", said, f"at least {_FEW_INODES}", "make room, or add a file system"))
    kind = _kind_of(Path(row.path))
    if kind in _IN_MEMORY:
        troubles.append(_Trouble("kind", f"{kind}: gone with the power", "a disk", "mount a disk there"))
    return _Seen(None, _full(row, case.known), troubles, found.f_bavail * found.f_frsize)


def _full(row: FileSystem, cluster: Cluster) -> str | None:
    device = cluster.devices.get(row.owner_device)
    group = device.file_system_groups.get(row.group_id) if device is not None else None
    return None if group is None else choosing.space_problem_of(row, group)


def _forbidden(row: FileSystem, *, is_owner: bool, is_read_only: bool) -> Iterator[_Trouble]:
    if is_owner and is_read_only:
        yield _Trouble("mount", "read-only", "writable for its owner", "mount -o remount,rw, or see why it failed")
    wanted = os.R_OK | os.X_OK | (os.W_OK if is_owner else 0)
    if not os.access(row.path, wanted):
        may = "read and written" if is_owner else "read"
        do = "run doctor as the user of the workers, or mend owner and mode of the folder"
        yield _Trouble("access", f"cannot be {may} by this user", f"a folder that can be {may}", do)


def _without_room(device: str, group: str, said: Sequence[str], rows: Sequence[FileSystem]) -> Finding:
    ours = [row for row in rows if (row.owner_device, row.group_id) == (device, group)]
    takers = [row for row in ours if row.status in file_systems.TAKE_NEW]
    what, expected, do = f"room in {device}/{group}", "room for new objects", "make room, or add a file system"
    if len(said) == len(takers):
        return SAY.error(what, f"none for new objects: {some(said, 3)}", expected, do, device=device)
    return SAY.warning(what, f"{some(said, 3)}; others have room", expected, do, device=device)


def _users(row: FileSystem) -> set[str]:
    """Return the devices that mount a file system."""
    return {row.owner_device, *row.shared_with}


def _kind_of(path: Path) -> str | None:
    """Return the kind of file system of a path, None where the system does not tell. Source: proc(5), mountinfo."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found = (line.partition(" - ") for line in lines)
    return next((end.split()[0] for begin, _, end in found if begin.split()[2:3] == [wanted]), None)
