"""The remote AE of the demonstration, a process of its own: pynetdicom's Store SCP, which shares no code with ours.

Run as `python -m api.demo.pacs PORT FOLDER`; each object is written as it was received, as `<SOP Instance UID>.dcm`.
"""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path
from typing import Any

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification

#: Its AE title in the sample cluster.
TITLE = "PACS"

_SUCCESS = 0x0000


def main(port: int, folder: Path) -> None:
    """Receive until SIGTERM."""
    folder.mkdir(parents=True, exist_ok=True)
    ae = AE(ae_title=TITLE)
    ae.require_called_aet = True
    ae.maximum_associations = 50
    ae.add_supported_context(Verification)
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)

    def store(event: Any) -> int:
        target = folder / f"{event.request.AffectedSOPInstanceUID}.dcm"
        part = target.with_suffix(".part")
        part.write_bytes(event.encoded_dataset())
        part.replace(target)
        return _SUCCESS

    handlers = [(evt.EVT_CONN_OPEN, _send_at_once), (evt.EVT_C_STORE, store)]
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.shutdown()


def _send_at_once(event: Any) -> None:
    """Do not wait for acknowledgements: they come 40 ms late."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(int(sys.argv[1]), Path(sys.argv[2]))
