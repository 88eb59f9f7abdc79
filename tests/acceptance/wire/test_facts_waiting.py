"""The services that answer when the work is done, called by the client that knows their description alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from archive.dicom.peer import Peer
from tests.acceptance.wire.client import Archive
from tests.acceptance.wire.test_facts_client import refused
from tests.integration.tasks.kinds import asking
from tests.lab import ldif, peers
from tests.lab.cluster import Lab, cluster, free_port
from tests.lab.peers import Sink
from tests.lab.qrscp import dcmqrscp
from tests.lab.waiting import wait_until

RS = "aets/ARCHIVE_A/rs"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Archive, Sink]]:
    """A cluster with a worker; FIRST and SECOND are archives of another make, SINK takes what is sent, GONE is away."""
    folder = tmp_path_factory.mktemp("studies")
    first = asking.files(folder / "1", {"1.2.1": 2, "1.2.2": 1, "1.2.3": 1})
    second = asking.files(folder / "2", {"1.2.1": 2}) + asking.files(folder / "3", {"1.2.2": 1}, PatientName="Doe^John")
    with (
        peers.storescp(port=free_port(), ae_title="SINK") as sink,
        dcmqrscp(first, sink.peer, port=free_port(), ae_title="FIRST") as one,
        dcmqrscp(second, sink.peer, port=free_port(), ae_title="SECOND") as other,
    ):
        nodes = (sink.peer, one, other, Peer("GONE", "127.0.0.1", free_port()))
        with cluster(*(change for node in nodes for change in ldif.remote(node.ae_title, node.port))) as lab:
            api, url = lab.api("--offset", str(free_port() % 20_000 + 1000))
            lab.ready(lab.worker("archive-a"))
            wait_until(lambda: api.said("Application startup complete"), "the API is ready", say=api.tail)
            client = Archive(url.removesuffix("/dcm4chee-arc"))
            yield lab, client, sink
            client.close()


def test_study_is_sent_while_the_client_waits(house: tuple[Lab, Archive, Sink]) -> None:
    lab, archive, sink = house
    study_uid = lab.store_study("archive-a", objects=3)
    before = len(sink.data_sets())

    status, said = archive.transfer(f"{RS}/studies/{study_uid}/export/dicom:SINK")
    away, nothing = archive.transfer(f"{RS}/studies/{study_uid}/export/dicom:GONE")

    assert (status, said["completed"], said["warning"], said["failed"]) == (200, 3, 0, 0)
    assert (away, nothing["completed"], bool(nothing["error"])) == (502, 0, True)
    assert len(sink.data_sets()) - before == 3


def test_study_is_fetched_while_the_client_waits(house: tuple[Lab, Archive, Sink]) -> None:
    _, archive, sink = house

    status, said = archive.transfer("aets/ARCHIVE_A/dimse/FIRST/studies/1.2.1/export/dicom:SINK", {"priority": "1"})
    unknown, failed = archive.transfer("aets/ARCHIVE_A/dimse/FIRST/studies/1.2.2/export/dicom:ELSEWHERE")
    away, nothing = archive.transfer("aets/ARCHIVE_A/dimse/GONE/studies/1.2.1/export/dicom:SINK")

    assert (status, said["status"], said["completed"], said["failed"]) == (200, "0000", 2, 0)
    assert (unknown, failed["status"], failed["completed"]) == (502, "A801", 0)
    assert (away, nothing["completed"], bool(nothing["error"])) == (502, 0, True)
    assert {"1.2.1.1.1", "1.2.1.1.2"} <= set(sink.data_sets())


def test_studies_that_another_archive_finds_are_fetched_by_tasks(house: tuple[Lab, Archive, Sink]) -> None:
    _, archive, _ = house
    batch = {"batchID": "found", "scheduledTime": "20300115120000"}

    made = archive.make_many("aets/ARCHIVE_A/dimse/FIRST/studies/export/dicom:SINK", {"PatientID": "P1", **batch})
    elsewhere = archive.make_many(
        "aets/ARCHIVE_A/dimse/FIRST/query:SECOND/studies/export/dicom:ARCHIVE_B", {"StudyDate": "20260101", **batch}
    )

    assert (made, elsewhere) == (3, 2)
    found = archive.list("monitor/retrieve", {"batchID": "found"})
    assert sorted(one.get("FindSCP", "") for one in found) == ["", "", "", "SECOND", "SECOND"]


def test_differences_are_answered_while_the_client_waits(house: tuple[Lab, Archive, Sink]) -> None:
    _, archive, _ = house
    path = "aets/ARCHIVE_A/dimse/FIRST/diff/SECOND/studies"

    both = archive.compare(path, {"PatientID": "P1", "missing": "true"})
    different = archive.compare(path, {"PatientID": "P1"})
    same = archive.compare(path, {"StudyInstanceUID": "1.2.1"})
    by_accession = archive.compare(path, {"PatientID": "P1", "comparefield": "AccessionNumber"})
    counts = archive.get(f"{path}/count", {"PatientID": "P1", "missing": "true"})

    def uids(studies: list[dict[str, dict[str, list[str]]]]) -> list[str]:
        return sorted(one["0020000D"]["Value"][0] for one in studies)

    assert (uids(both), uids(different), same, by_accession) == (["1.2.2", "1.2.3"], ["1.2.2"], [], [])
    assert (counts["count"], counts["missing"], counts["different"]) == (3, 1, 1)
    assert (
        refused(lambda: archive.compare("aets/ARCHIVE_A/dimse/NOBODY/diff/SECOND/studies", {"PatientID": "P1"}))[0]
        == 404
    )


def test_files_are_verified_while_the_client_waits(house: tuple[Lab, Archive, Sink]) -> None:
    lab, archive, _ = house
    study_uid = lab.store_study("archive-a", objects=2)

    status, said = archive.verify(f"{RS}/studies/{study_uid}/stgver", {"storageVerificationPolicy": "OBJECT_CHECKSUM"})

    assert (status, int(said["completed"]), int(said["failed"])) == (200, 2, 0)
