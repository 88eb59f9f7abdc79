"""What is examined: the settings, what runs here, the configuration; filled by the first checks for those behind."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field

from config.device import Cluster, Device
from config.entry import Entry
from config.errors import ConfigError
from config.running import Up
from config.settings import Settings


class NoSuchDevice(ConfigError):
    """The device that is asked for is not one of ours."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller wants looked at."""

    #: Only this device, and each AE that it can call; None: all.
    device: str | None = None
    #: Ask also AEs of other systems whether they are there.
    remote: bool = True
    #: Write and remove a small file in each file system.
    write_probe: bool = False


@dataclass(slots=True)
class Case:
    """What is known so far. A check finds None where those before it found nothing."""

    wishes: Wishes = field(default_factory=Wishes)
    settings: Settings | None = None
    #: The `arcfleet up` that runs in the home.
    up: Up | None = None
    cluster: Cluster | None = None
    #: What the source of the configuration holds; None: it cannot be read, or is not there.
    entries: list[Entry] | None = None
    #: The database answers; its schema may be any.
    has_database: bool = False
    #: The schema is ours, so that our tables can be asked.
    has_schema: bool = False
    has_broker: bool = False
    #: Devices of which a process of this machine was seen: their disks must be here.
    here: frozenset[str] = frozenset()

    @property
    def given(self) -> Settings:
        """The settings, for checks that are not made without them."""
        assert self.settings is not None  # noqa: S101  # see examination.CHECKS
        return self.settings

    @property
    def known(self) -> Cluster:
        """The configuration, for checks that are not made without it."""
        assert self.cluster is not None  # noqa: S101  # see examination.CHECKS
        return self.cluster

    @property
    def offset(self) -> int:
        """What is added to the ports of the configuration on this machine."""
        return 0 if self.up is None else self.up.offset

    def devices(self) -> list[Device]:
        """Return the devices of ours that are looked at: those that are installed."""
        return [one for one in self.known.ours.values() if one.installed and self.is_meant(one.name)]

    def is_meant(self, device: str | None) -> bool:
        """Tell whether findings about this device are wanted; None: about the cluster or the machine."""
        return device is None or self.wishes.device in (None, device)


def this_host() -> str:
    """Return the name of this machine as workers know it."""
    return platform.node()
