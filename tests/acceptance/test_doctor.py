"""doctor beside a whole cluster: nothing is wrong with a healthy one, and what is broken for real is found."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from api.doctor.finding import Severity
from archive.storage.health import MARKER
from tests.lab import ldif
from tests.lab.cluster import Lab, cluster, free_port
from tests.lab.examined import by_command, examine
from tests.lab.member import Member
from tests.lab.misbehaving import Misbehaving
from tests.lab.up import HERE, free_offset, processes_of, running_up
from tests.lab.waiting import wait_until


@dataclass(slots=True)
class House:
    """A cluster of one device with all of its processes."""

    lab: Lab
    worker: Member
    dicom: Member
    beat: Member


def _one_device(pacs_port: int) -> list[ldif.Change]:
    """Return the sample with archive-a alone, on free ports."""
    return [
        ldif.device("archive-b", dicomInstalled="FALSE"),
        ldif.connection("archive-a", dicomPort=str(free_port())),
        ldif.Change("cn=http", {"dicomPort": str(free_port())}, ("archive-a",)),
        ldif.Change("cn=dicom", {"dicomPort": str(pacs_port)}, ("pacs",)),
    ]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with Misbehaving() as pacs, cluster(*_one_device(pacs.peer.port), sends=False) as lab:
        worker = lab.worker("archive-a")
        lab.worker("archive-a", housekeeping=True)
        beat, intake = lab.beat(), lab.intake()
        lab.api()
        dicom = lab.dicom("archive-a", "--processes", "1")
        lab.ready()
        lab.ready(intake)
        yield House(lab, worker, dicom, beat)


def all_is_well() -> bool:
    """Tell whether doctor has nothing to say against the cluster."""
    return not any(one.severity in (Severity.WARNING, Severity.ERROR) for one in examine().findings)


def test_healthy_cluster_has_no_error_and_no_warning(house: House) -> None:
    # The owner of a file system reports half a minute after the start.
    wait_until(all_is_well, "nothing is wrong", say=lambda: examine().shown())

    said = by_command()

    assert said.code == 0, said.shown()
    assert said.of("workers", "channel archive-a").severity is Severity.OK
    assert said.of("beat", "leader").severity is Severity.OK
    assert said.of("database", "clock").severity is Severity.OK
    assert said.of("DICOM", "C-ECHO ARCHIVE_A").severity is Severity.OK
    assert said.of("HTTP", "URL of archive-a").severity is Severity.OK
    assert said.of("workers", "channel arcfleet.intake").severity is Severity.OK
    assert [one.what for one in said.findings if one.what.startswith("clock of ")] != []


def test_marker_that_is_removed_is_found_at_once(house: House) -> None:
    marker = house.lab.home / "storage" / "archive-a" / "online" / MARKER
    content = marker.read_bytes()
    marker.unlink()
    try:
        said = by_command()
    finally:
        marker.write_bytes(content)

    found = said.of("file systems", f"{marker.parent} from here")
    assert said.code == 1
    assert (found.severity, found.expected) == (Severity.ERROR, "the file system of its row")
    assert MARKER in found.found


def test_dicom_service_that_is_frozen_is_found_and_keeps_nobody(house: House) -> None:
    house.dicom.freeze()
    try:
        said = by_command()
    finally:
        house.dicom.thaw()

    found = said.of("DICOM", "C-ECHO ARCHIVE_A")
    assert said.code == 1
    assert found.severity is Severity.ERROR
    assert said.of("tasks", "runs").severity is Severity.OK


def test_frozen_database_is_found_and_keeps_nobody(house: House) -> None:
    house.lab.postgres.freeze()
    try:
        said = by_command()
    finally:
        house.lab.postgres.thaw()

    assert said.code == 1
    assert said.of("database", "connection").severity is Severity.ERROR
    assert said.of("broker", "version").severity is Severity.OK


def test_worker_that_is_killed_is_found(house: House) -> None:
    house.worker.kill()

    wait_until(lambda: examine().of("workers", "channel archive-a").severity is Severity.ERROR, "it is missed")

    said = by_command()
    found = said.of("workers", "channel archive-a")
    assert said.code == 1
    assert found.found.startswith("no worker; archive-a.1@")
    assert found.do == "arcfleet worker --device archive-a"


def test_beat_that_is_killed_is_found(house: House) -> None:
    house.beat.kill()

    wait_until(lambda: examine().of("beat", "leader").severity is Severity.ERROR, "it is missed")


@pytest.fixture
def up_home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="arcfleet-test-") as name:
        folder = Path(name, "home")
        yield folder
        for pid in processes_of(folder):
            os.kill(pid, signal.SIGKILL)


def test_doctor_finds_the_cluster_of_up_by_its_home(up_home: Path) -> None:
    offset = free_offset()
    with running_up(up_home, "--offset", str(offset), "--devices", "archive-a"):
        ended = HERE.run(up_home, "doctor", "--device", "archive-a")

    assert ended.returncode == 0, ended.stdout
    assert "`arcfleet up`, process" in ended.stdout
    assert "error: 0" in ended.stdout.splitlines()[-1]
    for port in (8080, 5555):
        assert f"http://127.0.0.1:{port + offset} answers" in ended.stdout
    assert f":{8081 + offset}/dcm4chee-arc answers" in ended.stdout
    assert f"ARCHIVE_A at 127.0.0.1:{11112 + offset} answers" in ended.stdout
