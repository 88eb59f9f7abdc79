"""A disk that hangs for real: the kernel asks a file-system server that never says a word."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_DETACH = 2


@contextmanager
def hanging_disk(root: str | Path) -> Iterator[None]:
    """Mount a FUSE disk over a folder whose every call waits until the end of the block; skip without the right."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        pytest.skip(f"FUSE is not to be had here: /dev/fuse: {error.strerror}")
    options = f"fd={server},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    path = str(root).encode()
    try:
        if libc.mount(b"hanging", path, b"fuse", 0, options.encode()) != 0:
            pytest.skip(f"FUSE cannot be mounted here; run as root or in a user namespace ({_error()})")
        try:
            yield
        finally:
            # With its server gone, each call that waits fails.
            os.close(server)
            server = -1
            assert libc.umount2(path, _DETACH) == 0, _error()
    finally:
        if server >= 0:
            os.close(server)


def _error() -> str:
    return os.strerror(ctypes.get_errno())
