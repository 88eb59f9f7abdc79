"""Who is connected: a table that all processes of a device's DICOM service share.

It is a file without a name, whose descriptor the processes inherit. Each entry belongs to a process; what one
that died still had is given back by `sweep`. Changes are made under a lock that the kernel takes from a
process that ends.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import struct
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple, Self

#: Connections without an association that one process keeps; one is closed for one more.
MOST_SILENT = 128
#: Associations that all processes of a device can have, whatever its configuration says.
MOST_ASSOCIATIONS = 1024

#: Process id, kind, remote address as IPv6, when it last stored something (seconds of the monotonic clock, which all
#: processes of a machine share), and whether it shall leave.
_ENTRY = struct.Struct("=II16sdI")
_STORED_AT = struct.Struct("=d")
_OFFSET_OF_STORED_AT = 24
_NOWHERE = bytes(16)


class _Kind(IntEnum):
    """What an entry stands for."""

    FREE = 0
    PROCESS = 1
    CONNECTION = 2
    ASSOCIATION = 3


class _Entry(NamedTuple):
    pid: int
    kind: int
    address: bytes
    stored_at: float = 0.0
    shall_leave: int = 0


class Places:
    """One process's access to the table; safe for threads."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._pid = os.getpid()
        self._lock = threading.Lock()

    @classmethod
    def make(cls, processes: int) -> Self:
        """Make an empty table for so many processes."""
        descriptor, name = tempfile.mkstemp(prefix="arcfleet-places-")
        Path(name).unlink()
        # Written and not only made longer, so that the disk cannot refuse a change later.
        os.write(descriptor, bytes(_ENTRY.size * (processes * (2 + MOST_SILENT) + MOST_ASSOCIATIONS)))
        return cls(descriptor)

    def join(self) -> None:
        """Tell the others that this process takes connections from now on."""
        self._take(_Kind.PROCESS, _NOWHERE)

    def processes(self) -> set[int]:
        """Return the ids of the processes that have joined."""
        return {entry.pid for entry in self._entries() if entry.kind == _Kind.PROCESS}

    def is_fuller(self) -> bool:
        """Tell whether another process has fewer connections than this one."""
        loads = Counter(entry.pid for entry in self._entries() if entry.kind != _Kind.FREE)
        return loads[self._pid] > min(loads.values(), default=0)

    def enter(self, address: str) -> int | None:
        """Take a place for a connection from an address and return its number; None: the table is full."""
        return self._take(_Kind.CONNECTION, _packed(address))

    @staticmethod
    def most(wanted: int) -> int:
        """Return how many associations there can be for a limit that a configuration names; 0 is none."""
        return min(wanted or MOST_ASSOCIATIONS, MOST_ASSOCIATIONS)

    def associate(self, number: int, *, limit: int, per_address: int) -> str | None:
        """Make an association of a connection; return None, or in words why it cannot be one.

        Args:
            number: of its place.
            limit: associations that all processes may have; 0: as many as there can be.
            per_address: those that one remote address may have.
        """
        limit = self.most(limit)
        with self._changing():
            entries = self._entries()
            address = entries[number].address
            others = [entry.address for entry in entries if entry.kind == _Kind.ASSOCIATION]
            if len(others) >= limit:
                return f"{len(others)} associations are open, at most {limit} may be"
            if others.count(address) >= per_address:
                return f"{others.count(address)} associations of its address are open, at most {per_address} may be"
            self._write(number, _Kind.ASSOCIATION, address)
        return None

    def stored(self, number: int) -> None:
        """Note that an association stores something; costs a few microseconds."""
        place = number * _ENTRY.size + _OFFSET_OF_STORED_AT
        os.pwrite(self.descriptor, _STORED_AT.pack(time.monotonic()), place)

    def make_room(self, *, limit: int, after_s: float) -> bool:
        """Tell the association to leave that has stored nothing for the longest time; return whether one leaves.

        Args:
            limit: associations that there may be; while there are fewer, nobody has to leave.
            after_s: who has stored something, or begun, so many seconds ago or later is left alone.
        """
        latest = time.monotonic() - after_s
        with self._changing():
            found = [(one.stored_at, n, one) for n, one in enumerate(self._entries()) if one.kind == _Kind.ASSOCIATION]
            if any(one.shall_leave for *_, one in found):
                return True
            if len(found) < self.most(limit) or min(found)[0] > latest:
                return False
            _, number, entry = min(found)
            os.pwrite(self.descriptor, _ENTRY.pack(*entry._replace(shall_leave=1)), number * _ENTRY.size)
        return True

    def told_to_leave(self) -> list[int]:
        """Return the numbers of this process's associations that shall leave."""
        return [n for n, one in enumerate(self._entries()) if one.shall_leave and one.pid == self._pid]

    def leave(self, number: int) -> None:
        """Give a place back."""
        with self._changing():
            self._write(number, _Kind.FREE, _NOWHERE)

    def sweep(self, alive: Collection[int]) -> None:
        """Give back the places of all processes but these."""
        with self._changing():
            for number, entry in enumerate(self._entries()):
                if entry.kind != _Kind.FREE and entry.pid not in alive:
                    self._write(number, _Kind.FREE, _NOWHERE)

    def _take(self, kind: _Kind, address: bytes) -> int | None:
        with self._changing():
            number = next((n for n, entry in enumerate(self._entries()) if entry.kind == _Kind.FREE), None)
            if number is not None:
                self._write(number, kind, address)
        return number

    @contextmanager
    def _changing(self) -> Iterator[None]:
        # The kernel's lock excludes other processes only, not other threads.
        with self._lock:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self.descriptor, fcntl.LOCK_UN)

    def _entries(self) -> list[_Entry]:
        return [_Entry(*one) for one in _ENTRY.iter_unpack(os.pread(self.descriptor, self._size, 0))]

    def _write(self, number: int, kind: _Kind, address: bytes) -> None:
        entry = _Entry(self._pid, kind, address, time.monotonic())
        os.pwrite(self.descriptor, _ENTRY.pack(*entry), number * _ENTRY.size)


def _packed(address: str) -> bytes:
    found = ipaddress.ip_address(address.partition("%")[0])
    return (found if found.version == 6 else ipaddress.IPv6Address(f"::ffff:{found}")).packed
