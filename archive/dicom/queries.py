"""Query and retrieve at a peer: C-FIND and C-MOVE in the study root model, on an association that is open."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from archive import errors
from archive.dicom import commands
from archive.dicom.peer import Context
from archive.dicom.requestor import Answer, Requestor
from archive.dicom.status import Status

#: Study Root Query/Retrieve Information Model. Source: PS3.4 C.6.2.2, Annex C.6.2.1
FIND_CLASS, MOVE_CLASS = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.2"

#: Text of keys that is not ASCII goes in UTF-8. Source: PS3.3 C.12.1.1.2
_UTF_8 = "ISO_IR 192"

#: What pydicom raises at a damaged data set, here or there.
_DAMAGED = (
    ValueError, TypeError, LookupError, AttributeError, NotImplementedError, EOFError, OSError, struct.error,
    BytesLengthException,
)  # fmt: skip


def contexts(sop_class_uid: str) -> list[Context]:
    """Return what an association for queries or retrievals proposes; explicit VR is preferred: private keys keep it."""
    return [Context(sop_class_uid, syntax) for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)]


def find(association: Requestor, keys: Dataset, silence_s: float, *, priority: int = 0) -> Iterator[Dataset]:
    """Yield what matches the keys.

    Args:
        association: with the contexts of `FIND_CLASS`.
        keys: with Query/Retrieve Level; empty ones are asked for.
        silence_s: how long the peer may take for each response.
        priority: 0 medium, 1 high, 2 low.

    Raises:
        PeerRejected: the peer accepts no context for it.
        PeerRefused: the peer says that it cannot be done.
        PeerAborted, PeerTimedOut, PeerMisbehaved: the association is gone.

    Source: PS3.4 C.4.1
    """
    context = _accepted(association, FIND_CLASS)

    def request(message_id: int) -> bytes:
        return commands.find_request(message_id, FIND_CLASS, priority)

    refused: Status | None = None
    for answer in association.converse(context, request, _encoded(keys, context), silence_s):
        if answer.status.is_pending:
            yield _decoded(association, answer.data, context)
        elif not answer.status.is_success:
            refused = answer.status
    # Behind the end: a peer that was asked to cancel says so, and then it is not its refusal that counts.
    if refused is not None:
        raise errors.PeerRefused(f"{association.peer}: C-FIND {refused}")


def move(
    association: Requestor, keys: Dataset, destination: str, silence_s: float, *, priority: int = 0
) -> Iterator[Answer]:  # fmt: skip
    """Let the peer send what the keys name to another AE; yields each response, the last one is not pending.

    Args:
        association: with the contexts of `MOVE_CLASS`.
        keys: Query/Retrieve Level and UIDs.
        destination: AE title that the peer knows.
        silence_s: how long the peer may take for each response.
        priority: 0 medium, 1 high, 2 low.

    Raises:
        PeerRejected: the peer accepts no context for it.
        PeerAborted, PeerTimedOut, PeerMisbehaved: the association is gone; how much was sent is not known.

    Source: PS3.4 C.4.2
    """
    context = _accepted(association, MOVE_CLASS)

    def request(message_id: int) -> bytes:
        return commands.move_request(message_id, MOVE_CLASS, destination, priority)

    return association.converse(context, request, _encoded(keys, context), silence_s)


def _accepted(association: Requestor, sop_class_uid: str) -> Context:
    proposed = contexts(sop_class_uid)
    accepted = [context for context in proposed if association.accepts(context)]
    if not accepted:
        reason = association.refusal(proposed[0])
        raise errors.PeerRejected(f"{association.peer}: {proposed[0]} not accepted: {reason}")
    return accepted[0]


def _encoded(keys: Dataset, context: Context) -> bytes:
    if "SpecificCharacterSet" not in keys and any(not str(element.value).isascii() for element in keys):
        keys = Dataset(keys)
        keys.SpecificCharacterSet = _UTF_8
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = context.transfer_syntax_uid == ImplicitVRLittleEndian
    buffer.is_little_endian = True
    write_dataset(buffer, keys)
    return bytes(buffer.getvalue())


def _decoded(association: Requestor, data: bytes, context: Context) -> Dataset:
    is_implicit = context.transfer_syntax_uid == ImplicitVRLittleEndian
    # Peers break rules that do not concern us; pydicom would report each of them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = read_dataset(BytesIO(data), is_implicit, is_little_endian=True)
            ds.decode()
            # Values are decoded when they are first looked at.
            for element in ds.iterall():
                element.value  # noqa: B018
        except _DAMAGED as error:
            first = str(error).partition("\n")[0]
            raise errors.PeerMisbehaved(f"{association.peer}: sent a match that is no data set: {first}") from error
    return ds
