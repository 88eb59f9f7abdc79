"""What we accept of what a peer offers: all that can be stored, however it is encoded."""

from __future__ import annotations

import re

from pydicom.uid import UID_dictionary
from pynetdicom import AllStoragePresentationContexts

from archive.dicom import negotiation
from archive.dicom.negotiation import AnsweredContext, ProposedContext, Rejection
from archive.dicom.peer import VERIFICATION

_ROOT = "1.2.840.10008.5.1.4.1.1."

#: Old objects are migrated for decades after their class was retired.
_RETIRED = (
    uid
    for uid, (name, kind, _, status, _) in UID_dictionary.items()
    if uid.startswith(_ROOT) and kind == "SOP Class" and status == "Retired" and "Storage" in name
)

#: Source: PS3.4 B.5, PS3.6 Annex A
STORAGE_CLASSES: frozenset[str] = frozenset(
    (*(str(context.abstract_syntax) for context in AllStoragePresentationContexts), *_RETIRED)
)

#: Verification has no data set, so any of those that need no agreement will do.
_VERIFICATION_SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")

#: The association itself cannot be: PS3.8 9.3.4.
_NO_SUCH_PROTOCOL = Rejection(1, 2, 2)
_NO_SUCH_APPLICATION_CONTEXT = Rejection(1, 1, 2)

_UID = re.compile(r"[0-9][0-9.]{0,63}")


def impossible(request: negotiation.Request) -> Rejection | None:
    """Return why there cannot be such an association. Source: PS3.8 9.3.2, 9.3.4"""
    if not request.protocol_version & 1:
        return _NO_SUCH_PROTOCOL
    return None if request.application_context == negotiation.APPLICATION_CONTEXT else _NO_SUCH_APPLICATION_CONTEXT


def answer(context: ProposedContext) -> AnsweredContext:
    """Accept all storage classes in the first transfer syntax offered, which is how the sender has the object."""
    offered = [uid for uid in context.transfer_syntaxes if _UID.fullmatch(uid)]
    if context.abstract_syntax == VERIFICATION.sop_class_uid:
        result = negotiation.NO_TRANSFER_SYNTAX
        offered = [uid for uid in offered if uid in _VERIFICATION_SYNTAXES]
    elif context.abstract_syntax in STORAGE_CLASSES:
        result = negotiation.NO_TRANSFER_SYNTAX
    else:
        result, offered = negotiation.NO_ABSTRACT_SYNTAX, []
    if not offered:
        return AnsweredContext(context.id, result, VERIFICATION.transfer_syntax_uid)
    return AnsweredContext(context.id, negotiation.ACCEPTANCE, offered[0])
