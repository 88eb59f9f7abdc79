"""C-FIND and C-MOVE with archives of other makes: dcmtk's dcmqrscp and Orthanc."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from archive.dicom import queries
from archive.dicom.peer import Peer
from archive.dicom.requestor import associate
from tests.integration.archive.archive_agreement import write_object
from tests.lab import peers
from tests.lab.cluster import free_port
from tests.lab.orthanc import orthanc
from tests.lab.qrscp import dcmqrscp
from tests.lab.scripted import PATIENT

STUDIES = {"1.2.1": 3, "1.2.2": 1}
MAKES = ["dcmqrscp", "orthanc"]


def files(folder: Path) -> list[Path]:
    """Write two studies."""
    return [
        write_object(
            folder / f"{study}.{n}", study, f"{study}.1", f"{study}.1.{n}",
            PatientName="Müller^Jürg", SpecificCharacterSet="ISO_IR 100", StudyDate="20260101", AccessionNumber="A1",
            StudyID="1", StudyTime="1200", PatientID="P1", SeriesNumber="1", InstanceNumber=str(n),
        )
        for study, number in STUDIES.items()
        for n in range(1, number + 1)
    ]  # fmt: skip


@contextmanager
def source(make: str, folder: Path, *destinations: Peer) -> Iterator[Peer]:
    if make == "dcmqrscp":
        with dcmqrscp(files(folder), *destinations, port=free_port()) as peer:
            yield peer
    else:
        allowed = {"DicomAlwaysAllowFind": True, "DicomAlwaysAllowMove": True}
        with orthanc(*destinations, port=free_port(), rest_port=free_port(), **allowed) as made:
            made.upload(files(folder))
            yield made.peer


def keys(study_uid: str = "", **values: str) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = "STUDY"
    ds.StudyInstanceUID = study_uid
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize("make", MAKES)
def test_studies_are_found_with_their_attributes(make: str, tmp_path: Path) -> None:
    with source(make, tmp_path) as peer:
        contexts = queries.contexts(queries.FIND_CLASS)
        with associate(peer, "ARCFLEET", contexts, PATIENT) as association:
            all_of_them = list(queries.find(association, keys(PatientName="", StudyDate=""), 60))
            one = list(queries.find(association, keys("1.2.2"), 60))
            none = list(queries.find(association, keys("1.2.9"), 60))

    assert {str(ds.StudyInstanceUID) for ds in all_of_them} == set(STUDIES)
    assert {str(ds.PatientName) for ds in all_of_them} == {"Müller^Jürg"}
    assert [str(ds.StudyInstanceUID) for ds in one] == ["1.2.2"]
    assert none == []


@pytest.mark.parametrize("make", MAKES)
def test_study_is_sent_to_the_destination(make: str, tmp_path: Path) -> None:
    with (
        peers.storescp(port=free_port(), ae_title="SINK") as sink,
        source(make, tmp_path, sink.peer) as peer,
        associate(peer, "ARCFLEET", queries.contexts(queries.MOVE_CLASS), PATIENT) as association,
    ):
        *before, last = queries.move(association, keys("1.2.1"), "SINK", 60)

        assert (last.status.code, last.sub_operations.completed, last.sub_operations.failed) == (0, 3, 0)
        assert all(answer.status.is_pending for answer in before)
        assert sorted(sink.data_sets()) == ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.1.3"]


def test_destination_that_the_peer_does_not_know_is_said(tmp_path: Path) -> None:
    with (
        source("dcmqrscp", tmp_path) as peer,
        associate(peer, "ARCFLEET", queries.contexts(queries.MOVE_CLASS), PATIENT) as association,
    ):
        *_, last = queries.move(association, keys("1.2.1"), "NOWHERE", 60)

    assert str(last.status) == "A801 Refused: Move Destination Unknown"
