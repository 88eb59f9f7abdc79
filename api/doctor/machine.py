"""What this machine offers: Python, texts, open files, a clock. Says nothing of the machines of other processes."""

from __future__ import annotations

import ctypes
import locale
import platform
import re
import resource
import sys
from collections.abc import Iterator
from importlib import metadata

from api.doctor.case import Case
from api.doctor.finding import Finding, Subject
from workers.dicom import DESCRIPTORS
from workers.version import VERSION

SAY = Subject("machine")

#: Fewer than that are not enough for one worker and its pool.
_FEWEST_DESCRIPTORS = 1024
#: What `adjtimex` returns, and a bit of its status, while nothing keeps the clock right. Source: adjtimex(2).
_TIME_ERROR = 5
_STA_UNSYNC = 0x0040
#: Bytes of `struct timex`, with room; its status is the sixth word of 4 or 8 bytes.
_TIMEX_BYTES = 512


def python(_case: Case) -> Iterator[Finding]:
    """See that this Python is one that arcfleet runs on."""
    wanted = metadata.metadata("arcfleet")["Requires-Python"] or ""
    here = platform.python_version()
    found = f"arcfleet {VERSION} on Python {here} ({sys.executable})"
    least = re.search(r">=\s*(\d+)\.(\d+)", wanted)
    if least is None or sys.version_info >= (int(least[1]), int(least[2])):
        yield SAY.ok("Python", found)
    else:
        yield SAY.error("Python", found, f"Python {wanted}", "make the virtual environment anew with a newer Python")


def texts(_case: Case) -> Iterator[Finding]:
    """See that file names and logs can hold every character."""
    names, files = sys.getfilesystemencoding(), locale.getpreferredencoding(False)
    found = f"file names {names}, files {files}"
    if {one.lower().replace("-", "") for one in (names, files)} == {"utf8"}:
        yield SAY.ok("locale", found)
    else:
        yield SAY.warning("locale", found, "utf-8", "set LANG=C.UTF-8, or PYTHONUTF8=1, for all processes")


def descriptors(_case: Case) -> Iterator[Finding]:
    """See how many files and sockets a process that is started from here may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = float("inf") if hard == resource.RLIM_INFINITY else hard
    found = f"{_number(soft)}, at most {_number(hard)}"
    do = "raise `ulimit -n` (systemd: LimitNOFILE) for all processes of arcfleet"
    if most < _FEWEST_DESCRIPTORS:
        yield SAY.error("open files", found, f"at least {_FEWEST_DESCRIPTORS}", do)
    elif most < DESCRIPTORS:
        yield SAY.warning("open files", found, f"{DESCRIPTORS}, which a DICOM service takes where it may", do)
    else:
        yield SAY.ok("open files", found)


def clock(_case: Case) -> Iterator[Finding]:
    """See whether something keeps the clock of this machine right, as far as the kernel tells."""
    is_kept = clock_is_kept()
    if is_kept is None:
        yield SAY.note("clock", "the kernel does not tell whether it is synchronized")
    elif is_kept:
        yield SAY.ok("clock", "synchronized")
    else:
        do = "run chrony or systemd-timesyncd, on this machine or on the one that it is a guest of"
        yield SAY.note("clock", "the kernel says that nothing synchronizes it", "synchronized", do)


def clock_is_kept() -> bool | None:
    """Tell whether the kernel's clock is synchronized; None: it cannot be told. Source: adjtimex(2)."""
    try:
        asked = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None
    # All zero: `modes` is 0, so that nothing is set.
    told = ctypes.create_string_buffer(_TIMEX_BYTES)
    state = asked(told)
    if state < 0:
        return None
    # unsigned modes; long offset, freq, maxerror, esterror; int status.
    status = ctypes.c_int.from_buffer(told, 5 * ctypes.sizeof(ctypes.c_long)).value
    return state != _TIME_ERROR and not status & _STA_UNSYNC


def _number(limit: int) -> str:
    return "any number" if limit == resource.RLIM_INFINITY else str(limit)
