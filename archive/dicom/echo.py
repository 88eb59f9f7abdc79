"""Ask whether a peer is there: C-ECHO."""

from __future__ import annotations

from archive.dicom import requestor
from archive.dicom.peer import VERIFICATION, Limits, Peer
from archive.dicom.status import Status


def ask(peer: Peer, calling: str, limits: Limits) -> Status:
    """Send one C-ECHO on an association of its own and return what the peer said.

    Args:
        peer: the called application entity.
        calling: our AE title.
        limits: how long each step may take.

    Raises:
        ValueError: one of the two is no AE title.
        PeerError: there was no answer; its children say why.

    Source: PS3.4 Annex A, PS3.7 9.1.5
    """
    with requestor.associate(peer, calling, [VERIFICATION], limits) as association:
        return association.echo()
