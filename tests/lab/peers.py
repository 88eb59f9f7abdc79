"""Real DICOM peers, other people's programs: dcmtk's and pynetdicom's, as senders and as destinations."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from archive.dicom.peer import Peer
from tests.lab import part10
from tests.lab.member import Member
from tests.lab.waiting import wait_until

#: Without it dcmtk, and Orthanc that is linked with it, waits 40 ms with each message.
NODELAY = {"TCP_NODELAY": "1"}

#: What storescp does if nothing is said: it takes every transfer syntax and unknown SOP classes, keeps all bytes.
AS_SENT = ("+xa", "-pm", "+B")

#: Folders of programs that an ordinary user does not have in PATH.
_MORE_FOLDERS = ("/usr/sbin", "/usr/local/sbin")

#: States in /proc/net/tcp.
_ESTABLISHED, _LISTEN = "01", "0A"
_PATIENCE_S = 120.0


def find(program: str) -> str | None:
    """Return where a program is; None: it is not installed."""
    return shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *_MORE_FOLDERS)))


def need(program: str, package: str = "dcmtk") -> str:
    """Return where a program is; skips the test if it is not installed."""
    found = find(program)
    if found is None:
        pytest.skip(f"{program} is not installed: apt-get install {package}")
    return found


def environment(**variables: str) -> dict[str, str]:
    """Return our environment without our own settings, with these variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ARCFLEET_")} | variables


# ---- destinations


@dataclass(frozen=True, slots=True)
class Sink:
    """A peer that takes objects into a folder."""

    peer: Peer
    folder: Path
    process: Member

    def files(self) -> list[Path]:
        """Return the files that it has written."""
        return sorted(path for path in self.folder.iterdir() if path.is_file())

    def data_sets(self) -> dict[str, bytes]:
        """Return the bytes of each data set that it has written, by SOP Instance UID."""
        return {part10.sop_uid(path): part10.data_set(path) for path in self.files()}

    def requests(self) -> int:
        """Return how many C-STORE requests dcmtk's has seen since its start."""
        return self.process.log_since_start().count("Received Store Request")

    def associations(self) -> int:
        """Return how many associations dcmtk's was asked for since its start."""
        return self.process.log_since_start().count("Association Received")


@contextmanager
def storescp(*options: str, port: int, ae_title: str = "PACS", **variables: str) -> Iterator[Sink]:
    """Run dcmtk's storescp until the end of the block, what it writes is in a folder that is gone then.

    Ways to fail: `--refuse` (each association), `--abort-during`, `--abort-after` (each object),
    `--sleep-during`, `--sleep-after` with seconds. `--ignore` writes nothing. Without `--fork` it serves
    one association after the other. Further variables are its environment, TCP_NODELAY=1 among it.
    """
    command = [need("storescp"), "-v", *(options or AS_SENT), "-aet", ae_title]
    with _sink(command, Peer(ae_title, "127.0.0.1", port), environment(**(NODELAY | variables))) as sink:
        yield sink


@contextmanager
def pynetdicom_storescp(*options: str, port: int, ae_title: str = "PACS") -> Iterator[Sink]:
    """Run pynetdicom's storescp, which is here wherever our tests are; it writes what it has decoded."""
    command = [sys.executable, "-m", "pynetdicom", "storescp", "-aet", ae_title, *options]
    with _sink(command, Peer(ae_title, "127.0.0.1", port), environment()) as sink:
        yield sink


@contextmanager
def _sink(command: Sequence[str], peer: Peer, variables: Mapping[str, str]) -> Iterator[Sink]:
    with tempfile.TemporaryDirectory(prefix="arcfleet-peer-") as name:
        folder = Path(name, "received")
        folder.mkdir()
        arguments = [*command, "-od", str(folder), str(peer.port)]
        with running(Member(str(peer), arguments, Path(name, "log"), variables), peer.port) as process:
            yield Sink(peer, folder, process)


