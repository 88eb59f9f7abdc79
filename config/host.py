"""What the machine itself says: its time zone."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

_LOCALTIME = Path("/etc/localtime")
_TIMEZONE = Path("/etc/timezone")


def time_zone(variable: str) -> str:
    """Return the IANA name of the system's time zone, UTC if it has none.

    Args:
        variable: content of TZ, which comes first if it is such a name.
    """
    candidates = [variable.lstrip(":")]
    try:
        candidates.append(str(_LOCALTIME.resolve()).partition("/zoneinfo/")[2])
        candidates.append(_TIMEZONE.read_text("utf-8").strip())
    except (OSError, UnicodeDecodeError):
        pass
    return next((name for name in candidates if is_time_zone(name)), "UTC")


def is_time_zone(name: str) -> bool:
    """Tell whether that is the name of a time zone this machine knows; UTC always is."""
    if name == "UTC":
        return True
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # a folder's name, a path out of the database, unknown
        return False
    return True
