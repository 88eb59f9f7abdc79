"""How fast objects are received: by our service, by Orthanc and by dcmtk's storescp, from the same sender.

All on one disk, with one or two associations, each program in turn. Ours and Orthanc wait for the disk with each
object (fsync) and index it; storescp does neither, it is the floor.
Run: python -m benchmarks.receive [ROUNDS]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from archive.dicom.peer import Peer
from benchmarks import objects
from benchmarks.contest import in_turn, report
from tests.lab import ldif, peers, stored
from tests.lab.cluster import cluster, free_port
from tests.lab.orthanc import orthanc
from tests.lab.waiting import wait_until

HERE = "archive-a"
OBJECTS = 500
STUDIES = 4
ROUNDS = 3
REFERENCE = "Orthanc"


@dataclass(frozen=True)
class Receiver:
    """One that is measured."""

    name: str
    peer: Peer
    #: Returns how many objects it has.
    count: Callable[[], int]
    #: Waits until it has ended its associations.
    settle: Callable[[], None] = lambda: None


def main() -> None:
    """Print objects per second, and the ratio to Orthanc."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    print(f"{OBJECTS} objects of {STUDIES} studies by storescu, median (least to most) of {rounds} rounds")
    with _receivers() as receivers, tempfile.TemporaryDirectory(prefix="arcfleet-bench-") as name:
        for size, side in objects.SIDES.items():
            for associations in (1, 2):
                seconds: dict[str, list[float]] = {receiver.name: [] for receiver in receivers}
                for number in range(rounds):
                    for receiver, took_s in _round(in_turn(receivers, number), Path(name), side, associations):
                        seconds[receiver.name].append(took_s)
                what = f"{size}, {associations} association{'s' * (associations > 1)}"
                report(what, seconds, objects=OBJECTS, reference=REFERENCE)


@contextmanager
def _receivers() -> Iterator[list[Receiver]]:
    port = free_port()
    with (
        cluster(ldif.connection(HERE, dicomPort=str(port)), sends=False) as lab,
        orthanc(port=free_port(), rest_port=free_port()) as other,
        peers.storescp("--fork", *peers.AS_SENT, port=free_port()) as sink,
    ):
        lab.dicom(HERE)
        ours = Receiver("arcfleet", Peer("ARCHIVE_A", "127.0.0.1", port), stored.received, _settle)
        theirs = Receiver(REFERENCE, other.peer, other.count)
        floor = Receiver("storescp +B", sink.peer, lambda: len(sink.files()))
        yield [ours, theirs, floor]


def _round(receivers: list[Receiver], folder: Path, side: int, associations: int) -> Iterator[tuple[Receiver, float]]:
    # Nothing is removed between two rounds: for a minute or more ext4 gives no removed file's inode out again, and
    # looks past all of those for each new file, which would slow down whoever comes next.
    folders = [Path(tempfile.mkdtemp(dir=folder), "study") for _ in range(STUDIES)]
    objects.write(folders, OBJECTS // STUDIES, side)
    shares = [folders[number::associations] for number in range(associations)]
    for receiver in receivers:
        os.sync()
        before = receiver.count()
        yield receiver, _send(receiver.peer, shares)
        receiver.settle()
        if (found := receiver.count() - before) != OBJECTS:
            raise SystemExit(f"{receiver.name} has {found} objects more, expected {OBJECTS}")


def _send(peer: Peer, shares: list[list[Path]]) -> float:
    """Send each share on an association of its own, all at once; returns the time in seconds."""
    began = time.monotonic()
    senders = [
        subprocess.Popen(
            # Series by series, as a modality sends them; storescu itself would take a folder's files as they come.
            [*peers.storescu_command(peer), *(str(path) for folder in share for path in sorted(folder.iterdir()))],
            env=peers.environment(**peers.NODELAY),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for share in shares
    ]
    codes = [sender.wait() for sender in senders]
    took_s = time.monotonic() - began
    if any(codes):
        raise SystemExit(f"storescu to {peer} ended with {codes}, expected 0")
    return took_s


def _settle() -> None:
    wait_until(stored.is_settled, "our service has ended its associations")


if __name__ == "__main__":
    main()
