"""Whether the installed packages are those that arcfleet was tested with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from api.doctor.case import Case
from api.doctor.finding import Finding, Subject
from api.words import some

SAY = Subject("packages")

#: In the folder of the project; a wheel does not hold it.
_LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"
#: `name==version ; marker \`, and what arcfleet itself declares: `name[extra]>=version; marker`.
_REQUIRED = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[\w, -]*\])?(?:==([\w.+!]+))?[^;]*(;.*)?")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A package that should be there."""

    name: str
    #: None: any.
    version: str | None
    #: It is not wanted on each machine.
    has_marker: bool


def installed(_case: Case) -> Iterator[Finding]:
    """Compare the installed packages with requirements.lock; where that is not there, see that none is missing."""
    lines = _LOCK.read_text("utf-8").splitlines() if _LOCK.is_file() else metadata.requires("arcfleet") or []
    against = "requirements.lock" if _LOCK.is_file() else "what arcfleet declares"
    wanted = wanted_by(lines)
    there = {one.name: _version(one.name) for one in wanted}
    missing = [one.name for one in wanted if there[one.name] is None and not one.has_marker]
    other = [
        f"{one.name} {there[one.name]} instead of {one.version}"
        for one in wanted
        if one.version is not None and there[one.name] not in (None, one.version)
    ]
    do = "pip install --require-hashes -r requirements.lock"
    if missing:
        yield SAY.error("missing", some(missing), f"all of {against}", do)
    if other:
        yield SAY.warning("other versions", some(other), f"those of {against}", do)
    if not missing and not other:
        yield SAY.ok("versions", f"{len(wanted)} packages as in {against}")


def wanted_by(lines: list[str]) -> list[_Wanted]:
    """Read requirements, one in a line; comments and lines with hashes are passed over."""
    found = (_REQUIRED.match(line) for line in lines)
    return [_Wanted(one[1], one[2], one[3] is not None) for one in found if one is not None]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
