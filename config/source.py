"""Where the configuration comes from: one shape, whatever holds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from config.entry import Entry
from config.errors import SettingsError, SourceUnavailable
from config.ldif_source import LdifSource, write_atomically

#: The source where no URL names one.
FILE_IN_HOME = "config.ldif"


class Source(Protocol):
    """What holds the entries. Every method raises a ConfigError if it cannot do what it says."""

    @property
    def url(self) -> str:
        """Where the configuration is, for messages; without secrets."""
        ...

    def fingerprint(self) -> str:
        """Return a text that changes when an entry does, cheaply."""
        ...

    def entries(self) -> list[Entry]:
        """Read all entries."""
        ...

    def write_attribute(self, name: str, attribute: str, values: Sequence[str]) -> None:
        """Give one attribute of an entry other values; none removes it."""
        ...

    def modify(
        self,
        name: str,
        changes: Mapping[str, Sequence[str]],
        accept: Callable[[list[Entry]], None] | None = None,
    ) -> None:
        """Change attributes of one entry if `accept` does not raise on the entries as they will be."""
        ...


def open_source(url: str | None, home: Path) -> Source:
    """Return the source that a URL names.

    Args:
        url: `file:///...`; None: `config.ldif` in the home, made from the shipped sample if there is none.
        home: ARCFLEET_HOME.

    Raises:
        SettingsError: the URL is not one that this version reads.
        SourceUnavailable: the sample cannot be put into the home.
    """
    if url is None:
        return LdifSource(_home_file(home))
    parts = urlsplit(url)
    match parts.scheme:
        case "file" if parts.netloc in {"", "localhost"} and parts.path.startswith("/"):
            return LdifSource(Path(unquote(parts.path)))
        case "ldap" | "ldaps":
            shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
            raise SettingsError(
                f"ARCFLEET_CONFIG_URL={shown!r}: expected file:///PATH.ldif, "
                "the directory source is not in this version"
            )
        case _:
            raise SettingsError(f"ARCFLEET_CONFIG_URL={url!r}: expected file:///PATH.ldif")


def sample() -> bytes:
    """Return the LDIF of the shipped sample cluster."""
    return resources.files("config.ldif").joinpath("sample.ldif").read_bytes()


def _home_file(home: Path) -> Path:
    path = home / FILE_IN_HOME
    if not path.exists():
        try:
            home.mkdir(parents=True, exist_ok=True)
            write_atomically(path, sample())
        except FileExistsError:
            pass  # another process was first
        except OSError as exc:
            raise SourceUnavailable(f"{path}: cannot be made from the sample: {exc.strerror}") from exc
    return path
