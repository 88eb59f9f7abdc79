"""`run.json`: how other commands of the same home find the servers that `arcfleet up` runs."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from config.errors import SettingsError

FILE_NAME = "run.json"


@dataclass(frozen=True, slots=True)
class Up:
    """What a running `arcfleet up` says of itself."""

    pid: int
    database_url: str | None = field(default=None, repr=False)
    broker_url: str | None = field(default=None, repr=False)
    #: Added to every port that is not set explicitly.
    offset: int = 0
    #: Where its devices take associations: `dicom://AE_TITLE@host:port`.
    dicom_urls: tuple[str, ...] = ()
    #: Where its REST services listen.
    api_urls: tuple[str, ...] = ()
    #: None: it runs no Flower.
    flower_url: str | None = None


def read(home: Path) -> Up | None:
    """Return what `run.json` in the home says; None: there is none, or its process is gone.

    Raises:
        SettingsError: the file cannot be read or is not what `arcfleet up` writes.
    """
    path = home / FILE_NAME
    try:
        content = json.loads(path.read_text("utf-8"))
        up = Up(
            pid=int(content["pid"]),
            database_url=content.get("database_url"),
            broker_url=content.get("broker_url"),
            offset=int(content.get("offset") or 0),
            dicom_urls=tuple(str(url) for url in content.get("dicom_urls") or ()),
            api_urls=tuple(str(url) for url in content.get("api_urls") or ()),
            flower_url=content.get("flower_url"),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be read: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise SettingsError(f"{path}: expected what `arcfleet up` writes; stop it and delete the file") from exc
    return up if _is_alive(up.pid) else None


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it runs, as somebody else
    return True
