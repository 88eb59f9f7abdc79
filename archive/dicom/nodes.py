"""Where an AE of the directory is reached, and how patient we are with it."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from archive import configuration, errors
from archive.dicom import listening
from archive.dicom.peer import Limits, Peer
from config import settings
from config.device import Device, NetworkConnection
from config.errors import SettingsError


def find(title: str) -> Peer | None:
    """Return an AE of any device of the directory, at its first installed connection without TLS; None: there is none.

    Only its own AE title counts: another title is for those who call.

    Raises:
        NotConfigured: what `arcfleet up` of this home says of itself cannot be read.
    """
    for device in configuration.current().devices.values():
        ae = device.ae_for(title) if title in device.aes else None
        for connection in device.installed_connections(ae.connections, "DICOM") if ae else ():
            if connection.port is not None and not connection.tls_cipher_suites:
                host, port = _moved(device, connection) or (connection.hostname, connection.port)
                return Peer(title, host, port)
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


def _moved(device: Device, connection: NetworkConnection) -> tuple[str, int] | None:
    """Return where `arcfleet up` of this home really listens for a connection, by `--offset`; None: it does not.

    Raises:
        NotConfigured: its file cannot be read.
    """
    try:
        up = settings.current().up()
    except SettingsError as error:
        raise errors.NotConfigured(str(error)) from error
    if up is None:
        return None
    listens = {(unquote(url.username or ""), url.port): url.hostname for url in map(urlsplit, up.dicom_urls)}
    for place in listening.of(device, offset=up.offset):
        host = listens.get((place.titles[0], place.port)) if connection.name in place.connections else None
        if host is not None:
            return host, place.port
    return None