@contextmanager
def running(process: Member, *ports: int) -> Iterator[Member]:
    """Run a peer until the end of the block; it listens on these ports when the block begins."""
    process.start()
    try:
        wait_until(
            lambda: all(map(is_listening, ports)) or not process.is_running,
            f"{process.name} listens",
            say=process.tail,
        )
        assert process.is_running, f"{process.name} ended with {process.exit_code}: {process.tail()}"
        yield process
    finally:
        process.kill()


def is_listening(port: int) -> bool:
    """Tell whether somebody listens on a port, without connecting: a peer would count that as an association."""
    return bool(_sockets(port, _LISTEN))


def has_connection(pid: int, port: int) -> bool:
    """Tell whether a process has an open connection that came to this port."""
    held = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed just now
            held.add(str(entry.readlink()))
    return any(f"socket:[{inode}]" in held for inode in _sockets(port, _ESTABLISHED))


def _sockets(port: int, state: str) -> set[str]:
    """Return the inodes of our machine's sockets at a port of its own."""
    tables = [table for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")) if table.exists()]
    lines = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
    return {fields[9] for fields in lines if fields[1].endswith(f":{port:04X}") and fields[3] == state}


# ---- senders


@dataclass(frozen=True, slots=True)
class Said:
    """How a sender ended, and what it printed."""

    exit_code: int
    text: str

    def requests(self) -> int:
        """Return how many objects storescu says it has sent: not those that it cannot read itself."""
        return self.text.count("Sending Store Request")

    def responses(self, status: str = "Success") -> int:
        """Return how many C-STORE responses with this status storescu says it got."""
        return self.text.count(f"Received Store Response ({status}")


def echoscu(peer: Peer, *options: str) -> Said:
    """Verify a peer by dcmtk's echoscu."""
    return _run([need("echoscu"), "-v", *options, *_address(peer, "ECHOSCU")])


def storescu_command(peer: Peer) -> list[str]:
    """Return the beginning of a storescu command, to which options and files are added."""
    return [need("storescu"), "-v", "-R", "-nh", *_address(peer, "STORESCU")]


def storescu(peer: Peer, files: Iterable[Path], *options: str, timeout_s: float = _PATIENCE_S) -> Said:
    """Send files by dcmtk's storescu, whatever becomes of those before it.

    It proposes uncompressed transfer syntaxes, others by option (`-xr`: RLE). It decodes and encodes: lengths
    of sequences may differ from the file, and storescp shows what it sends.
    """
    return _run([*storescu_command(peer), *options, *map(str, files)], timeout_s)


def start_storescu(peer: Peer, files: Iterable[Path], log: Path, *options: str) -> Member:
    """Start a storescu and do not wait for it; `said` tells how it ended."""
    command = [*storescu_command(peer), *options, *map(str, files)]
    return Member(f"storescu to {peer}", command, log, environment(**NODELAY)).start()


def said(sender: Member) -> Said:
    """Wait until a sender has ended and return what it printed."""
    wait_until(lambda: not sender.is_running, f"{sender.name} has ended", timeout_s=_PATIENCE_S, say=sender.tail)
    return Said(sender.exit_code or 0, sender.log_since_start())


def dcmsend(peer: Peer, files: Iterable[Path], *options: str) -> Said:
    """Send files by dcmtk's dcmsend, on as many associations as it wants, without looking at their UIDs."""
    command = [need("dcmsend"), "-v", "-nh", "-nuc", *options, *_address(peer, "DCMSEND")]
    return _run([*command, *map(str, files)])


def pynetdicom_storescu(peer: Peer, files: Iterable[Path], *options: str) -> Said:
    """Send files by pynetdicom's storescu, which ends with 0 whatever it is answered."""
    command = [sys.executable, "-m", "pynetdicom", "storescu", "-v", "-cx", "-aet", "PYNETDICOM"]
    return _run([*command, "-aec", peer.ae_title, *options, peer.host, str(peer.port), *map(str, files)])


def _address(peer: Peer, calling: str) -> list[str]:
    return ["-aet", calling, "-aec", peer.ae_title, peer.host, str(peer.port)]


def _run(command: Sequence[str], timeout_s: float = _PATIENCE_S) -> Said:
    done = subprocess.run(
        command,
        env=environment(**NODELAY),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=timeout_s,
    )
    return Said(done.returncode, done.stdout)
