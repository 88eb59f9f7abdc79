"""Serve one association that a peer asks for: the service class provider, without what it provides."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from archive import errors
from archive.dicom import commands, handshake, messages, negotiation, offers, pdu, status, wire
from archive.dicom.negotiation import ProposedContext, Rejection
from archive.dicom.peer import Context, Peer, address_text
from archive.dicom.status import Status

__all__ = ["AcceptorLimits", "Proposal", "ProposedContext", "Rejection", "Services", "StoreRequest", "converse"]

#: How long the object in flight may take when the service is told to stop.
_LAST_OBJECT_S = 2.0


@dataclass(frozen=True, slots=True)
class AcceptorLimits:
    """How long a peer may be silent, in seconds (0: any time), and its PDUs be, in bytes."""

    #: Until it has asked for an association. Source: PS3.8 9.1.5 (ARTIM)
    artim_s: float = 10.0
    #: Between two messages, and between two parts of one.
    idle_s: float = 60.0
    #: How long it may take no byte of what we send.
    send_s: float = 30.0
    #: What we say we take in a P-DATA-TF PDU; 0 is the longest that we take.
    max_pdu_length: int = 131072


@dataclass(frozen=True, slots=True)
class Proposal:
    """What an A-ASSOCIATE-RQ asks for."""

    calling: str
    called: str
    #: Host and port that it comes from.
    address: tuple[str, int]
    contexts: Sequence[ProposedContext]
    implementation_class_uid: str
    implementation_version: str


class StoreRequest(NamedTuple):
    """A C-STORE-RQ; its data set comes while it is read, once."""

    message_id: int
    #: As the command says, which need not be what the data set says.
    sop_class_uid: str
    sop_uid: str
    #: As agreed for the presentation context: how the data set is encoded.
    transfer_syntax_uid: str
    #: What is not read is thrown away.
    chunks: Iterator[bytes]


class Services(Protocol):
    """What a peer can use on one association; all calls come from one thread."""

    def echo(self) -> Status:
        """Answer C-ECHO."""

    def store(self, request: StoreRequest) -> Status:
        """Store an object; a PeerError out of its chunks says that it never came whole, and must not be stored."""

    def answered(self) -> None:
        """Take the time until the peer's next request; called when its last one is answered."""

    def close(self) -> None:
        """Take note of the end, however it came; called once."""


def converse(
    connection: socket.socket,
    address: tuple[str, int],
    admit: Callable[[Proposal], Services | Rejection],
    limits: AcceptorLimits,
    stopping: Callable[[], bool],
) -> str:
    """Serve one association from its first byte to its end, and close its connection.

    Args:
        connection: just accepted.
        address: host and port of the peer.
        admit: decides about the association.
        limits: of the peer's patience and PDUs.
        stopping: says whether the service is told to stop: the object in flight is the last one.

    Returns:
        How it ended, in words. Whatever a peer does is no error; what `admit` and the services raise is.

    Source: PS3.8 section 7, Annex D
    """
    return _Conversation(connection, address, limits, stopping).hold(admit)


class _Stopped(errors.PeerAborted):
    """The service is told to stop: the association is ended by us."""


