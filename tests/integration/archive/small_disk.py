"""A disk that is really full: a tmpfs over the folder of a file system."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from archive.storage.health import MARKER


@contextmanager
def small_disk(root: str | Path, size: str) -> Iterator[None]:
    """Mount so many bytes (as mount takes them, `1m`) over a file system, with its marker; skip without the right."""
    marker = Path(root, MARKER).read_bytes()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(root)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("tmpfs cannot be mounted here; run as root or in a user namespace")
    try:
        Path(root, MARKER).write_bytes(marker)
        yield
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)
