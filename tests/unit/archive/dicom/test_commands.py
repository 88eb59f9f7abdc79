"""DIMSE command sets: pydicom reads what we write and writes what we read, and garbage is refused in one way."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from archive import errors
from archive.dicom import commands
from archive.dicom.status import Status

CT = "1.2.840.10008.5.1.4.1.1.2"
PEER = "PACS at 127.0.0.1:11112"


def _read(command: bytes) -> Dataset:
    return read_dataset(BytesIO(command), is_implicit_VR=True, is_little_endian=True)


def _written(**elements: object) -> bytes:
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    out = DicomBytesIO()
    out.is_implicit_VR = out.is_little_endian = True
    write_dataset(out, ds)
    return out.getvalue()


def test_store_request_says_what_is_sent() -> None:
    ds = _read(commands.store_request(7, CT, "1.2.3", priority=1))

    assert ds.CommandGroupLength == len(commands.store_request(7, CT, "1.2.3")) - 12
    assert (ds.AffectedSOPClassUID, ds.AffectedSOPInstanceUID) == (CT, "1.2.3")
    assert (ds.CommandField, ds.MessageID, ds.Priority, ds.CommandDataSetType) == (1, 7, 1, 1)


def test_echo_request_has_no_data_set() -> None:
    ds = _read(commands.echo_request(7, "1.2.840.10008.1.1"))

    assert (ds.CommandField, ds.MessageID, ds.CommandDataSetType) == (0x30, 7, 0x0101)


def test_request_is_read_as_it_was_written() -> None:
    command = commands.decode(commands.store_request(65535, CT, "1.2.3"), PEER)

    assert command == commands.Command(commands.C_STORE_RQ, 65535, CT, "1.2.3", has_data_set=True)


def test_response_answers_its_request() -> None:
    request = commands.decode(commands.store_request(9, CT, "1.2.3"), PEER)

    ds = _read(commands.response(request, Status(0xA700, "disk full", (0x00100010, 0x7FE00010))))

    assert (ds.CommandField, ds.MessageIDBeingRespondedTo, ds.CommandDataSetType) == (0x8001, 9, 0x0101)
    assert (ds.AffectedSOPClassUID, ds.AffectedSOPInstanceUID) == (CT, "1.2.3")
    assert (ds.Status, ds.ErrorComment, list(ds.OffendingElement)) == (0xA700, "disk full", [0x00100010, 0x7FE00010])


def test_response_is_read_with_its_status() -> None:
    request = commands.decode(commands.store_request(9, CT, "1.2.3"), PEER)
    status = Status(0xA900, "no such class", (0x00080016,))

    response = commands.decode(commands.response(request, status), PEER)

    assert (response.is_response, response.message_id, response.status) == (True, 9, status)


@pytest.mark.parametrize(
    ("comment", "sent"),
    [
        ("x" * 100, "x" * 64),
        ("Größe\\falsch\n\x1b[1m", "Gr??e falsch [1m"),
        ("  ", None),
    ],
)
def test_comment_is_short_and_plain(comment: str, sent: str | None) -> None:
    request = commands.decode(commands.echo_request(1, CT), PEER)

    response = commands.decode(commands.response(request, Status(0x0110, comment)), PEER)

    assert response.status == Status(0x0110, sent)


def test_elements_that_we_do_not_know_are_left_out() -> None:
    data = _written(
        AffectedSOPClassUID=CT,
        CommandField=1,
        MessageID=3,
        MoveOriginatorApplicationEntityTitle="MOVER",
        MoveOriginatorMessageID=5,
        Priority=0,
        CommandDataSetType=0,
        AffectedSOPInstanceUID="1.2.3",
    )

    assert commands.decode(data, PEER) == commands.Command(1, 3, CT, "1.2.3", has_data_set=True)


def test_cancel_is_read() -> None:
    data = _written(CommandField=0x0FFF, MessageIDBeingRespondedTo=4, CommandDataSetType=0x0101)

    command = commands.decode(data, PEER)

    assert (command.field, command.message_id, command.has_data_set) == (commands.C_CANCEL_RQ, 4, False)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        b"GET / HTTP/1.1\r\n\r\n",
        commands.store_request(1, CT, "1.2.3")[:-1],
        _written(CommandField=1, CommandDataSetType=1),
        _written(CommandField=0x8001, MessageIDBeingRespondedTo=1, CommandDataSetType=0x0101),
        _written(MessageID=1, CommandDataSetType=1),
    ],
)
def test_what_is_no_command_is_refused(data: bytes) -> None:
    with pytest.raises(errors.PeerMisbehaved, match=f"^{PEER}: sent what is no DIMSE command: "):
        commands.decode(data, PEER)


@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=300))
def test_no_garbage_is_worse_than_misbehaviour(data: bytes) -> None:
    try:
        commands.decode(data, PEER)
    except errors.PeerMisbehaved:
        return


@settings(deadline=None, max_examples=300)
@given(at=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.integers(0, 200))
def test_no_damaged_command_is_worse_than_misbehaviour(at: int, value: int, cut: int) -> None:
    data = bytearray(commands.store_request(1, CT, "1.2.3.4.5.6"))
    data[at % len(data)] = value
    try:
        commands.response(commands.decode(bytes(data[: len(data) - cut]), PEER), Status(0))
        commands.response(commands.decode(bytes(data), PEER), Status(0))
    except errors.PeerMisbehaved:
        return
