"""Senders of other makes at the DICOM service of a device: what they send lies in the archive, byte for byte."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

import pytest
from pydicom import uid

from archive.dicom.peer import Peer
from tests.lab import agreement, dicom, ldif, part10, peers, stored
from tests.lab.cluster import Lab, cluster, free_port
from tests.lab.orthanc import orthanc
from tests.lab.part10 import Sample
from tests.lab.waiting import wait_until

HERE = "archive-a"
#: What storescu proposes only if asked: option by transfer syntax. The others are uncompressed.
PROPOSED = {
    uid.JPEGBaseline8Bit: "-xy",
    uid.JPEGExtended12Bit: "-xx",
    uid.JPEGLosslessSV1: "-xs",
    uid.JPEGLSLossless: "-xt",
    uid.JPEG2000Lossless: "-xv",
    uid.JPEG2000: "-xw",
    uid.RLELossless: "-xr",
    uid.DeflatedExplicitVRLittleEndian: "-xd",
}
#: More than the associations that pynetdicom's server would take.
SILENT = 12


@pytest.fixture(scope="module")
def peer() -> Peer:
    return Peer("ARCHIVE_A", "127.0.0.1", free_port())


@pytest.fixture(scope="module")
def running(peer: Peer) -> Iterator[Lab]:
    with cluster(ldif.connection(HERE, dicomPort=str(peer.port)), sends=False) as made:
        made.dicom(HERE)
        yield made


@pytest.fixture
def lab(running: Lab) -> Iterator[Lab]:
    yield running
    wait_until(stored.is_settled, "the service has ended all associations", say=running.describe)
    assert agreement.disagreements() == []
    stored.forget()


def storescu_all(peer: Peer, samples: Iterable[Sample]) -> list[peers.Said]:
    """Send samples by storescu, those of one transfer syntax after those of another."""
    by_syntax = sorted(samples, key=lambda sample: sample.transfer_syntax_uid)
    said = []
    for syntax, group in groupby(by_syntax, key=lambda sample: sample.transfer_syntax_uid):
        options = [PROPOSED[syntax]] if syntax in PROPOSED else []
        said.append(peers.storescu(peer, [sample.path for sample in group], *options))
    return said


def test_echoscu_is_answered(lab: Lab, peer: Peer) -> None:
    assert peers.echoscu(peer).exit_code == 0


def test_unknown_called_ae_title_is_rejected(lab: Lab, peer: Peer) -> None:
    said = peers.echoscu(Peer("NOBODY", peer.host, peer.port))

    assert said.exit_code != 0
    assert "Called AE Title Not Recognized" in said.text


def test_samples_that_storescu_sends_lie_in_the_archive_byte_for_byte(lab: Lab, peer: Peer) -> None:
    samples = part10.first_of_each(part10.samples())
    with peers.storescp(port=free_port()) as reference:
        storescu_all(reference.peer, samples.values())
        sent = reference.data_sets()

    said = storescu_all(peer, samples.values())

    assert sum(one.responses() for one in said) == len(samples) == len(sent)
    assert stored.data_sets() == sent
    assert stored.received() == len(samples)


def test_first_of_several_objects_with_one_uid_is_kept(lab: Lab, peer: Peer) -> None:
    samples = part10.samples()
    first = part10.first_of_each(samples)
    others = [sample for sample in samples if sample is not first[sample.sop_uid]]
    storescu_all(peer, first.values())
    before = stored.data_sets()

    said = storescu_all(peer, others)
    again = storescu_all(peer, first.values())

    differ = sum(one.responses("Unknown Status: 0x111") for one in said)
    assert differ > 20
    assert differ + sum(one.responses() for one in said) == sum(one.requests() for one in said)
    assert sum(one.responses() for one in again) == len(first)
    assert stored.data_sets() == before


def test_samples_that_dcmsend_sends_lie_in_the_archive_byte_for_byte(lab: Lab, peer: Peer) -> None:
    paths = [sample.path for sample in part10.first_of_each(part10.samples()).values()]
    with peers.storescp(port=free_port()) as reference:
        peers.dcmsend(reference.peer, paths)
        sent = reference.data_sets()

    said = peers.dcmsend(peer, paths)

    assert said.exit_code == 0, said.text
    assert stored.data_sets() == sent


def test_samples_that_orthanc_sends_lie_in_the_archive_byte_for_byte(lab: Lab, peer: Peer) -> None:
    paths = [sample.path for sample in part10.first_of_each(part10.samples()).values()]
    with (
        peers.storescp(port=free_port()) as reference,
        orthanc(peer, reference.peer, port=free_port(), rest_port=free_port()) as sender,
    ):
        studies = sender.upload(paths)
        assert sender.echo(peer.ae_title)
        assert sender.send(studies, reference.peer.ae_title)["State"] == "Success"
        sent = reference.data_sets()

        job = sender.send(studies, peer.ae_title)

    assert job["State"] == "Success", job
    assert stored.data_sets() == sent


def test_objects_that_pynetdicom_sends_lie_in_the_archive_byte_for_byte(lab: Lab, peer: Peer, tmp_path: Path) -> None:
    dicom.write_study(tmp_path, 10)
    paths = sorted(tmp_path.iterdir())

    said = peers.pynetdicom_storescu(peer, paths)

    assert said.exit_code == 0, said.text
    assert stored.data_sets() == {part10.sop_uid(path): part10.data_set(path) for path in paths}


def test_no_response_of_two_thousand_objects_is_lost(lab: Lab, peer: Peer, tmp_path: Path) -> None:
    dicom.write_study(tmp_path, 2000)

    said = peers.storescu(peer, [tmp_path], "+sd")

    assert (said.exit_code, said.responses()) == (0, 2000)
    assert len(stored.files()) == stored.received() == 2000


def test_silent_connections_keep_nobody_out(lab: Lab, peer: Peer, tmp_path: Path) -> None:
    dicom.write_study(tmp_path, 3)
    with ExitStack() as stack:
        for _ in range(SILENT):
            stack.enter_context(socket.create_connection((peer.host, peer.port)))

        assert peers.echoscu(peer).exit_code == 0
        assert peers.storescu(peer, [tmp_path], "+sd").responses() == 3
