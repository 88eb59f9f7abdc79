"""Sizes and intervals as the manual of dcm4chee 2 writes them: `50MB`, `10%`, `7d`, `NEVER`, `NONE`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

#: Bytes of each unit, powers of ten. Source: manual, MinimumFreeDiskSpace (TB is ours).
_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}
#: The least that MinimumFreeDiskSpace may be. Source: dcm4chee 2, FileSystemMgt.
_LEAST_MINIMUM = 20 * 10**6
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(MB|GB|TB)")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)%")
_INTERVAL = re.compile(r"([0-9]{1,9})([smhdw])")
_SECONDS = {"w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True, slots=True)
class Minimum:
    """A number of bytes, or a share of a file system; keeps the text that the operator wrote."""

    text: str
    size_bytes: int | None = None
    percent: Decimal | None = None

    def bytes_of(self, total_bytes: int) -> int:
        """Return the bytes that must stay free on a file system of `total_bytes`."""
        if self.percent is not None:
            return int(total_bytes * self.percent / 100)
        return self.size_bytes or 0


def parse_size(text: str) -> int:
    """Read a size such as `1.5GB`; returns bytes.

    Raises:
        ValueError: not a number with MB, GB or TB behind it.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    return int(Decimal(match[1]) * _UNITS[match[2]])


def parse_minimum(text: str) -> Minimum | None:
    """Read a minimum: a size of at least 20MB, a percentage from 0 to 100, or NONE.

    Raises:
        ValueError: none of these.
    """
    given = text.strip()
    if given.upper() == "NONE":
        return None
    if (match := _PERCENT.fullmatch(given)) is not None:
        percent = Decimal(match[1])
        if percent > 100:
            raise ValueError(text)
        return Minimum(given, percent=percent)
    size_bytes = parse_size(given)
    if size_bytes < _LEAST_MINIMUM:
        raise ValueError(text)
    return Minimum(given, size_bytes=size_bytes)


def write_minimum(value: Minimum | None) -> str:
    """Write a minimum as the operator did."""
    return "NONE" if value is None else value.text


def parse_interval(text: str) -> timedelta:
    """Read an interval: a whole number with s, m, h, d or w behind it.

    Raises:
        ValueError: anything else, or longer than a timedelta can be.
    """
    match = _INTERVAL.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    try:
        return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
    except OverflowError as exc:
        raise ValueError(text) from exc


def write_interval(value: timedelta) -> str:
    """Write an interval in the largest unit that divides it: `60s` becomes `1m`.

    Raises:
        ValueError: it is negative, or not a whole number of seconds.
    """
    seconds = value // timedelta(seconds=1)
    if value < timedelta(0) or value != timedelta(seconds=seconds):
        raise ValueError(f"an interval of whole seconds is expected, not {value}")
    unit = next((unit for unit, size in _SECONDS.items() if seconds and seconds % size == 0), "s")
    return f"{seconds // _SECONDS[unit]}{unit}"


def parse_interval_or_never(text: str) -> timedelta | None:
    """Read an interval; NEVER, or an interval of 0, is None.

    Raises:
        ValueError: neither.
    """
    if text.strip().upper() == "NEVER":
        return None
    return parse_interval(text) or None


def write_interval_or_never(value: timedelta | None) -> str:
    """Write an interval, NEVER for None."""
    return "NEVER" if value is None else write_interval(value)
