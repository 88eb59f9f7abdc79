"""The service class provider with other people's programs on the other side: dcmtk's and pynetdicom's senders."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from tests.lab import peers
from tests.lab.accepting import Accepting, Keeping

CT = Path(str(get_testdata_file("CT_small.dcm")))
CT_UID = "1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322"


def test_echoscu_is_answered() -> None:
    with Accepting() as accepting:
        assert peers.echoscu(accepting.peer).exit_code == 0
        assert accepting.ending() == "released"


def test_objects_of_storescu_are_taken() -> None:
    with Accepting() as accepting:
        said = peers.storescu(accepting.peer, [CT] * 20)

        assert (said.exit_code, said.responses()) == (0, 20)
        assert isinstance(accepting.services, Keeping)
        data_sets = [data for _, data in accepting.services.objects]
        assert len(data_sets) == 20
        assert pydicom.dcmread(CT).PixelData in data_sets[0]


@pytest.mark.parametrize("option", ["-xs", "-xy", "-xi"])
def test_storescu_that_aborts_or_proposes_otherwise_is_outlived(option: str) -> None:
    with Accepting() as accepting:
        peers.storescu(accepting.peer, [CT], option)
        said = peers.echoscu(accepting.peer, "--abort")

        assert said.exit_code == 0
        assert "aborted the association" in accepting.ending(2)


def test_objects_of_dcmsend_are_taken() -> None:
    with Accepting() as accepting:
        said = peers.dcmsend(accepting.peer, [CT])

        assert said.exit_code == 0, said.text
        assert isinstance(accepting.services, Keeping)
        assert {request.sop_uid for request, _ in accepting.services.objects} == {CT_UID}


def test_object_of_pynetdicom_is_taken() -> None:
    with Accepting() as accepting:
        said = peers.pynetdicom_storescu(accepting.peer, [CT])

        assert said.exit_code == 0, said.text
        assert isinstance(accepting.services, Keeping)
        assert [request.sop_uid for request, _ in accepting.services.objects] == [CT_UID]
