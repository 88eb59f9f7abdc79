"""`arcfleet dicom` as processes of their own: what it takes, whom it outlasts, what is left of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from archive import errors
from archive.dicom import requestor
from archive.dicom.peer import VERIFICATION, Context, Peer
from archive.dicom.requestor import Requestor
from archive.dicom.status import Status
from tests.lab import dicom, ldif, part10, peers, stored
from tests.lab.cluster import Lab, cluster, free_port
from tests.lab.member import Member, name_of
from tests.lab.waiting import wait_until
from workers.dicom import NAME as DICOM_PROCESS
from workers.embedded import child

DEVICE = "archive-a"
PORT = free_port()
PEER = Peer("ARCHIVE_A", "127.0.0.1", PORT)


#: Of a group to which nothing is sent here; its folder cannot be made.
NO_DISK = ldif.Change("arcFileSystemGroupID=NEARLINE_STORAGE", {"arcFileSystem": "config.ldif/folder"}, (DEVICE,))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    here = ldif.connection(DEVICE, dicomPort=str(PORT))
    with cluster(here, NO_DISK, ldif.device(DEVICE, dcmLimitOpenAssociations="8"), sends=False) as made:
        yield made


@pytest.fixture
def service(lab: Lab) -> Member:
    """The DICOM service of archive-a with two processes; that of the test before if it still runs."""
    running = next((member for member in lab.members if member.is_running), None)
    return running or lab.dicom(DEVICE, "--processes", "2")


@pytest.fixture
def study(tmp_path: Path) -> list[Path]:
    """The files of a new study of ten objects."""
    folder = tmp_path / "study"
    folder.mkdir()
    dicom.write_study(folder, 10)
    return sorted(folder.iterdir())


def test_what_we_send_is_stored_as_sent_and_the_association_settles_it(service: Member, study: list[Path]) -> None:
    assert echo().is_success

    assert [status.code for status in store(study)] == [0] * len(study)

    assert as_sent(study)
    wait_until(stored.is_settled, "the series is closed")


def test_what_pynetdicom_sends_is_stored_as_sent(service: Member, study: list[Path]) -> None:
    said = peers.pynetdicom_storescu(PEER, study)

    assert said.exit_code == 0, said.text
    assert as_sent(study), said.text


def test_what_dcmtk_sends_is_stored_as_sent(service: Member, study: list[Path]) -> None:
    assert peers.echoscu(PEER).exit_code == 0

    said = peers.storescu(PEER, study)

    assert said.responses() == len(study), said.text
    assert as_sent(study)


def test_unknown_called_ae_is_rejected(service: Member) -> None:
    with pytest.raises(errors.PeerRejected, match=r"(?i)called AE"):
        echo(replace(PEER, ae_title="NOBODY"))

    assert echo(replace(PEER, ae_title="ARCFLEET")).is_success


def test_second_service_and_one_without_a_place_are_refused_in_one_line(lab: Lab, service: Member) -> None:
    busy = arcfleet("dicom", "--device", DEVICE)
    nobody = arcfleet("dicom", "--device", "archive-x")

    assert (busy.returncode, nobody.returncode) == (1, 1)
    assert busy.stderr.splitlines()[-1].startswith(
        f"arcfleet: port {PORT} of 127.0.0.1, wanted for the DICOM connection of device {DEVICE}, is busy"
    )
    assert nobody.stderr.splitlines()[-1].startswith("arcfleet: Unknown Device: archive-x, expected one of")


def test_silent_and_broken_connections_keep_nobody_out(service: Member, study: list[Path]) -> None:
    half = b"\x01\0\0\0\0\xcd" + b"\0\1\0\0ARCHIVE_A"

    with ExitStack() as stack:
        for said in [b""] * 12 + [half] * 4 + [os.urandom(3000)] * 4:
            stack.enter_context(socket.create_connection((PEER.host, PEER.port))).sendall(said)
        statuses = store(study)

    assert [status.code for status in statuses] == [0] * len(study)


def test_associations_are_spread_over_the_processes_and_limited_over_all(lab: Lab, service: Member) -> None:
    """One address gets three quarters of the eight."""
    before = served(lab)

    with associations(6), pytest.raises(errors.PeerRejected, match=r"(?i)limit") as rejected:
        echo()

    assert rejected.value.is_transient
    wait_until(taken, "there is a place again")
    wait_until(
        lambda: all(now - then >= 2 for now, then in zip(served(lab), before, strict=True)),
        "each has served two more",
        say=lambda: f"{served(lab)}, {before} before",
    )


def test_killed_process_is_started_again_and_gives_its_associations_back(lab: Lab, service: Member) -> None:
    with ExitStack() as stack:
        open_ones = [stack.enter_context(ended_somehow(1)) for _ in range(6)]
        victim, other = processes(service)

        os.kill(victim, signal.SIGKILL)

        wait_until(lambda: not child.is_alive(victim), "the process is gone")
        assert other in processes(service)
        assert any(answers(one) for [one] in open_ones)
        wait_until(taken, "others take what it held")
    wait_until(lambda: len(processes(service)) == 2, "another one is started")
    assert f"of {DEVICE} ended (signal SIGKILL), starts again in 1 s" in service.log_since_start()


def test_nothing_is_left_when_the_service_is_killed(service: Member) -> None:
    wait_until(lambda: len(processes(service)) == 2, "both processes are there")
    family = processes(service)

    with ended_somehow(2):
        service.kill_main()

        wait_until(lambda: not any(map(child.is_alive, family)), "its processes are gone")
    wait_until(lambda: not peers.is_listening(PORT), "nobody listens any more")


def test_order_to_end_is_followed_behind_the_object_in_flight(service: Member, study: list[Path]) -> None:
    family, answered, gone = processes(service), threading.Event(), threading.Event()
    statuses: list[Status] = []

    def send_for_ever() -> None:
        try:
            with association(study) as (sender, contexts):
                while True:
                    statuses.extend(store_on(sender, contexts, study))
                    answered.set()
        except errors.PeerError:
            gone.set()

    thread = threading.Thread(target=send_for_ever)
    thread.start()
    assert answered.wait(60)

    assert service.stop() == 0

    thread.join(60)
    assert gone.is_set()
    assert {status.code for status in statuses} == {0}
    assert not any(map(child.is_alive, family))
    assert as_sent(study)


def test_objects_are_refused_while_the_database_is_away(lab: Lab, service: Member, study: list[Path]) -> None:
    first, *others = study
    with association(study) as (sender, contexts):
        assert [status.code for status in store_on(sender, contexts, [first])] == [0]

        lab.postgres.stop()
        try:
            refused = store_on(sender, contexts, others)
            assert echo().is_success
        finally:
            lab.postgres.start()

        assert {status.code for status in refused} == {0xA700}
        assert all(status.comment for status in refused)
        wait_until(lambda: store_on(sender, contexts, [others[0]])[0].is_success, "objects are stored again")
        assert {status.code for status in store_on(sender, contexts, study)} == {0}
    assert as_sent(study)


def test_service_that_starts_without_a_database_takes_objects_when_it_is_there(lab: Lab, study: list[Path]) -> None:
    for member in lab.members:
        if member.is_running:
            member.kill()
    lab.postgres.stop()
    try:
        lab.dicom(DEVICE, "--processes", "2")
        assert echo().is_success
        assert {status.code for status in store(study)} == {0xA700}
    finally:
        lab.postgres.start()

    wait_until(lambda: {status.code for status in store(study)} == {0}, "objects are stored")


def test_changed_configuration_counts_without_a_restart(lab: Lab, service: Member) -> None:
    ae = f"dicomAETitle={PEER.ae_title}"
    lab.configure(ldif.Change(ae, {"dcmAcceptedCallingAETitle": "SOMEBODY"}, (DEVICE,)))
    try:
        wait_until(lambda: not taken(), "we are refused")
    finally:
        lab.configure(ldif.Change(ae, {"dcmAcceptedCallingAETitle": None}, (DEVICE,)))
    wait_until(taken, "we are taken again")


# ---- what the tests above do


def echo(peer: Peer = PEER) -> Status:
    with requestor.associate(peer, "MODALITY", [VERIFICATION]) as one:
        return one.echo()


def taken() -> bool:
    try:
        return echo().is_success
    except errors.PeerRejected:
        return False


def answers(one: Requestor) -> bool:
    try:
        return one.echo().is_success
    except errors.PeerError:
        return False


@contextmanager
def associations(number: int) -> Iterator[list[Requestor]]:
    """Open so many; places of a test before are given back a moment after its associations have ended."""
    with ExitStack() as stack:

        def another() -> Requestor | None:
            try:
                return stack.enter_context(requestor.associate(PEER, "MODALITY", [VERIFICATION]))
            except errors.PeerRejected:
                return None

        yield [wait_until(another, f"{number} associations are open") for _ in range(number)]  # type: ignore[misc]


@contextmanager
def ended_somehow(number: int) -> Iterator[list[Requestor]]:
    """Open associations whose other end may vanish."""
    try:
        with associations(number) as opened:
            yield opened
    except errors.PeerError:
        pass


@contextmanager
def association(files: Sequence[Path]) -> Iterator[tuple[Requestor, dict[Path, tuple[str, Context]]]]:
    """Open an association for these files; with it come their SOP Instance UIDs and contexts."""
    contexts = {}
    for path in files:
        meta = pydicom.dcmread(path, stop_before_pixels=True).file_meta
        context = Context(str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID))
        contexts[path] = (str(meta.MediaStorageSOPInstanceUID), context)
    wanted = list(dict.fromkeys(context for _, context in contexts.values()))
    with requestor.associate(PEER, "MODALITY", wanted) as sender:
        yield sender, contexts


def store_on(sender: Requestor, contexts: dict[Path, tuple[str, Context]], files: Sequence[Path]) -> list[Status]:
    return [sender.store(*contexts[path], [part10.data_set(path)]) for path in files]


def store(files: Sequence[Path]) -> list[Status]:
    with association(files) as (sender, contexts):
        return store_on(sender, contexts, files)


def as_sent(files: Sequence[Path]) -> bool:
    """Tell whether the archive has the data set of each file, byte by byte."""
    there = stored.data_sets()
    return all(there.get(part10.sop_uid(path)) == part10.data_set(path) for path in files)


def arcfleet(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "api.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def processes(service: Member) -> list[int]:
    """Return the ids of the processes that take connections."""
    return [pid for pid in child.descendants(service.pid) if name_of(pid) == DICOM_PROCESS]


def served(lab: Lab) -> list[int]:
    """Return how many associations each process has served."""
    names = [f"dicom-{DEVICE}-process-{number}.log" for number in (1, 2)]
    return [(lab.home / "logs" / name).read_text().count(" association ended") for name in names]
