"""What a check says: how bad it is, what was found, what was expected, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is; the worst comes last."""

    #: As it should be.
    OK = "ok"
    #: Good to know; nothing need be done.
    NOTE = "note"
    #: It works, though not as it should, or will not for long.
    WARNING = "warning"
    #: Something does not work, or data can be lost.
    ERROR = "error"

    @property
    def rank(self) -> int:
        """The place in the order of severities, 0 for the least."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says of one thing."""

    severity: Severity
    #: What the check belongs to: `database`, `broker`, `file systems` ...
    subject: str
    #: The thing that was looked at, and its name.
    what: str
    found: str
    #: Empty where `found` is what was expected.
    expected: str = ""
    #: What mends it; empty: nothing need be done.
    do: str = ""
    #: The device that it is about; None: the cluster, or this machine.
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """Makes the findings of one subject."""

    name: str

    def ok(self, what: str, found: str, *, device: str | None = None) -> Finding:
        """Say that something is as it should be."""
        return Finding(Severity.OK, self.name, what, found, device=device)

    def note(self, what: str, found: str, expected: str = "", do: str = "", *, device: str | None = None) -> Finding:
        """Say what is good to know."""
        return Finding(Severity.NOTE, self.name, what, found, expected, do, device)

    def warning(self, what: str, found: str, expected: str, do: str = "", *, device: str | None = None) -> Finding:
        """Say what should be looked at."""
        return Finding(Severity.WARNING, self.name, what, found, expected, do, device)

    def error(self, what: str, found: str, expected: str, do: str = "", *, device: str | None = None) -> Finding:
        """Say what does not work, or may lose data."""
        return Finding(Severity.ERROR, self.name, what, found, expected, do, device)


def worst(findings: Iterable[Finding]) -> Severity:
    """Return the severity of the worst finding; OK if there is none."""
    return max((finding.severity for finding in findings), key=lambda severity: severity.rank, default=Severity.OK)


def counted(findings: Iterable[Finding]) -> dict[Severity, int]:
    """Return how many findings there are of each severity."""
    found = dict.fromkeys(Severity, 0)
    for finding in findings:
        found[finding.severity] += 1
    return found
