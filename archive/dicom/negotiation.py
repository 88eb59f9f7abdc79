"""What two application entities say to each other before there is an association."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from archive import dicom

#: Most presentation contexts of an association: their ids are the odd numbers of one byte. Source: PS3.8 9.3.2.2
MOST_CONTEXTS = 128

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"

#: Results of a presentation context. Source: PS3.8 9.3.3.2
ACCEPTANCE, USER_REJECTION, NO_REASON, NO_ABSTRACT_SYNTAX, NO_TRANSFER_SYNTAX = range(5)

_REJECTION_SOURCES = {1: "service user", 2: "upper layer", 3: "upper layer (presentation)"}
#: Source: PS3.8 9.3.4
_REJECTION_REASONS = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


class ProposedContext(NamedTuple):
    """A presentation context as it is asked for."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


class AnsweredContext(NamedTuple):
    """A presentation context as it is answered; the transfer syntax says something only when it is accepted."""

    id: int
    result: int
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Request:
    """A-ASSOCIATE-RQ."""

    called: str
    calling: str
    contexts: Sequence[ProposedContext]
    #: Longest P-DATA-TF PDU that its sender takes; 0 is no limit.
    max_pdu_length: int
    implementation_class_uid: str = dicom.IMPLEMENTATION_CLASS_UID
    implementation_version: str = dicom.IMPLEMENTATION_VERSION_NAME
    application_context: str = APPLICATION_CONTEXT
    #: Bit 0 is version 1, the only one there is.
    protocol_version: int = 1


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A-ASSOCIATE-AC."""

    called: str
    calling: str
    contexts: Sequence[AnsweredContext]
    #: Longest P-DATA-TF PDU that its sender takes; 0 is no limit.
    max_pdu_length: int
    implementation_class_uid: str = dicom.IMPLEMENTATION_CLASS_UID
    implementation_version: str = dicom.IMPLEMENTATION_VERSION_NAME


@dataclass(frozen=True, slots=True)
class Rejection:
    """A-ASSOCIATE-RJ. Source: PS3.8 9.3.4"""

    #: 1 permanent, 2 transient.
    result: int
    #: 1 service user, 2 upper layer (ACSE), 3 upper layer (presentation).
    source: int
    #: Its meaning depends on the source.
    reason: int

    @property
    def is_transient(self) -> bool:
        """Say whether the same request may be accepted later."""
        return self.result == 2

    @property
    def text(self) -> str:
        """Say it in words: `permanent, service user: called AE title not recognized`."""
        result = {1: "permanent", 2: "transient"}.get(self.result, f"result {self.result}")
        source = _REJECTION_SOURCES.get(self.source, f"source {self.source}")
        return f"{result}, {source}: {self.reason_text}"

    @property
    def reason_text(self) -> str:
        """Say the reason in words."""
        return _REJECTION_REASONS.get((self.source, self.reason), f"reason {self.reason}")


def refusal_text(result: int) -> str:
    """Say in words why a presentation context is not accepted. Source: PS3.8 9.3.3.2"""
    texts = {
        USER_REJECTION: "rejected by the user",
        NO_REASON: "rejected by the provider without a reason",
        NO_ABSTRACT_SYNTAX: "abstract syntax not supported",
        NO_TRANSFER_SYNTAX: "transfer syntax not supported",
    }
    return texts.get(result, f"rejected with result {result}")


def is_title(title: str) -> bool:
    """Say whether a text is an AE title: 1 to 16 printable ASCII characters. Source: PS3.5 6.2 (AE)"""
    return bool(title.strip(" ")) and len(title) <= 16 and title.isascii() and title.isprintable() and "\\" not in title