class _Conversation:
    def __init__(
        self, connection: socket.socket, address: tuple[str, int], limits: AcceptorLimits, stopping: Callable[[], bool]
    ) -> None:
        self._address = address
        self._limits = limits
        self._stopping = stopping
        self._told_to_stop_at: float | None = None
        self._is_idle = True
        self._max_pdu_length = pdu.receivable(limits.max_pdu_length)
        self._wire = wire.Wire(
            connection, address_text(*address), send_s=limits.send_s, max_pdu_length=self._max_pdu_length
        )
        self._wire.waiting = self._look_for_stop
        self._contexts: Mapping[int, Context] = {}

    def hold(self, admit: Callable[[Proposal], Services | Rejection]) -> str:
        """Talk until the end of the association and say how it ended."""
        try:
            how = self._talk(admit)
            self._wire.close()
        except _Stopped:
            self._wire.abort()
            how = "aborted by us: told to stop"
        except errors.PeerAborted as error:
            self._wire.close()
            how = str(error)
        except errors.PeerError as error:
            reason = pdu.UNEXPECTED_PDU if isinstance(error, errors.PeerMisbehaved) else 0
            self._wire.abort(source=2, reason=reason)
            how = f"aborted by us: {error}"
        except BaseException:
            self._wire.abort()
            raise
        return how

    def _talk(self, admit: Callable[[Proposal], Services | Rejection]) -> str:
        request = self._read_request()
        answer = offers.impossible(request) or admit(self._proposal(request))
        if isinstance(answer, Rejection):
            self._wire.send(handshake.encode_rejection(answer))
            return f"rejected ({answer.text})"
        try:
            self._accept(request)
            while self._serve_message(answer):
                pass
        finally:
            answer.close()
        self._wire.send(pdu.RELEASE_RP)
        return "released"

    def _read_request(self) -> negotiation.Request:
        self._wire.expect("A-ASSOCIATE-RQ", self._limits.artim_s)
        kind, body = self._wire.read_pdu()
        if kind != pdu.A_ASSOCIATE_RQ:
            raise self._wire.misbehaved(f"began with a PDU of type {kind} instead of A-ASSOCIATE-RQ")
        request = handshake.decode_request(bytes(body), self._wire.peer)
        self._wire.peer = Peer(request.calling, *self._address)
        return request

    def _proposal(self, request: negotiation.Request) -> Proposal:
        return Proposal(
            calling=request.calling,
            called=request.called,
            address=self._address,
            contexts=request.contexts,
            implementation_class_uid=request.implementation_class_uid,
            implementation_version=request.implementation_version,
        )

    def _accept(self, request: negotiation.Request) -> None:
        """Answer each presentation context; that none is accepted is for the peer to see."""
        self._wire.limit_fragments(request.max_pdu_length)
        answers = [offers.answer(context) for context in request.contexts]
        abstract_syntaxes = {context.id: context.abstract_syntax for context in request.contexts}
        self._contexts = {
            answer.id: Context(abstract_syntaxes[answer.id], answer.transfer_syntax)
            for answer in answers
            if answer.result == negotiation.ACCEPTANCE
        }
        acceptance = negotiation.Acceptance(request.called, request.calling, answers, self._max_pdu_length)
        self._wire.send(handshake.encode_acceptance(acceptance))

    def _serve_message(self, services: Services) -> bool:
        """Answer the next message; return False when the peer asks for the release of the association."""
        self._look_for_stop()
        self._wire.expect("request", self._limits.idle_s)
        received = messages.read_command(self._wire)
        if received is None:
            return False
        self._is_idle = False
        context_id, command = received
        context = self._contexts.get(context_id)
        if context is None:
            raise self._wire.misbehaved(f"sent a command in presentation context {context_id}, which is not accepted")
        if command.is_response:
            raise self._wire.misbehaved(f"sent a response {command.field:04X}; nothing was asked")
        answer = self._perform(services, context_id, context, command)
        if command.field != commands.C_CANCEL_RQ:
            self._wire.send_message(context_id, commands.response(command, answer))
            services.answered()
        self._is_idle = True
        return True

    def _perform(self, services: Services, context_id: int, context: Context, command: commands.Command) -> Status:
        data_set = _DataSet(self._wire, context_id, self._limits.idle_s, is_there=command.has_data_set)
        if command.field == commands.C_ECHO_RQ:
            answer = services.echo()
        elif command.field != commands.C_STORE_RQ or context.sop_class_uid not in offers.STORAGE_CLASSES:
            answer = Status(status.UNRECOGNIZED_OPERATION)
        elif not command.has_data_set:
            answer = Status(status.CANNOT_UNDERSTAND, "C-STORE without a data set")
        else:
            answer = services.store(_store_request(command, context, data_set))
        data_set.drain()
        return answer

    def _look_for_stop(self) -> None:
        """End the association when the service is told to stop, but leave the object in flight some time.

        Raises:
            _Stopped: it ends.
        """
        if not self._stopping():
            return
        now = time.monotonic()
        self._told_to_stop_at = self._told_to_stop_at or now
        if self._is_idle or now - self._told_to_stop_at >= _LAST_OBJECT_S:
            raise _Stopped(f"{self._wire.peer}: the service is told to stop")


class _DataSet:
    """The data set behind a command; remembers how it broke off, whatever the service makes of that.

    No generator: a service that ends early would close it, and the rest could not be thrown away.
    """

    def __init__(self, connection: wire.Wire, context_id: int, within_s: float, *, is_there: bool) -> None:
        self._parts = messages.read_data_set(connection, context_id, within_s) if is_there else iter(())
        self._broken: errors.PeerError | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._broken is not None:
            raise self._broken
        try:
            return next(self._parts)
        except errors.PeerError as error:
            self._broken = error
            raise

    def drain(self) -> None:
        """Throw away what the service left. Raises the PeerError by which the data set broke off."""
        for _ in self:
            pass


def _store_request(command: commands.Command, context: Context, chunks: Iterator[bytes]) -> StoreRequest:
    return StoreRequest(
        message_id=command.message_id,
        sop_class_uid=command.sop_class_uid,
        sop_uid=command.sop_uid,
        transfer_syntax_uid=context.transfer_syntax_uid,
        chunks=chunks,
    )
