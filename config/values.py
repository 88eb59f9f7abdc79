"""Parse and write the values of attributes: one pair of functions per sort of value."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar
from zoneinfo import ZoneInfo

from config import schedule, sizes
from config.device import FileSystem
from config.schedule import Schedule

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """A sort of value: `parse` raises ValueError on anything but `expected`; `write` is its inverse."""

    parse: Callable[[str], T]
    write: Callable[[T], str]
    #: Completes the sentence "expected ...".
    expected: str


def integer(minimum: int, maximum: int = 2**31 - 1) -> Codec[int]:
    """Return the codec of decimal numbers from `minimum` to `maximum`."""

    def parse(text: str) -> int:
        if re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", text) is None or not minimum <= int(text) <= maximum:
            raise ValueError(text)
        return int(text)

    bound = f"from {minimum} to {maximum}" if maximum < 2**31 - 1 else f"of at least {minimum}"
    return Codec(parse, str, f"a whole number {bound}")


def choice(*allowed: str) -> Codec[str]:
    """Return the codec of a closed set of words; letter case is forgiven."""
    known = {word.lower(): word for word in allowed}

    def parse(text: str) -> str:
        try:
            return known[text.strip().lower()]
        except KeyError:
            raise ValueError(text) from None

    return Codec(parse, str, "one of " + ", ".join(allowed))


def matching(pattern: str, expected: str) -> Codec[str]:
    """Return the codec of texts that match the whole regular expression; outer blanks are dropped."""
    compiled = re.compile(pattern)

    def parse(text: str) -> str:
        if compiled.fullmatch(text.strip()) is None:
            raise ValueError(text)
        return text.strip()

    return Codec(parse, str, expected)


def duration(minimum: timedelta = timedelta(0)) -> Codec[timedelta]:
    """Return the codec of ISO-8601 durations of at least `minimum`."""

    def parse(text: str) -> timedelta:
        value = parse_duration(text)
        if value < minimum:
            raise ValueError(text)
        return value

    bound = f" of at least {write_duration(minimum)}" if minimum else ""
    return Codec(parse, write_duration, f"an ISO-8601 duration PnDTnHnMnS{bound}, for example PT30S or P1DT12H")


_DURATION = re.compile(
    r"P(?:(?P<days>\d+)D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)(?:\.(?P<fraction>\d{1,9}))?S)?)?",
    re.IGNORECASE | re.ASCII,
)


def parse_duration(text: str) -> timedelta:
    """Read an ISO-8601 duration of days, hours, minutes and seconds; digits below a microsecond are dropped.

    Raises:
        ValueError: not such a duration, or longer than a timedelta can be.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or text.strip().upper() == "P":
        raise ValueError(text)
    parts = {name: int(match[name] or 0) for name in ("days", "hours", "minutes", "seconds")}
    try:
        return timedelta(**parts, microseconds=int((match["fraction"] or "").ljust(9, "0")[:6]))
    except OverflowError as exc:
        raise ValueError(text) from exc


