"""Whom we talk to, about what, and how long we wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Peer:
    """An application entity at an address."""

    ae_title: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.ae_title} at {address_text(self.host, self.port)}"


def address_text(host: str, port: int) -> str:
    """Return an address as people write it, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Context(NamedTuple):
    """What is to be sent: a SOP class in a transfer syntax. Source: PS3.8 9.3.2.2"""

    sop_class_uid: str
    transfer_syntax_uid: str

    def __str__(self) -> str:
        return f"SOP class {self.sop_class_uid} in transfer syntax {self.transfer_syntax_uid}"


#: What C-ECHO needs: Verification in Implicit VR Little Endian, which every peer must take.
VERIFICATION = Context("1.2.840.10008.1.1", "1.2.840.10008.1.2")


#: What stands for no limit: nothing waits for ever.
_A_DAY_S = 86400.0


def patience(limit_s: float) -> float:
    """Return how many seconds to wait for a limit in seconds, of which 0 is none, as dcm4che has it."""
    return limit_s or _A_DAY_S


@dataclass(frozen=True, slots=True)
class Limits:
    """How long each step of an association may take, in seconds (0: any time), and its PDUs be, in bytes."""

    #: Until the host name is resolved and the TCP connection is there, all addresses of the host together.
    connect_s: float = 5.0
    #: Until the answer to A-ASSOCIATE-RQ.
    accept_s: float = 10.0
    #: Until a response is complete, counted from the last byte of its request.
    response_s: float = 30.0
    #: Until the next response to C-MOVE, which some peers send at the end alone.
    retrieve_s: float = 600.0
    #: How long the peer may take no byte of what we send.
    send_s: float = 30.0
    #: Until the answer to A-RELEASE-RQ.
    release_s: float = 5.0
    #: What we say we take in a P-DATA-TF PDU; 0 is the longest that we take.
    max_pdu_length: int = 131072
    #: What we send in one at most, also to a peer that would take more; 0 is the longest that we send.
    send_pdu_length: int = 131072
