"""The configuration that this process goes by: kept fresh, and the last good one when the source fails."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import structlog
from sqlalchemy import String, Text, delete, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapped, Session, mapped_column

from archive import db
from archive.model import columns
from config import checks, entries, entry, settings
from config import source as sources
from config.device import Cluster
from config.entries import Finding, Reading
from config.entry import Entry
from config.errors import ConfigError, SettingsError, SourceUnavailable
from config.source import Source

_log = structlog.get_logger(__name__)

#: How long a look at the source is trusted. A change is acted on within 10 s, each part of the way included.
_CHECK_EVERY_S = 2.0
#: How long to leave the database alone after it could not keep a configuration.
_SAVE_AGAIN_S = 30.0
_KEPT = 50
#: Any number; serializes those who keep a configuration, so that none is kept twice in a row.
_SAVE_LOCK = 7_214_405_118


class ConfigSnapshot(db.Base):
    """A configuration that was good: what a process starts from while the source is away."""

    __tablename__ = "config_snapshot"

    id: Mapped[int] = columns.number("In the order in which they came into use")
    sha256: Mapped[str] = mapped_column(String(64), comment="Of the entries, hexadecimal")
    source_url: Mapped[str] = mapped_column(Text, comment="Where they were read, without secrets")
    entries: Mapped[list[dict[str, Any]]] = mapped_column(
        JSONB, comment="dn and attributes of each entry; a value that is no text is an object with base64"
    )
    loaded_at: Mapped[datetime] = columns.instant("When it was first read")


@dataclass(frozen=True, slots=True)
class ConfigStatus:
    """Where the configuration in use comes from and how old it is."""

    source_url: str
    #: When it was read; None: never, or it is a fixed one.
    loaded_at: datetime | None
    #: Since when the source gives no good configuration; None: it does.
    stale_since: datetime | None
    #: Why it gives none, or why some devices stay as they were; None: all is taken over.
    error: str | None
    findings: tuple[Finding, ...]


def current() -> Cluster:
    """Return the devices as they are configured now.

    Looks for a change at most every 2 s. While the source gives none or a malformed one, the last good one
    stays; so does each device of ours that has a value that is refused.

    Raises:
        ConfigError: there never was a good one, neither in the source nor in the database.
    """
    return _configuration.cluster()


def status() -> ConfigStatus:
    """Return how fresh the configuration in use is, and what is wrong with it. Raises nothing."""
    return _configuration.status()


def source() -> Source:
    """Return what holds the configuration. Raises ConfigError if the settings name none that can be used."""
    return _configuration.source()


def read_ahead() -> None:
    """Read the source without asking the database: for a process that forks others and has no connection yet.

    What cannot be read, or has values that are refused, is left to the first look.
    """
    _configuration.read_ahead()


def use(cluster: Cluster) -> None:
    """Use a fixed configuration in this process from now on (tests)."""
    global _configuration
    _configuration = _Configuration(fixed=cluster)


def reset() -> None:
    """Forget all and begin anew from the settings."""
    global _configuration
    _configuration = _Configuration()


class _Configuration:
    """One process's view of the source; safe for threads."""

    def __init__(self, fixed: Cluster | None = None) -> None:
        self._lock = threading.Lock()
        self._fixed = fixed
        self._source: Source | None = None
        self._cluster: Cluster | None = fixed
        self._fingerprint: str | None = None
        self._check_at = 0.0
        self._loaded_at: datetime | None = None
        self._stale_since: datetime | None = None
        self._source_error: str | None = None
        self._refused_error: str | None = None
        self._findings: tuple[Finding, ...] = ()
        self._unsaved: list[Entry] | None = None
        self._save_at = 0.0

    def cluster(self) -> Cluster:
        """Return the cluster, after a look at the source if the last one is too old."""
        if self._cluster is not None and (self._fixed is not None or time.monotonic() < self._check_at):
            return self._cluster
        # Whoever has a good one does not wait for the thread that looks.
        if not self._lock.acquire(blocking=self._cluster is None):
            assert self._cluster is not None  # noqa: S101  # else acquire would have waited
            return self._cluster
        try:
            if self._cluster is None or time.monotonic() >= self._check_at:
                self._look()
                self._check_at = time.monotonic() + _CHECK_EVERY_S
            assert self._cluster is not None  # noqa: S101  # else _look raised
            return self._cluster
        finally:
            self._lock.release()

    def read_ahead(self) -> None:
        """Take the source over if all of it is good."""
        try:
            with self._lock:
                origin = self.source()
                fingerprint = origin.fingerprint()
                found = _whole(origin, fingerprint)
                if not any(finding.refused for finding in entries.read(found, settings.current().devices).findings):
                    self._take_over(origin, found)
                    self._fingerprint = fingerprint
        except ConfigError as error:
            _log.debug("configuration is not read ahead", error=str(error))

    def source(self) -> Source:
        """Return the source, opened at first use."""
        if self._source is None:
            given = settings.current()
            self._source = sources.open_source(given.config_url, given.home)
        return self._source

    def status(self) -> ConfigStatus:
        """Return the status, after a look if it is time for one."""
        url = "fixed" if self._fixed is not None else ""
        try:
            url = url or self.source().url
            self.cluster()
        except ConfigError as error:
            return ConfigStatus(url, None, self._stale_since or datetime.now(UTC), str(error), ())
        error_now = self._source_error or self._refused_error
        return ConfigStatus(url, self._loaded_at, self._stale_since, error_now, self._findings)

    def _look(self) -> None:
        """Read the source if it has changed; keep what is there if it cannot be read."""
        try:
            origin = self.source()
            fingerprint = origin.fingerprint()
            if fingerprint != self._fingerprint or self._cluster is None:
                self._take_over(origin, _whole(origin, fingerprint))
                # Only now: what could not be read is tried again at the next look.
                self._fingerprint = fingerprint
        except ConfigError as error:
            self._keep_last_good(error)
        else:
            if self._stale_since is not None:
                _log.info("configuration is readable again", source=origin.url, stale_since=self._stale_since)
            self._stale_since = self._source_error = None
        self._save()

    def _take_over(self, origin: Source, found: list[Entry]) -> None:
        reading = entries.read(found, settings.current().devices, settings.current().cluster)
        if not reading.cluster.devices:
            raise ConfigError(f"{origin.url}: expected entries of devices (object class dicomDevice), there is none")
        last = self._last_good() if any(finding.refused for finding in reading.findings) else None
        refusals = _refusals(reading, last)
        self._cluster = in_force(reading, last)
        self._findings = tuple(checks.check(reading))
        self._loaded_at = datetime.now(UTC)
        self._refused_error = str(refusals[0]) if refusals else None
        if refusals:
            _log.error("configuration has refused values", source=origin.url, first=self._refused_error)
        else:
            self._unsaved = found
        _log.info("configuration read", source=origin.url, devices=len(reading.cluster.devices))

    def _last_good(self) -> Cluster | None:
        if self._cluster is not None:
            return self._cluster
        return last_good()

    def _keep_last_good(self, error: ConfigError) -> None:
        if self._cluster is None:
            snapshot = _newest_snapshot()
            if snapshot is None:
                raise error
            reading = _read(snapshot)
            self._cluster, self._loaded_at = reading.cluster, snapshot.loaded_at
            self._findings = tuple(checks.check(reading))
        if self._stale_since is None:
            self._stale_since = datetime.now(UTC)
            _log.error("configuration cannot be read, the last good one stays", error=str(error))
        self._source_error = str(error)

    def _save(self) -> None:
        """Keep a new configuration in the database; without one, try again later."""
        if self._unsaved is None or time.monotonic() < self._save_at:
            return
        try:
            with db.transaction() as session:
                keep(session, self.source().url, self._unsaved)
            self._unsaved = None
        except SettingsError:
            self._save_at = time.monotonic() + _SAVE_AGAIN_S  # no database is set, as for `config check`
        except SQLAlchemyError as error:
            self._save_at = time.monotonic() + _SAVE_AGAIN_S
            _log.warning("configuration could not be kept in the database", error=_line(error))


