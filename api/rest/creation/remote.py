"""Studies of another archive, found there by C-FIND: whoever can ask it is told to this module once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Protocol

from api.answers import NotFound, RequestError
from archive import configuration
from archive.errors import PeerError
from archive.query import Entity
from config.device import Device


class Finder(Protocol):
    """Asks another AE for its studies."""

    def __call__(self, device: Device, calling: str, called: str, keys: Mapping[str, str], /) -> Sequence[Entity]:
        """Return the studies that match.

        Args:
            device: whose time limits hold.
            calling: AE title that asks.
            called: AE title that is asked; the directory knows it.
            keys: keywords of DICOM with the values to match.

        Raises:
            PeerError: it cannot be reached, or does not answer as it should.
        """


class PeerFailed(RequestError):
    """Another archive did not do its part."""

    status = HTTPStatus.BAD_GATEWAY


class NotInstalled(RequestError):
    """Nothing here can ask others."""

    status = HTTPStatus.NOT_IMPLEMENTED


_finder: Finder | None = None


def use(finder: Finder | None) -> None:
    """Let this ask other archives; None: nobody can."""
    global _finder
    _finder = finder


def find(device: Device, calling: str, called: str, keys: Mapping[str, str]) -> Sequence[Entity]:
    """Return the studies of another archive that match.

    Raises:
        NotFound: the directory does not know the AE title.
        PeerFailed: the other one did not do its part; the text begins with it.
    """
    check_title(called)
    if _finder is None:
        raise NotInstalled(f"{called} cannot be queried: this process has no C-FIND")
    try:
        return _finder(device, calling, called, keys)
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
