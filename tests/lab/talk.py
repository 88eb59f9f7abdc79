"""A requestor that says, byte by byte, what a test writes down; for our acceptor."""

from __future__ import annotations

from archive import errors
from archive.dicom import commands, handshake, negotiation, pdu, wire
from archive.dicom.peer import VERIFICATION
from archive.dicom.status import Status
from tests.lab.accepting import Accepting
from tests.lab.scripted import CT

CONTEXTS = [
    negotiation.ProposedContext(1, CT.sop_class_uid, (CT.transfer_syntax_uid,)),
    negotiation.ProposedContext(3, VERIFICATION.sop_class_uid, (VERIFICATION.transfer_syntax_uid,)),
    negotiation.ProposedContext(5, "1.2.3", (VERIFICATION.transfer_syntax_uid,)),
]
REQUEST = negotiation.Request("ARCHIVE_A", "MODALITY", CONTEXTS, 16384)


class Talk:
    """A requestor that says what it is told, byte by byte."""

    def __init__(self, accepting: Accepting, *, request: negotiation.Request = REQUEST) -> None:
        self.connection = accepting.connect()
        self.reader = wire.Wire(self.connection, "acceptor", send_s=60, max_pdu_length=131072)
        self.connection.sendall(handshake.encode_request(request))
        self.answer, body = self.pdu()
        self.answer_body = bytes(body)

    def say(self, *said: bytes) -> None:
        self.connection.sendall(b"".join(said))

    def pdu(self) -> tuple[int, memoryview]:
        self.reader.expect("PDU", 60)
        return self.reader.read_pdu()

    def status(self) -> Status | None:
        kind, body = self.pdu()
        assert kind == pdu.P_DATA_TF
        return commands.decode(bytes(body[6:]), "acceptor").status

    def release(self) -> None:
        self.say(pdu.RELEASE_RQ)
        assert self.pdu()[0] == pdu.A_RELEASE_RP
        self.connection.close()

    def rest(self) -> list[int]:
        """Return the types of all PDUs until the connection is closed; 7 is A-ABORT."""
        kinds = []
        try:
            while True:
                kinds.append(self.pdu()[0])
        except errors.PeerAborted as error:
            kinds += [pdu.A_ABORT] if "aborted" in str(error) else []
        self.connection.close()
        return kinds
