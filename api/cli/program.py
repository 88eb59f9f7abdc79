"""How this command line is started as a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path


def command() -> list[str]:
    """Return the beginning of a command line that starts `arcfleet` as this process was."""
    # The installed script has no working directory in its import path, in which folders such as `config`
    # of somebody else may lie.
    script = Path(sys.executable).with_name("arcfleet")
    return [str(script)] if script.exists() else [sys.executable, "-m", "api.cli.main"]
