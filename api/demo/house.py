"""The home of a demonstration: a folder of its own, its configuration, and how it is left."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from config import changes, entries, ldif_records, settings, source
from config.device import Cluster
from config.entries import Reading
from config.entry import Entry
from config.errors import SettingsError
from config.source import Source
from workers.embedded import servers

_Changes = tuple[tuple[str, str, str, str], ...]

#: What the demonstration changes in the entries of each device: collection, name in it, attribute, value.
_OF_EACH: _Changes = (
    ("", "", "arcTaskLease", "PT3S"),
    ("queues", "Export", "dcmMaxRetries", "0"),
    ("exporters", "ToFolder", "dcmProperty", "objectsPerSecond=50"),
)
#: The same of the first device: its nearline disk is mounted nowhere else, and its online disk is cleared soon.
_OF_FIRST: _Changes = (
    ("file_system_groups", "NEARLINE_STORAGE", "arcFileSystem", "storage/archive-a/nearline"),
    ("file_system_groups", "ONLINE_STORAGE", "arcDeleteStudyIfNotAccessedFor", "1s"),
    ("file_system_groups", "ONLINE_STORAGE", "arcDeleteStudyOnlyIfNotAccessedFor", "0s"),
    ("file_system_groups", "ONLINE_STORAGE", "arcDeletionGraceTime", "0s"),
    ("file_system_groups", "ONLINE_STORAGE", "arcScheduleStudiesForDeletionInterval", "1s"),
)

#: The devices of the sample cluster: tasks begin on the first and move to the second.
FIRST, SECOND = "archive-a", "archive-b"

_DEVICE = "dicomDeviceName="

#: What is kept of a home whose demonstration failed.
_EVIDENCE = ("logs", "config.ldif")


@dataclass(frozen=True, slots=True)
class Difference:
    """One attribute that the demonstration has otherwise than the shipped sample."""

    #: Name of the entry below its device, `device`: the device itself.
    entry: str
    devices: tuple[str, ...]
    attribute: str
    sample: str
    here: str


@dataclass(frozen=True, slots=True)
class House:
    """The home and what lies in it."""

    home: Path
    #: Of the home, unless one was chosen, and of everything that processes leave behind when they are killed.
    scratch: Path
    #: The home stays as it is when all is over.
    is_kept: bool

    @property
    def logs(self) -> Path:
        """The folder of all logs."""
        return self.home / "logs"

    @property
    def exports(self) -> Path:
        """Where the exporter ToFolder (`file:export`) writes."""
        return self.home / "export"

    @property
    def pacs(self) -> Path:
        """Where the remote AE writes what it receives."""
        return self.scratch / "pacs"

    def configure(self, pacs_port: int) -> Cluster:
        """Write the configuration of the demonstration, and return the cluster.

        Args:
            pacs_port: on which the remote AE will listen.
        """
        origin = source.open_source(None, self.home)
        for device in _read(origin.entries()).cluster.ours:
            _change(origin, device, _OF_EACH)
        _change(origin, FIRST, _OF_FIRST)
        _change(origin, "pacs", (("connections", "dicom", "dicomPort", str(pacs_port)),))
        return _read(origin.entries()).cluster

    def differences(self) -> list[Difference]:
        """Return what differs between the shipped sample and the configuration in the home."""
        here = {entry.dn: entry for entry in source.open_source(None, self.home).entries()}
        devices: dict[tuple[str, ...], list[str]] = {}
        for record in ldif_records.parse(source.sample(), "sample.ldif").records:
            sample = record.entry
            for attribute, before, after in _compared(sample, here[sample.dn]):
                entry, device = _named(sample.dn)
                devices.setdefault((entry, attribute, before, after), []).append(device)
        return [Difference(entry, tuple(names), *changed) for (entry, *changed), names in devices.items()]

    def leave(self, *, failed: bool) -> None:
        """Remove what nobody asked to keep; of a home that failed, the logs and the configuration stay."""
        for folder in servers.outside(self.home):
            if not (self.is_kept and folder.is_relative_to(servers.ELSEWHERE)):
                _remove(folder)
        if failed and not self.is_kept:
            _remove_all_but(self.home, _EVIDENCE)
        if self.home.is_relative_to(self.scratch) and (self.is_kept or failed):
            _remove_all_but(self.scratch, (self.home.name,))
        else:
            _remove(self.scratch)


def make(chosen: Path | None, *, keep: bool) -> House:
    """Make the home: a temporary one unless one is chosen; from now on nothing else in this process counts.

    Args:
        chosen: a folder that is empty or not there yet; it is kept.
        keep: a temporary one is kept too.

    Raises:
        SettingsError: the chosen folder cannot be used.
    """
    chosen = chosen and chosen.expanduser().absolute()
    if chosen is not None:
        _prepare(chosen)
    scratch = Path(tempfile.mkdtemp(prefix="arcfleet-demo-"))
    temporary = scratch / "tmp"
    temporary.mkdir()
    for folder in (scratch, temporary):
        # The account of the servers must pass, as through /tmp.
        folder.chmod(0o711)
    home = chosen or scratch / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    # Whatever the environment names (a database, a broker) may be real, and is none of ours.
    settings.isolate(home=home, temporary=temporary)
    return House(home, scratch, is_kept=keep or chosen is not None)


def _prepare(home: Path) -> None:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_empty = not any(home.iterdir())
    except OSError as error:
        raise SettingsError(f"home {home} cannot be used: {error.strerror}; expected a writable folder") from error
    if not is_empty:
        raise SettingsError(f"home {home} is not empty: expected a new or an empty folder, the demo touches no other")


def _remove_all_but(folder: Path, names: Collection[str]) -> None:
    for path in folder.iterdir():
        if path.name not in names:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _change(origin: Source, device: str, wanted: _Changes) -> None:
    for collection, name, attribute, value in wanted:
        found = origin.entries()
        dn = _read(found).dns[device, collection, name or device]
        planned = changes.plan(changes.find(found, dn), attribute, (value,))
        origin.modify(dn, planned, changes.no_worse(found, ()))


def _read(found: list[Entry]) -> Reading:
    return entries.read(found, ())


def _compared(sample: Entry, here: Entry) -> Iterator[tuple[str, str, str]]:
    """Yield attribute, value in the sample and value here; `-` stands for none."""
    for attribute in {**sample.attributes, **here.attributes}:
        for before, after in zip_longest(sample.values(attribute), here.values(attribute), fillvalue="-"):
            if before != after:
                yield attribute, before, after


def _named(name: str) -> tuple[str, str]:
    """Return the name of an entry below its device, and that of the device."""
    entry, _, rest = name.partition(",")
    if entry.startswith(_DEVICE):
        return "device", entry.removeprefix(_DEVICE)
    return entry, rest.partition(",")[0].removeprefix(_DEVICE)
