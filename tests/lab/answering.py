"""What a scripted DICOM peer answers to queries and retrievals."""

from __future__ import annotations

import socket
import struct
from io import BytesIO

from pydicom.dataset import Dataset
from pynetdicom import dsutils

from archive.dicom import commands, pdu, wire
from tests.lab.scripted import command_pdu, data_pdu, pdv

PENDING = 0xFF00


def keys(**values: str) -> Dataset:
    """Return an identifier of studies."""
    ds = Dataset()
    ds.QueryRetrieveLevel = "STUDY"
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def said(field: int, status: int, *numbers: int, has_data_set: bool = False) -> bytes:
    """Return a response to the first request, with numbers of sub-operations."""
    elements = {0x0100: field, 0x0120: 1, 0x0800: 1 if has_data_set else 0x0101, 0x0900: status}
    elements |= dict(zip((0x1020, 0x1021, 0x1022, 0x1023), numbers, strict=False))
    body = b"".join(struct.pack("<HHIH", 0, element, 2, value) for element, value in elements.items())
    return command_pdu(struct.pack("<HHII", 0, 0, 4, len(body)) + body)


def match(study_uid: str) -> bytes:
    """Return a study that was found."""
    encoded = dsutils.encode(keys(StudyInstanceUID=study_uid), is_implicit_vr=False, is_little_endian=True)
    assert encoded is not None
    return said(commands.C_FIND_RSP, PENDING, has_data_set=True) + data_pdu(pdv(encoded, is_command=False))


def release(connection: socket.socket, reader: wire.Wire) -> None:
    """Wait for the end of the association."""
    assert reader.read_pdv() is None
    connection.sendall(pdu.RELEASE_RP)


def asked_for(identifier: bytes) -> dict[str, str]:
    """Return the keys of a query that have a value."""
    ds = dsutils.decode(BytesIO(identifier), is_implicit_vr=False, is_little_endian=True)
    return {one.keyword: str(ds[one.tag].value) for one in ds if one.value}
