"""What doctor says, in this process or by its command, to be asked for single findings."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from api.doctor import examination
from api.doctor.case import Wishes
from api.doctor.finding import Finding, Severity

_PROJECT = Path(__file__).resolve().parents[2]
#: Seconds after which the command hangs: far more than it ever needs.
_HANGS_S = 120


@dataclass(frozen=True, slots=True)
class Examined:
    """The findings of one examination."""

    findings: Sequence[Finding]
    #: Exit code of the command; None: it was made in this process.
    code: int | None = None

    def of(self, subject: str, what: str) -> Finding:
        """Return the one finding about a thing."""
        found = [one for one in self.findings if (one.subject, one.what) == (subject, what)]
        assert len(found) == 1, f"{subject}, {what}: found {found} in:\n{self.shown()}"
        return found[0]

    def says(self, subject: str, what: str) -> bool:
        """Tell whether there is a finding about a thing."""
        return any((one.subject, one.what) == (subject, what) for one in self.findings)

    def of_severity(self, severity: Severity) -> list[Finding]:
        """Return all findings of a severity."""
        return [one for one in self.findings if one.severity is severity]

    def shown(self) -> str:
        """Return all findings for the reader of a failed test."""
        return "\n".join(f"{one.severity} {one.subject}: {one.what}: {one.found}" for one in self.findings)


def examine(device: str | None = None, *, remote: bool = True, write_probe: bool = False) -> Examined:
    """Examine the cluster that this process's settings name."""
    return Examined(examination.examine(Wishes(device, remote=remote, write_probe=write_probe)))


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with this process's environment; one that hangs fails the test."""
    return subprocess.run(
        [sys.executable, "-m", "api.cli.main", "doctor", *arguments],
        cwd=_PROJECT, capture_output=True, text=True, check=False, timeout=_HANGS_S,
    )  # fmt: skip


def by_command(*arguments: str) -> Examined:
    """Examine with the command, which must print JSON whatever it finds."""
    ended = doctor("--json", *arguments)
    try:
        content = json.loads(ended.stdout)
    except ValueError as error:
        raise AssertionError(f"no JSON, exit code {ended.returncode}: {ended.stdout}{ended.stderr}") from error
    findings = [Finding(**{**one, "severity": Severity(one["severity"])}) for one in content["findings"]]
    return Examined(findings, ended.returncode)
