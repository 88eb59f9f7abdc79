"""How sizes, spans and lists are written for people."""

from __future__ import annotations

from collections.abc import Iterable


def size(number_bytes: int | None) -> str:
    """Return a number of bytes, `1.5 GB`; empty for None."""
    if number_bytes is None:
        return ""
    found = float(number_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if found < 1000:
            return f"{found:.0f} {unit}" if unit == "B" else f"{found:.1f} {unit}"
        found /= 1000
    return f"{found:.1f} TB"


def span(seconds: float) -> str:
    """Return a time that has passed, `90 s`, `5 min`, `3 h`, `4 d`."""
    for unit, length_s, until_s in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < until_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def some(names: Iterable[object], most: int = 5) -> str:
    """Return names with commas between, the first ones of many."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