def write_duration(value: timedelta) -> str:
    """Write a duration in the shortest form: `PT30S`, `P1D`, `PT0S`."""
    if value < timedelta(0):
        raise ValueError(f"a negative duration cannot be written: {value}")
    hours, rest = divmod(value.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    fraction = f".{value.microseconds:06d}".rstrip("0") if value.microseconds else ""
    day = f"{value.days}D" if value.days else ""
    time = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    time += f"{seconds}{fraction}S" if seconds or fraction else ""
    return f"P{day}T{time}" if time else f"P{day}" if day else "PT0S"


def _parse_boolean(text: str) -> bool:
    word = text.strip().upper()
    if word not in {"TRUE", "FALSE"}:
        raise ValueError(text)
    return word == "TRUE"


def _parse_text(text: str) -> str:
    if not text.strip():
        raise ValueError(text)
    return text.strip()


def _parse_property(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name.strip() or not equals:
        raise ValueError(text)
    return name.strip(), value


def _parse_zone(text: str) -> str:
    try:
        return ZoneInfo(text.strip()).key
    except (OSError, ValueError, KeyError) as exc:  # a folder's name, a path out of the database, unknown
        raise ValueError(text) from exc


def _parse_file_system(text: str) -> FileSystem:
    path, *options = (re.sub(r"\\(.)", r"\1", part) for part in _split_bars(text.strip()))
    shared: tuple[str, ...] = ()
    for option in options:
        key, _, names = option.partition("=")
        if key.strip() != "sharedWith" or shared or not names.strip():
            raise ValueError(text)
        shared = tuple(name.strip() for name in names.split(","))
    if not path.strip() or not all(shared):
        raise ValueError(text)
    return FileSystem(path.strip(), shared)


def _split_bars(text: str) -> list[str]:
    parts = re.findall(r"(?:\\[\\|]|[^\\|])+|\|", text)
    if len(parts) % 2 == 0 or "".join(parts) != text or "|" in parts[::2] or any(part != "|" for part in parts[1::2]):
        raise ValueError(text)
    return parts[::2]


def _write_file_system(value: FileSystem) -> str:
    path = value.path.replace("\\", "\\\\").replace("|", "\\|")
    return f"{path}|sharedWith={','.join(value.shared_with)}" if value.shared_with else path


def _parse_groups(text: str) -> tuple[str, ...]:
    """Read names of file-system groups, NONE for none. Source: dcm4chee 2, FileSystemMgt."""
    if text.strip().upper() == "NONE":
        return ()
    names = tuple(dict.fromkeys(re.split(r"[\s;]+", text.strip().strip(";"))))
    if not all(re.fullmatch(r"[^/\s]+(/[^/\s]+)?", name) for name in names):
        raise ValueError(text)
    return names


def _parse_milliseconds(text: str) -> timedelta:
    return timedelta(milliseconds=_MILLISECONDS.parse(text))


def _write_milliseconds(value: timedelta) -> str:
    return str(value // timedelta(milliseconds=1))


_MILLISECONDS = integer(0)

BOOLEAN = Codec(_parse_boolean, lambda value: "TRUE" if value else "FALSE", "TRUE or FALSE")
TEXT = Codec(_parse_text, str, "a text that is not empty")
PORT = integer(1, 65535)
PDU_LENGTH = integer(0, 2**31 - 1)
AE_TITLE = matching(r"[\x20-\x5b\x5d-\x7e]{1,16}", "an AE title of 1 to 16 ASCII characters without a backslash")
OTHER_AE_TITLE = matching(r"\*|[\x20-\x5b\x5d-\x7e]{1,16}", AE_TITLE.expected + ", or *")
UID = matching(r"(?=.{1,64}$)(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*", "a UID of at most 64 characters")
TAG = matching(r"[0-9A-Fa-f]{8}", "the tag of an attribute, 8 hexadecimal digits")
URI = matching(r"[A-Za-z][A-Za-z0-9+.-]*:\S*", "a URI, for example dicom:PACS or file:export")
#: As in the original, a missing slash at the start is added.
WEB_PATH = Codec(lambda text: "/" + _parse_text(text).lstrip("/"), str, "a path, for example /dcm4chee-arc")
PROPERTY = Codec(_parse_property, "=".join, "name=value")
DURATION = duration()
SCHEDULE = Codec(Schedule.parse, str, schedule.EXPECTED)
TIME_ZONE = Codec(_parse_zone, str, "the IANA name of a time zone, for example Europe/Vienna")
FILE_SYSTEM = Codec(
    _parse_file_system,
    _write_file_system,
    r"PATH or PATH|sharedWith=DEVICE,DEVICE (a | or \ in the path with a \ before it)",
)
MILLISECONDS = Codec(_parse_milliseconds, _write_milliseconds, "a whole number of milliseconds, at least 0")
INTERVAL = Codec(
    sizes.parse_interval, sizes.write_interval, "a whole number with s, m, h, d or w behind it, for example 7d"
)
INTERVAL_OR_NEVER = Codec(
    sizes.parse_interval_or_never, sizes.write_interval_or_never, f"{INTERVAL.expected}, or NEVER"
)
MINIMUM_FREE = Codec(
    sizes.parse_minimum,
    sizes.write_minimum,
    "a size of at least 20MB (MB, GB or TB behind a number), a percentage such as 5%, or NONE",
)
GROUPS = Codec(
    _parse_groups,
    lambda names: ";".join(names) or "NONE",
    "names of file-system groups with ; between, each GROUP or DEVICE/GROUP, or NONE",
)
