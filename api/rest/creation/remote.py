"""Studies of another archive, found there by C-FIND."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from api.answers import NotFound, RequestError
from archive import configuration
from archive.dicom import studies
from archive.errors import PeerError
from archive.query import Entity
from config.device import Device


class PeerFailed(RequestError):
    """Another archive did not do its part."""

    status = HTTPStatus.BAD_GATEWAY


def find(device: Device, calling: str, called: str, keys: Mapping[str, str]) -> Sequence[Entity]:
    """Return the studies of another archive that match.

    Args:
        device: whose time limits hold.
        calling: AE title that asks.
        called: AE title that is asked.
        keys: keywords of DICOM with the values to match.

    Raises:
        NotFound: the directory does not know the AE title.
        PeerFailed: the other one did not do its part; the text begins with it.
    """
    check_title(called)
    try:
        return studies.find(device, calling, called, keys)
    except PeerError as error:
        raise PeerFailed(str(error)) from error


def check_title(title: str) -> None:
    """Refuse an AE title that is of no device of the directory.

    Raises:
        NotFound: it is of none.
    """
    known = {name for device in configuration.current().devices.values() for name in device.aes}
    if title not in known:
        raise NotFound(f"No such Application Entity: {title}, expected one of {', '.join(sorted(known)) or 'none'}")
