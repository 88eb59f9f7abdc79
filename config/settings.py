"""What this process was told at its start: the only reader of the environment, and of `arcfleet.toml`."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from config import host, running, told
from config.errors import SettingsError

#: How the worker's main process tells its pool children which node they belong to; no setting.
_NODE = "ARCFLEET_NODE"

Names = Annotated[tuple[str, ...], NoDecode]
Port = Annotated[int, Field(ge=1, le=65535)]


def _default_home() -> Path:
    return Path(platformdirs.user_data_dir("arcfleet"))


class Settings(BaseSettings):
    """All settings; each description says what is expected, for messages and the documentation."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=told.PREFIX)

    home: Path = Field(
        default_factory=_default_home,
        description="a folder for the embedded servers, the configuration and logs",
    )
    database_url: SecretStr | None = Field(default=None, description="postgresql://...")
    broker_url: SecretStr | None = Field(
        default=None,
        description="redis://, rediss://, redis+socket://, amqp:// or amqps://...",
    )
    config_url: str | None = Field(default=None, description="file:///PATH.ldif; absent: config.ldif in the home")
    ldap_bind_dn: str | None = Field(default=None, description="a distinguished name")
    ldap_password: SecretStr | None = Field(default=None, description="the password of ARCFLEET_LDAP_BIND_DN")
    devices: Names = Field(default=(), description="names of devices that arcfleet runs, with commas between")
    cluster: str | None = Field(default=None, description="the name of this cluster, if the directory has several")
    api_host: str = Field(default="127.0.0.1", description="the address on which REST listens")
    api_port: Port = Field(default=8080, description="a TCP port from 1 to 65535")
    flower_host: str = Field(default="127.0.0.1", description="the address on which Flower listens")
    flower_port: Port = Field(default=5555, description="a TCP port from 1 to 65535")
    token: SecretStr | None = Field(default=None, description="a bearer token, for commands with --url")
    tls_cert: Path | None = Field(default=None, description="a file with the certificate, PEM")
    tls_key: Path | None = Field(default=None, description="a file with the private key, PEM")
    tls_ca: Path | None = Field(default=None, description="a file with the certificates that are trusted, PEM")
    trusted_proxies: Names = Field(default=(), description="addresses of reverse proxies, with commas between")
    timezone: str = Field(
        default_factory=lambda: host.time_zone(os.environ.get("TZ", "")),
        description="the IANA name of a time zone, for example Europe/Vienna",
    )
    notify: SecretStr | None = Field(default=None, description="where alarms go, with commas between")
    log: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="one of DEBUG, INFO, WARNING, ERROR"
    )
    log_format: Literal["console", "json"] = Field(default="console", description="console or json")

    trace_file: Path | None = Field(
        default=None,
        description="a file to which each run appends when it begins and ends sub-operations",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment before the file, and both with errors that name what is unknown."""
        return (init_settings, _Told(settings_cls))

    @field_validator("devices", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value

    @field_validator("home", "tls_cert", "tls_key", "tls_ca", "trace_file")
    @classmethod
    def _whole(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        return _with_scheme(value, {"postgresql"})

    @field_validator("broker_url")
    @classmethod
    def _is_broker(cls, value: SecretStr | None) -> SecretStr | None:
        return _with_scheme(value, {"redis", "rediss", "redis+socket", "amqp", "amqps"})

    @field_validator("timezone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        if not host.is_time_zone(value):
            raise ValueError(value)
        return value

    @field_validator("log", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    def is_set(self, name: str) -> bool:
        """Tell whether someone set it, be it to its default."""
        return name in self.model_fields_set

    def database(self) -> str:
        """Return the URL of the database: the one that is set, else that of `arcfleet up` in this home.

        Raises:
            SettingsError: neither is there.
        """
        return self._server("database", self.database_url)

    def broker(self) -> str:
        """Return the URL of the broker: the one that is set, else that of `arcfleet up` in this home.

        Raises:
            SettingsError: neither is there.
        """
        return self._server("broker", self.broker_url)

    def up(self) -> running.Up | None:
        """Return what the `arcfleet up` that runs in this home says of itself; None: there is none."""
        return running.read(self.home)

    def zone(self) -> tzinfo:
        """Return the time zone of devices that have none of their own."""
        return UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)

    def folder(self, place: str) -> Path:
        """Return the folder that a path or a `file:` URI means; relative ones lie in the home.

        Raises:
            SettingsError: the URI names another host.
        """
        if not place.lower().startswith("file:"):
            return self.home / Path(place).expanduser()
        parts = urlsplit(place)
        if parts.netloc not in {"", "localhost"} or not parts.path:
            raise SettingsError(f"{place!r}: expected file:FOLDER, relative to the home, or file:///FOLDER")
        return self.home / unquote(parts.path)

    def _server(self, what: Literal["database", "broker"], configured: SecretStr | None) -> str:
        if configured is not None:
            return configured.get_secret_value()
        up = self.up()
        url = None if up is None else up.database_url if what == "database" else up.broker_url
        if url is None:
            variable = f"ARCFLEET_{what.upper()}_URL"
            raise SettingsError(
                f"no {what}: {variable} is not set and no `arcfleet up` runs in {self.home}; "
                "start `arcfleet up` or set it"
            )
        return url


class _Told(PydanticBaseSettingsSource):
    """Gives pydantic what the environment and the file say."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Say nothing: `__call__` gives all fields at once."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        known = frozenset(Settings.model_fields)
        environment = told.by_environment(os.environ, known, internal={_NODE})
        home = self.current_state.get("home") or environment.get("home") or _default_home()
        return told.by_file(Path(home).expanduser(), known) | environment


_lock = threading.Lock()
_current: Settings | None = None


def current() -> Settings:
    """Return the settings of this process, read at first use.

    Raises:
        SettingsError: something is unknown or cannot be used; names it.
    """
    global _current
    with _lock:
        if _current is None:
            _current = _load()
        return _current


def reload() -> Settings:
    """Read the settings anew. Raises as `current` does."""
    global _current
    loaded = _load()
    with _lock:
        _current = loaded
    return loaded


def override(**values: object) -> None:
    """Set what command line options say, here and for child processes; None: the option was not given.

    Raises:
        SettingsError: a value cannot be used; nothing is changed.
    """
    before = dict(os.environ)
    for name, value in values.items():
        if value is not None:
            variable = told.PREFIX + name.upper()
            os.environ.pop(f"{variable}_FILE", None)
            os.environ[variable] = ",".join(value) if isinstance(value, list | tuple) else str(value)
    try:
        reload()
    except SettingsError:
        os.environ.clear()
        os.environ.update(before)
        raise


def isolate(*, home: Path, temporary: Path) -> None:
    """Begin anew in a home, as if the environment said nothing else, here and for child processes.

    Args:
        home: the new one; its `arcfleet.toml` counts.
        temporary: where child processes put temporary files.
    """
    for name in [name for name in os.environ if name.startswith(told.PREFIX)]:
        del os.environ[name]
    os.environ["TMPDIR"] = str(temporary)
    override(home=home)


def environment() -> dict[str, str]:
    """Return the environment of this process, for a new one that is not started by `exec`."""
    return dict(os.environ)


def replace_environment(values: Mapping[str, str]) -> None:
    """Give this process, which has just been forked, another environment; settings that were read before stay."""
    os.environ.clear()
    os.environ.update(values)


def node_id() -> str | None:
    """Return the id of the worker node that this process belongs to; None: it belongs to none."""
    return os.environ.get(_NODE) or None


def export_node(node: str) -> None:
    """Tell this process and its future children which worker node they belong to."""
    os.environ[_NODE] = node


def _load() -> Settings:
    try:
        return Settings()
    except ValidationError as exc:
        raise SettingsError(_described(exc)) from None  # its text holds the values, secrets too


def _described(error: ValidationError) -> str:
    """Return one line for the first thing that is wrong."""
    first = error.errors(include_url=False, include_context=False)[0]
    name = str(first["loc"][0])
    field = Settings.model_fields[name]
    secret = "SecretStr" in str(field.annotation)
    shown = "" if secret else f"={_as_told(first['input'])!r}"
    place = told.place(name, os.environ)
    return f"{place}{shown}: expected {field.description}"


def _as_told(value: object) -> object:
    return value if isinstance(value, str | int | float) else str(value)


def _with_scheme(value: SecretStr | None, schemes: set[str]) -> SecretStr | None:
    if value is not None and value.get_secret_value().partition("://")[0] not in schemes:
        raise ValueError
    return value


def known() -> Mapping[str, str]:
    """Return each environment variable that is read and what it may hold, for the documentation."""
    fields = Settings.model_fields.items()
    return {told.PREFIX + name.upper(): str(field.description) for name, field in fields}
