"""dcmtk's dcmqrscp: a small archive of another make that can be asked and told to send."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from archive.dicom.peer import Peer
from tests.lab import peers
from tests.lab.member import Member

_CONFIGURATION = """\
NetworkTCPPort = {port}
MaxPDUSize = 131072
MaxAssociations = 16
HostTable BEGIN
{hosts}
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
{title} {folder} RW (1000, 1024mb) ANY
AETable END
"""


@contextmanager
def dcmqrscp(
    files: Iterable[Path], *destinations: Peer, port: int, ae_title: str = "QRSCP", **variables: str
) -> Iterator[Peer]:
    """Run dcmqrscp until the end of the block; it holds these files and sends to these AEs."""
    program = peers.need("dcmqrscp")
    with tempfile.TemporaryDirectory(prefix="arcfleet-qrscp-") as name:
        folder = Path(name, "held")
        folder.mkdir()
        hosts = "\n".join(f"host{n} = ({one.ae_title}, {one.host}, {one.port})" for n, one in enumerate(destinations))
        configuration = Path(name, "dcmqrscp.cfg")
        configuration.write_text(_CONFIGURATION.format(port=port, hosts=hosts, title=ae_title, folder=folder))
        peer = Peer(ae_title, "127.0.0.1", port)
        process = Member(
            f"dcmqrscp {ae_title}",
            [program, "-v", "-c", str(configuration)],
            Path(name, "log"),
            peers.environment(**(peers.NODELAY | variables)),
        )
        with peers.running(process, port):
            held = list(files)
            if held:
                said = peers.storescu(peer, held)
                assert said.responses() == len(held), said.text
            yield peer
