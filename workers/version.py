"""Which arcfleet this is."""

from __future__ import annotations

from importlib import metadata

#: As in pyproject.toml.
VERSION = metadata.version("arcfleet")
