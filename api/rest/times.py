"""Times on the wire: what clients send, and what they get."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from api.answers import BadRequest

#: One end of a range: DICOM DT (PS3.5 table 6.2-1), with a positive offset or none (in a URL + is a blank).
_DT = re.compile(r"(\d{4})(\d{2})?(\d{2})?(\d{2})?(\d{2})?(\d{2})?(?:\.(\d{1,6}))?(?:[+ ](\d{2})(\d{2}))?")

#: Parts behind the year that a DT may leave out.
_OPTIONAL_PARTS = 5

#: Microseconds.
_SECOND = 1_000_000

Range = tuple[datetime | None, datetime | None]


def written(at: datetime, zone: tzinfo) -> str:
    """Return `2026-08-20T14:05:09.123+0200`. Source: the JSON of dcm4chee's monitor services."""
    local = at.astimezone(zone)
    return f"{local:%Y-%m-%dT%H:%M:%S}.{local.microsecond // 1000:03d}{local:%z}"


def written_as_sql(at: datetime, zone: tzinfo) -> str:
    """Return `2026-08-20 14:05:09.123`: scheduledTime in CSV is the only one that looks so there."""
    local = at.astimezone(zone)
    return f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03d}"


def scheduled(text: str, zone: tzinfo, name: str = "scheduledTime") -> datetime:
    """Read `yyyyMMddHHmmss` on the wall clock of a zone.

    Raises:
        BadRequest: it is not such a time.
    """
    try:
        if not re.fullmatch(r"\d{14}", text, re.ASCII):
            raise ValueError(text)
        return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRequest(
            f"{name}={text}: expected yyyyMMddHHmmss, for example {datetime.now(zone):%Y%m%d%H%M%S}"
        ) from None


def dt_range(name: str, text: str, zone: tzinfo) -> Range:
    """Read a DICOM range: `A-B`, `A-`, `-B`, or `A` alone, which means the whole of its precision.

    It is split at the first hyphen, so that an offset from UTC can only be positive.

    Raises:
        BadRequest: it is not such a range.
    """
    low, hyphen, high = text.partition("-")
    try:
        if not low and not high:
            raise ValueError(text)
        begin = _interval(low, zone)[0] if low else None
        end = _interval(high if hyphen else low, zone)[1] if high or not hyphen else None
    except (ValueError, OverflowError):
        raise BadRequest(
            f"{name}={text}: expected a range of DICOM times, for example 20260820- or 2026082014-2026082015"
        ) from None
    return begin, end


def as_dt_range(bounds: Range) -> str:
    """Return what `dt_range` reads as this range, whatever the zone of its reader."""
    low, high = bounds
    begin = "" if low is None else _dt(low, low.microsecond)
    # An end means the whole of its precision.
    end = "" if high is None else _dt(high, (high.microsecond + 1) % _SECOND)
    return f"{begin}-{end}"


def _dt(at: datetime, fraction: int) -> str:
    """Write one end of a range in UTC, as precise as its fraction of a second (microseconds) makes it."""
    utc = _utc(at)
    text = f"{utc.year:04d}{utc:%m%d%H%M%S}"
    if fraction % 1000:
        text += f".{utc.microsecond:06d}"
    elif fraction:
        text += f".{utc.microsecond // 1000:03d}"
    return f"{text}+0000"


def _interval(text: str, zone: tzinfo) -> tuple[datetime, datetime]:
    """Return the first and the last microsecond that a DT of reduced precision means."""
    found = _DT.fullmatch(text)
    if found is None:
        raise ValueError(text)
    parts = [int(part) for part in found.groups()[: _OPTIONAL_PARTS + 1] if part is not None]
    fraction, hours, minutes = found.group(7), found.group(8), found.group(9)
    if fraction is not None and len(parts) <= _OPTIONAL_PARTS:
        raise ValueError(text)
    at_zone = timezone(timedelta(hours=int(hours), minutes=int(minutes))) if hours else zone
    year, month, day, hour, minute, second = [*parts, *(0, 1, 1, 0, 0, 0)[len(parts) :]]
    begin = datetime(year, month, day, hour, minute, second, tzinfo=at_zone)
    if fraction is not None:
        begin = begin.replace(microsecond=int(fraction.ljust(6, "0")))
        return _utc(begin), _utc(begin) + timedelta(microseconds=10 ** (6 - len(fraction)) - 1)
    return _utc(begin), _utc(_next(begin, len(parts))) - timedelta(microseconds=1)


def _next(begin: datetime, precision: int) -> datetime:
    match precision:
        case 1:
            return begin.replace(year=begin.year + 1)
        case 2:
            return begin.replace(year=begin.year + begin.month // 12, month=begin.month % 12 + 1)
        case 3:
            return begin + timedelta(days=1)  # a day of the wall clock, be it 23 or 25 hours
        case _:
            step = (timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1))[precision - 4]
            return _utc(begin) + step


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC)
