"""The DICOM service killed while it receives: what it has confirmed is there, and nothing is left of the rest."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid
from sqlalchemy import select, text

from archive import db, errors, model
from archive.dicom.peer import Context, Peer
from archive.dicom.requestor import associate
from archive.storage.files import PART
from archive.storage.health import MARKER
from tests.lab import agreement, dicom, ldif, part10, peers, stored
from tests.lab.cluster import Lab, cluster, free_port
from tests.lab.member import Member
from tests.lab.waiting import wait_until
from workers.embedded import child

HERE = "archive-a"
OBJECTS = 400
#: Of an image that is too large to be held in memory until it is whole, 16 MB.
SIDE = 4096
#: Of objects confirmed when the service is killed: sooner and later than its batches grow.
WHEN = (1, 30, 130)


@pytest.fixture
def peer() -> Peer:
    return Peer("ARCHIVE_A", "127.0.0.1", free_port())


@pytest.fixture
def lab(peer: Peer) -> Iterator[Lab]:
    with cluster(ldif.connection(HERE, dicomPort=str(peer.port)), sends=False) as made:
        yield made


def in_the_middle(data_set: bytes, then: Callable[[], None]) -> Iterator[bytes]:
    """Yield a data set in two halves, and do something between them."""
    half = len(data_set) // 2
    yield data_set[:half]
    then()
    yield data_set[half:]


def writes(lab: Lab) -> bool:
    """Tell whether part of an object is on the disk."""
    return any((lab.home / "storage").rglob(f"*{PART}"))


def named(lab: Lab) -> list[Path]:
    """Return the files of objects on the disk that have their final names."""
    found = (path for path in (lab.home / "storage").rglob("*") if path.is_file())
    return [path for path in found if path.name != MARKER and path.suffix != PART]


def kill_once_named(lab: Lab, service: Member) -> None:
    """Kill the service as soon as its second object has its final name."""
    wait_until(lambda: len(named(lab)) == 2, "the file has its name", say=lab.describe)
    service.kill()


def process_that_receives(service: Member, peer: Peer) -> int:
    """Return the one of the service's processes that has a connection of ours."""
    found = [pid for pid in child.descendants(service.pid) if peers.has_connection(pid, peer.port)]
    assert len(found) == 1, f"{found} of {child.descendants(service.pid)} have connections to {peer}"
    return found[0]


def kill_in_the_middle(lab: Lab, peer: Peer, folder: Path, kill: Callable[[], None]) -> str:
    """Send the first two of a folder's objects, kill in the middle of the second; returns its SOP Instance UID."""
    first, second = sorted(folder.iterdir())[:2]
    ds = pydicom.dcmread(second)
    context = Context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)

    def then() -> None:
        wait_until(lambda: writes(lab), "half of the object is on the disk", say=lab.describe)
        kill()

    with associate(peer, "TESTER", [context]) as requestor:
        assert requestor.store(part10.sop_uid(first), context, [part10.data_set(first)]).is_success
        with pytest.raises(errors.PeerAborted):
            requestor.store(ds.SOPInstanceUID, context, in_the_middle(part10.data_set(second), then))
    return str(ds.SOPInstanceUID)


def test_object_in_flight_is_gone_and_the_confirmed_one_is_kept(lab: Lab, peer: Peer, tmp_path: Path) -> None:
    dicom.write_study(tmp_path, 2, side=SIDE)
    service = lab.dicom(HERE)

    lost = kill_in_the_middle(lab, peer, tmp_path, service.kill)

    assert agreement.after_sweep(HERE) == []
    assert len(stored.files()) == stored.received() == 1
    assert lost not in stored.files()
    service.start()
    wait_until(lambda: peers.is_listening(peer.port), "the service listens again", say=service.tail)
    assert peers.storescu(peer, [tmp_path], "+sd").responses() == 2
    wait_until(stored.is_settled, "the service has ended its associations", say=service.tail)
    assert len(stored.files()) == 2
    assert agreement.disagreements() == []


def test_service_goes_on_when_one_of_its_processes_is_killed(lab: Lab, peer: Peer, tmp_path: Path) -> None:
    dicom.write_study(tmp_path, 2, side=SIDE)
    service = lab.dicom(HERE)

    kill_in_the_middle(lab, peer, tmp_path, lambda: os.kill(process_that_receives(service, peer), signal.SIGKILL))

    assert peers.storescu(peer, [tmp_path], "+sd").responses() == 2
    assert len(stored.files()) == 2
    assert service.stop() == 0
    assert agreement.after_sweep(HERE) == []


@pytest.mark.parametrize("is_first", [False, True], ids=["one more of its series", "first of its series"])
def test_service_killed_between_name_and_row_leaves_neither(
    lab: Lab, peer: Peer, tmp_path: Path, *, is_first: bool
) -> None:
    dicom.write_study(tmp_path, 2, side=SIDE)
    before, last = sorted(tmp_path.iterdir())
    ds = pydicom.dcmread(last)
    if is_first:
        ds.SeriesInstanceUID = generate_uid()
    ds.save_as(last)
    context = Context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)
    service = lab.dicom(HERE)

    with associate(peer, "TESTER", [context]) as requestor:
        assert requestor.store(part10.sop_uid(before), context, [part10.data_set(before)]).is_success
        with db.transaction() as session:
            # The row cannot be written until this transaction ends.
            session.scalars(select(model.Study).with_for_update()).one()
            killer = threading.Thread(target=kill_once_named, args=(lab, service))
            killer.start()
            with pytest.raises(errors.PeerAborted):
                requestor.store(ds.SOPInstanceUID, context, [part10.data_set(last)])
            killer.join()
            assert len(named(lab)) == 2
            # The session of a client that is gone would still write what it was told before; here it dies as well.
            waiting = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            assert session.scalars(text(waiting)).all() == [True]

    assert agreement.after_sweep(HERE) == []
    assert len(named(lab)) == len(stored.files()) == stored.received() == 1
    service.start()
    wait_until(lambda: peers.is_listening(peer.port), "the service listens again", say=service.tail)
    assert peers.storescu(peer, [tmp_path], "+sd").responses() == 2
    assert service.stop() == 0
    assert agreement.after_sweep(HERE) == []
    assert len(named(lab)) == len(stored.files()) == 2


@pytest.mark.parametrize("confirmed", WHEN)
def test_all_that_was_confirmed_is_kept_by_a_service_killed_at_work(
    lab: Lab, peer: Peer, tmp_path: Path, confirmed: int
) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    dicom.write_study(folder, OBJECTS)
    service = lab.dicom(HERE)
    sender = peers.start_storescu(peer, [folder], tmp_path / "storescu.log", "+sd")

    wait_until(lambda: len(stored.files()) >= confirmed, f"{confirmed} objects are stored", say=service.tail)
    service.kill()

    said = peers.said(sender)
    assert agreement.after_sweep(HERE) == []
    assert said.responses() <= len(stored.files()) <= said.responses() + 1
    assert stored.received() == len(stored.files())
