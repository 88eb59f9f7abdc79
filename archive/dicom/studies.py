"""Which studies another archive has: one C-FIND on an association of its own."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from archive.dicom import keys, nodes, queries, requestor
from archive.errors import PeerUnreachable
from archive.query import Entity
from config.device import Device


def find(device: Device, calling: str, called: str, wanted: Mapping[str, str]) -> list[Entity]:
    """Return the studies that match, each once.

    Args:
        device: whose time limits hold.
        calling: AE title that asks.
        called: AE title that is asked.
        wanted: keywords with the values to match.

    Raises:
        PeerError: it cannot be reached or asked, or does not answer as it should; the text begins with it.
    """
    peer = nodes.find(called)
    if peer is None:
        raise PeerUnreachable(f"{called}: the directory has no DICOM connection of it without TLS")
    limits = nodes.limits_of(device, calling)
    asked = keys.of_query(urlencode(wanted), "STUDY", ["StudyInstanceUID"])
    with requestor.associate(peer, calling, queries.contexts(queries.FIND_CLASS), limits) as association:
        answers = queries.find(association, asked, limits.retrieve_s)
        found = dict.fromkeys(str(ds.get("StudyInstanceUID", "")) for ds in answers)
    return [Entity(study_uid) for study_uid in found if study_uid]
