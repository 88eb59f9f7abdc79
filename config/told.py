"""What the environment and `arcfleet.toml` say: names checked, secrets fetched from their files."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from config.errors import SettingsError

PREFIX = "ARCFLEET_"
#: Settings that may be kept in a file of their own: `..._FILE` names it.
SECRETS = frozenset({"database_url", "broker_url", "ldap_password", "notify", "token"})
FILE_NAME = "arcfleet.toml"


def by_environment(
    environment: Mapping[str, str], known: Collection[str], *, internal: Collection[str]
) -> dict[str, Any]:
    """Return the settings in the environment by field; an empty variable counts as not set.

    Args:
        environment: of the process.
        known: names of fields.
        internal: variables that are no settings.

    Raises:
        SettingsError: an ARCFLEET_ variable is unknown, set twice, or names a file that cannot be read.
    """
    said = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and name not in internal and value.strip()
    }
    return _checked(said, known, lambda key: PREFIX + key.upper())


def by_file(home: Path, known: Collection[str]) -> dict[str, Any]:
    """Return the settings in `arcfleet.toml` by field; a key may have the prefix too.

    Raises:
        SettingsError: the file is not TOML, cannot be read, or holds an unknown key.
    """
    path = home / FILE_NAME
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be read: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path}: expected TOML: {exc}") from exc
    said = {key.lower().removeprefix(PREFIX.lower()): value for key, value in content.items()}
    if "home" in said:
        raise SettingsError(f"{path}: home: expected in the environment (ARCFLEET_HOME), the file lies in it")
    return _checked(said, known, lambda key: f"{path}: {key}")


def place(name: str, environment: Mapping[str, str]) -> str:
    """Return what to call a field in a message: the variable that sets it, or the key in the file."""
    variable = PREFIX + name.upper()
    told_here = environment.get(variable, "").strip() or environment.get(f"{variable}_FILE", "").strip()
    return variable if told_here else f"{FILE_NAME}: {name}"


def _checked(said: Mapping[str, Any], known: Collection[str], called: Any) -> dict[str, Any]:
    files = {f"{secret}_file": secret for secret in SECRETS}
    for key in said:
        if key not in known and key not in files:
            near = difflib.get_close_matches(key, [*known, *files], n=1, cutoff=0)
            raise SettingsError(f"{called(key)}: unknown; the nearest that is known is {called(near[0])}")
    values = {key: value for key, value in said.items() if key in known}
    for key, secret in files.items():
        if key not in said:
            continue
        if secret in values:
            raise SettingsError(f"{called(secret)} and {called(key)} are both set: expected one of them")
        values[secret] = _content(Path(str(said[key])).expanduser(), called(key))
    return values


def _content(path: Path, called: str) -> str:
    try:
        return path.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
        raise SettingsError(f"{called}={str(path)!r}: expected a file that can be read: {reason}") from exc
