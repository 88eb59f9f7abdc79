"""Which studies another archive has, asked of archives of other makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from archive import configuration
from archive.dicom import studies
from archive.dicom.peer import Peer
from archive.errors import PeerError
from archive.query import Entity
from tests import factories
from tests.integration.archive.dicom.test_query_peers import source
from tests.integration.tasks.kinds.asking import device, use
from tests.lab.cluster import free_port


@pytest.fixture(params=["dcmqrscp", "orthanc"])
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Peer]:
    with source(request.param, tmp_path) as made:
        use(made)
        yield made
    configuration.reset()


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({}, {"1.2.1", "1.2.2"}),
        ({"StudyDate": "20260101-20260131", "PatientID": "P*"}, {"1.2.1", "1.2.2"}),
        ({"StudyInstanceUID": "1.2.2\\1.2.9"}, {"1.2.2"}),
        ({"AccessionNumber": "other"}, set()),
    ],
)
def test_studies_that_match_are_found(peer: Peer, keys: dict[str, str], found: set[str]) -> None:
    assert set(studies.find(device(), "ARCHIVE_A", peer.ae_title, keys)) == {Entity(uid) for uid in found}


def test_archive_that_is_not_there_is_named() -> None:
    use(Peer("GONE", "127.0.0.1", free_port()))

    with pytest.raises(PeerError, match="GONE"):
        studies.find(device(), "ARCHIVE_A", "GONE", {})
    with pytest.raises(PeerError, match="NOBODY"):
        studies.find(factories.device(), "ARCHIVE_A", "NOBODY", {})
    configuration.reset()
