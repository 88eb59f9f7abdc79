"""The service class user with other people's programs on the other side: dcmtk's and pynetdicom's storescp."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from archive.dicom.peer import VERIFICATION, Context, Peer
from archive.dicom.requestor import associate
from archive.dicom.status import Status
from tests.lab import part10, peers
from tests.lab.cluster import free_port
from tests.lab.part10 import Sample
from tests.lab.scripted import PATIENT


def _sample(name: str) -> Sample:
    path = Path(str(get_testdata_file(name)))
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    return Sample(path, str(ds.SOPInstanceUID), str(ds.file_meta.TransferSyntaxUID))


def _context(sample: Sample) -> Context:
    ds = pydicom.dcmread(sample.path, specific_tags=["SOPClassUID"], stop_before_pixels=True)
    return Context(str(ds.SOPClassUID), sample.transfer_syntax_uid)


def _send(peer: Peer, samples: Sequence[Sample]) -> list[Status]:
    contexts = [_context(sample) for sample in samples]
    with associate(peer, "ARCFLEET", [VERIFICATION, *contexts], PATIENT) as association:
        assert association.echo().is_success
        return [
            association.store(sample.sop_uid, context, [part10.data_set(sample.path)])
            for sample, context in zip(samples, contexts, strict=True)
        ]


SAMPLES = [
    _sample("CT_small.dcm"),
    _sample("MR_small_bigendian.dcm"),
    _sample("JPEG2000.dcm"),
    _sample("examples_ybr_color.dcm"),
]


def test_storescp_gets_what_was_sent() -> None:
    with peers.storescp(port=free_port()) as sink:
        statuses = _send(sink.peer, SAMPLES)

        assert statuses == [Status(0)] * len(SAMPLES)
        assert sink.data_sets() == {sample.sop_uid: part10.data_set(sample.path) for sample in SAMPLES}


@pytest.mark.parametrize("max_pdu_length", [4096, 131072])
def test_storescp_of_any_pdu_length_gets_what_was_sent(max_pdu_length: int) -> None:
    with peers.storescp(*peers.AS_SENT, "-pdu", str(max_pdu_length), port=free_port()) as sink:
        _send(sink.peer, SAMPLES[:1])

        assert list(sink.data_sets().values()) == [part10.data_set(SAMPLES[0].path)]


def test_storescp_of_pynetdicom_gets_what_was_sent() -> None:
    with peers.pynetdicom_storescp(port=free_port()) as sink:
        statuses = _send(sink.peer, SAMPLES[:1])

        assert statuses == [Status(0)]
        assert list(sink.data_sets()) == [SAMPLES[0].sop_uid]
