"""systemd units: each command is one of ours, each variable a setting, and systemd has nothing to say against them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from config import settings
from config.told import SECRETS
from tests.lab import command_line

FOLDER = Path(__file__).parents[3] / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
PROGRAM = "/opt/arcfleet/bin/arcfleet"
KNOWN = {*settings.known(), *(f"ARCFLEET_{secret.upper()}_FILE" for secret in SECRETS)}


def values(unit: Path, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit.read_text(), re.MULTILINE)


def test_every_process_has_its_unit() -> None:
    assert {unit.stem.removeprefix("arcfleet-") for unit in UNITS} == {
        "worker@", "dicom@", "intake", "beat", "api", "flower",
    }  # fmt: skip


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_command_is_one_of_ours(unit: Path) -> None:
    [line] = values(unit, "ExecStart")
    program, *arguments = shlex.split(line)

    assert program == PROGRAM
    command_line.parse([one.replace("%i", "archive-a") for one in arguments])
    assert ("@" in unit.stem) == ("%i" in line)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_variables_are_settings_and_secrets_are_credentials(unit: Path) -> None:
    given = dict(pair.split("=", 1) for line in values(unit, "Environment") for pair in line.split())
    credentials = {line.partition(":")[0] for line in values(unit, "LoadCredential")}

    assert set(given) <= KNOWN
    assert {value for value in given.values() if value.startswith("%d/")} == {f"%d/{name}" for name in credentials}
    assert values(unit, "User") == ["arcfleet"]


def test_shared_variables_are_settings() -> None:
    lines = [line for line in (FOLDER / "arcfleet.env").read_text().splitlines() if line and line[0] != "#"]

    assert {line.partition("=")[0] for line in lines} <= set(settings.known())


def test_units_differ_in_what_they_run_only() -> None:
    def common(unit: Path) -> str:
        return re.sub(r"^(#.*|Description=.*|ExecStart=.*)$", "", unit.read_text(), flags=re.MULTILINE)

    assert len({common(unit) for unit in UNITS}) == 1


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    for unit in UNITS:
        # The program need not be installed for this.
        text = unit.read_text().replace(PROGRAM, "/bin/true")
        (tmp_path / unit.name.replace("@", "@archive-a")).write_text(text)

    done = subprocess.run(
        [verify, "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
    )

    said = [line for line in (done.stdout + done.stderr).splitlines() if "arcfleet" in line]
    assert (done.returncode, said) == (0, [])


def test_command_by_hand_runs_as_the_services_do(tmp_path: Path) -> None:
    """With a `systemd-run` that notes what it is asked for, and then runs it."""
    stand_in = tmp_path / "systemd-run"
    stand_in.write_text(
        '#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do echo "$1"; shift; done\n'
        f'script=$(printf %s "$3" | sed "s,{PROGRAM},echo,")\nshift 3\n'
        'CREDENTIALS_DIRECTORY=/c exec /bin/sh -c "$script" "$@"\n'
    )
    stand_in.chmod(0o755)
    command = [str(FOLDER / "arcfleet-run"), "task", "show", "a b"]

    lines = subprocess.run(
        command, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    ).stdout.splitlines()

    [unit] = [unit for unit in UNITS if unit.stem == "arcfleet-api"]
    wanted = [
        f"--property={key}={value}" for key in ("EnvironmentFile", "LoadCredential") for value in values(unit, key)
    ]
    assert set(wanted) < set(lines)
    assert {"--uid=arcfleet", "--gid=arcfleet"} < set(lines)
    assert lines[-1] == "task show a b"