def keep(session: Session, source_url: str, found: Iterable[Entry]) -> None:
    """Insert a configuration unless it equals the newest one; the oldest above 50 go. Commits nothing."""
    held = list(found)
    sha256 = digest(held)
    session.execute(select(func.pg_advisory_xact_lock(_SAVE_LOCK)))
    newest = select(ConfigSnapshot.sha256).order_by(ConfigSnapshot.id.desc()).limit(1)
    if session.scalar(newest) == sha256:
        return
    session.add(ConfigSnapshot(sha256=sha256, source_url=source_url, entries=[entry.to_json(one) for one in held]))
    session.flush()
    kept = select(ConfigSnapshot.id).order_by(ConfigSnapshot.id.desc()).limit(_KEPT)
    session.execute(delete(ConfigSnapshot).where(ConfigSnapshot.id.not_in(kept)))


def digest(found: Iterable[Entry]) -> str:
    """Return the SHA-256 of a configuration, as `ConfigSnapshot` has it."""
    rows = [entry.to_json(one) for one in found]
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def last_good() -> Cluster | None:
    """Return the configuration that the database keeps as the last good one; None: it has none, or is away."""
    snapshot = _newest_snapshot()
    return None if snapshot is None else _read(snapshot).cluster


def in_force(reading: Reading, last: Cluster | None) -> Cluster:
    """Return the cluster as read, but each device of ours with a refused value as it last was.

    Args:
        reading: of all entries of the source.
        last: the last good one; None: there is none.
    """
    return _with_last_good(reading, last, {finding.device for finding in _refusals(reading, last)})


def _refusals(reading: Reading, last: Cluster | None) -> list[Finding]:
    """Return what was refused of devices of ours, and of no device."""
    ours = set(reading.cluster.ours) | set(last.ours if last else ())
    return [one for one in reading.findings if one.refused and (one.device is None or one.device in ours)]


def _newest_snapshot() -> ConfigSnapshot | None:
    """Return the last good configuration of the database; None: it has none, or cannot be asked."""
    try:
        with db.transaction() as session:
            newest = select(ConfigSnapshot).order_by(ConfigSnapshot.id.desc()).limit(1)
            return session.scalars(newest).first()
    except (SettingsError, SQLAlchemyError) as error:
        _log.warning("no last good configuration: the database cannot be asked", error=_line(error))
        return None


def _read(snapshot: ConfigSnapshot) -> Reading:
    given = settings.current()
    return entries.read([entry.from_json(row) for row in snapshot.entries], given.devices, given.cluster)


def _whole(origin: Source, fingerprint: str) -> list[Entry]:
    """Read all entries; what changed meanwhile may have been read in half."""
    for _ in range(3):
        found = origin.entries()
        before, fingerprint = fingerprint, origin.fingerprint()
        if before == fingerprint:
            return found
    raise SourceUnavailable(f"{origin.url}: it changes while it is read")


def _with_last_good(reading: Reading, last: Cluster | None, refused: set[str | None]) -> Cluster:
    """Return the cluster as read, but each device of ours with a refused value as it was."""
    kept = {name: device for name, device in (last.ours if last else {}).items() if name in refused}
    return Cluster(MappingProxyType({**reading.cluster.devices, **kept}))


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]


_configuration = _Configuration()
