"""Where an AE of the directory is reached, and how patient we are with it."""

from __future__ import annotations

from archive import configuration
from archive.dicom.peer import Limits, Peer
from config.device import Device


def find(title: str) -> Peer | None:
    """Return an AE of any device of the directory, at its first installed connection without TLS; None: there is none.

    Only its own AE title counts: another title is for those who call.
    """
    for device in configuration.current().devices.values():
        ae = device.ae_for(title) if title in device.aes else None
        for connection in device.installed_connections(ae.connections, "DICOM") if ae else ():
            if connection.port is not None and not connection.tls_cipher_suites:
                return Peer(title, connection.hostname, connection.port)
    return None


def limits_of(device: Device, calling: str) -> Limits:
    """Return what the first DICOM connection of the calling AE says."""
    ae = device.ae_for(calling)
    connection = next(iter(device.installed_connections(ae.connections if ae else (), "DICOM")), None)
    if connection is None:
        return Limits()
    return Limits(
        connect_s=connection.connect_timeout.total_seconds(),
        accept_s=connection.aaac_timeout.total_seconds(),
        response_s=connection.response_timeout.total_seconds(),
        retrieve_s=connection.retrieve_timeout.total_seconds(),
        send_s=connection.send_timeout.total_seconds(),
        release_s=connection.release_timeout.total_seconds(),
        max_pdu_length=connection.receive_pdu_length,
        send_pdu_length=connection.send_pdu_length,
    )
