"""Entries from an LDIF file, and changes of single attributes back into it."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from config import dn, ldif_records
from config.entry import Entry
from config.errors import ConfigError, EntryNotFound, SourceUnavailable


class LdifSource:
    """A configuration in one LDIF file of this host.

    Writers take a lock on `<file>.lock` and put a new file in the place of the old one, so that readers see
    the old content or the new one and two writers never lose each other's change.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def url(self) -> str:
        """Where the configuration is, for messages."""
        return self.path.absolute().as_uri()

    def fingerprint(self) -> str:
        """Return a text that changes when the file does; the file is not read.

        Raises:
            SourceUnavailable: there is no such file, or it cannot be looked at.
        """
        try:
            status = self.path.stat()
        except OSError as exc:
            raise SourceUnavailable(f"{self.path}: {exc.strerror}") from exc
        return f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"

    def entries(self) -> list[Entry]:
        """Read all entries.

        Raises:
            SourceUnavailable: the file cannot be read.
            MalformedLdif: a line of it is not LDIF.
        """
        return [record.entry for record in ldif_records.parse(self._read(), self.path).records]

    def write_attribute(self, name: str, attribute: str, values: Sequence[str]) -> None:
        """Give one attribute of an entry other values; none removes it. Raises as `modify` does."""
        self.modify(name, {attribute: values})

    def modify(
        self,
        name: str,
        changes: Mapping[str, Sequence[str]],
        accept: Callable[[list[Entry]], None] | None = None,
    ) -> None:
        """Change attributes of one entry; everything else in the file stays byte for byte.

        Args:
            name: the DN of the entry.
            changes: attribute -> all its new values; none removes the attribute.
            accept: called with all entries as they will be; what it raises leaves the file as it is.

        Raises:
            EntryNotFound: no entry has that name.
            ConfigError: the change would take the entry's name or its object classes away.
            SourceUnavailable: the file cannot be read or written.
            MalformedLdif: a line of the file is not LDIF.
        """
        with self._locked():
            document = ldif_records.parse(self._read(), self.path)
            record = self._record(document, name)
            _keep_what_names(record.entry, changes)
            changed = ldif_records.modified(document, record, changes)
            entries = [record.entry for record in ldif_records.parse(changed, self.path).records]
            if accept is not None:
                accept(entries)
            if changed != b"".join(document.physical):
                self._replace(changed)

    def _record(self, document: ldif_records.Document, name: str) -> ldif_records.Record:
        try:
            wanted = dn.parse(name)
        except ValueError as exc:
            raise EntryNotFound(f"{name!r}: expected a distinguished name") from exc
        for record in document.records:
            if dn.parse(record.lines[0].value) == wanted:
                return record
        raise EntryNotFound(f"{name!r}: expected the DN of an entry in {self.path}")

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as exc:
            raise SourceUnavailable(f"{self.path}: {exc.strerror}") from exc

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # A file of its own: the configuration's is replaced, a lock on it would stay with the old one.
        target = self.path.resolve()
        try:
            lock = target.with_name(target.name + ".lock").open("a")
        except OSError as exc:
            raise SourceUnavailable(f"{exc.filename}: {exc.strerror}") from exc
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _replace(self, data: bytes) -> None:
        target = self.path.resolve()  # a link stays a link
        try:
            write_atomically(target, data, like=target)
        except OSError as exc:
            raise SourceUnavailable(f"{target}: cannot be written: {exc.strerror}") from exc


def write_atomically(target: Path, data: bytes, *, like: Path | None = None) -> None:
    """Put a file into its place whole and safe from a power failure.

    Args:
        target: the file.
        data: its new content.
        like: a file whose mode and owner it gets; None: it must not exist yet, else FileExistsError.
    """
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            _take_over(file.fileno(), like)
            file.flush()
            os.fsync(file.fileno())
        if like is None:
            target.hardlink_to(temporary)  # unlike a rename, never replaces what another process just made
        else:
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _take_over(descriptor: int, like: Path | None) -> None:
    if like is None:
        os.fchmod(descriptor, 0o644)
        return
    status = like.stat()
    os.fchmod(descriptor, status.st_mode & 0o7777)
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()) and os.geteuid() == 0:
        os.fchown(descriptor, status.st_uid, status.st_gid)


def _keep_what_names(entry: Entry, changes: Mapping[str, Sequence[str]]) -> None:
    lowered = {attribute.lower(): values for attribute, values in changes.items()}
    for kind, value in dn.first_rdn(entry.dn):
        new = lowered.get(kind.lower())
        if new is not None and entry.values(kind) and not any(dn.same_value(kind, value, text) for text in new):
            raise ConfigError(f"{entry.dn}: {kind}: expected {value!r}, the entry is named by it")
    if not lowered.get("objectclass", ["top"]):
        raise ConfigError(f"{entry.dn}: objectClass: expected at least one value")
