"""What can be wrong with the configuration and the settings; each message is one line."""

from __future__ import annotations

from pathlib import Path


class ConfigError(Exception):
    """The base of every error of the configuration."""


class SettingsError(ConfigError):
    """The environment, a command line option or `arcfleet.toml` holds something that cannot be used."""


class InvalidValue(ConfigError):
    """A value of an attribute is not what the attribute holds."""

    def __init__(self, dn: str, attribute: str, value: str, expected: str) -> None:
        super().__init__(f"{dn}: {attribute}={value!r}: expected {expected}")
        self.dn = dn
        self.attribute = attribute
        self.value = value
        self.expected = expected


class EntryNotFound(ConfigError):
    """A change names an entry that the source does not hold."""


class SourceUnavailable(ConfigError):
    """The source of the configuration cannot be read or written now."""


class MalformedLdif(ConfigError):
    """A line of an LDIF file is not LDIF."""

    def __init__(self, path: Path | str, line: int, text: str, expected: str) -> None:
        super().__init__(f"{path} line {line}: {text!r}: expected {expected}")
        self.path = path
        self.line = line
        self.text = text
        self.expected = expected
