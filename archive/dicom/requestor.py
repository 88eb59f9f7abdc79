"""Ask a peer for an association, send it objects and ask it questions: the service class user."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from archive import errors
from archive.dicom import commands, connecting, handshake, messages, negotiation, pdu, wire
from archive.dicom.canceling import Canceling
from archive.dicom.fragments import Buffer
from archive.dicom.peer import VERIFICATION, Context, Limits, Peer
from archive.dicom.status import Status

_DEFAULT_LIMITS = Limits()


class Answer(NamedTuple):
    """One of the responses to C-FIND or C-MOVE; the last one is not pending."""

    status: Status
    sub_operations: commands.SubOperations
    #: The identifier behind it, encoded as the context says; empty if there is none.
    data: bytes


@contextmanager
def associate(
    peer: Peer,
    calling: str,
    contexts: Sequence[Context],
    limits: Limits = _DEFAULT_LIMITS,
    *,
    waiting: Callable[[], None] | None = None,
) -> Iterator[Requestor]:
    """Open an association for what is to be sent; released at the end of the block, aborted when it raises.

    Args:
        peer: the called application entity.
        calling: our AE title.
        contexts: at most 128 different ones; `VERIFICATION` for `echo`.
        limits: how long each step may take.
        waiting: called twice a second from the first step on; what it raises aborts the association.

    Raises:
        ValueError: too many contexts, none, or no AE title.
        PeerUnreachable: no connection.
        PeerRejected: the peer does not want this association.
        PeerAborted, PeerTimedOut, PeerMisbehaved: the association came to nothing.

    Source: PS3.8 section 7
    """
    request = _request(peer, calling, contexts, limits)
    waiting = waiting or wire.wait_on
    connected = connecting.connect(peer, limits.connect_s, waiting)
    connection = wire.Wire(connected, peer, send_s=limits.send_s, max_pdu_length=request.max_pdu_length)
    connection.waiting = waiting
    try:
        answers = _negotiate(connection, request, limits)
    except BaseException:
        connection.abort()
        raise
    requestor = Requestor(connection, peer, answers, limits)
    try:
        yield requestor
    except BaseException:
        requestor.abort()
        raise
    requestor.release()


class Requestor:
    """An open association; of one thread, one request at a time."""

    def __init__(self, connection: wire.Wire, peer: Peer, answers: Mapping[Context, int | str], limits: Limits) -> None:
        self.peer = peer
        self._wire = connection
        self._answers = answers
        self._limits = limits
        self._message_id = 0
        self._is_open = True

    def accepts(self, context: Context) -> bool:
        """Say whether objects of this class and transfer syntax can be sent."""
        return isinstance(self._answers.get(context), int)

    def refusal(self, context: Context) -> str | None:
        """Return why a context is not accepted, in words; None when it is."""
        answer = self._answers.get(context, "not asked for")
        return answer if isinstance(answer, str) else None

    def echo(self) -> Status:
        """Ask whether the peer is there; needs the context `VERIFICATION`.

        Raises:
            PeerRejected: the peer does not accept the context.
            PeerAborted, PeerTimedOut, PeerMisbehaved: the association is gone, and closed.

        Source: PS3.7 9.1.5
        """
        context_id = self._context_id(VERIFICATION)
        message_id = self._next_message_id()
        command = commands.echo_request(message_id, VERIFICATION.sop_class_uid)
        return self._ask(context_id, command, message_id, None)

    def store(self, sop_uid: str, context: Context, data: Iterable[Buffer], priority: int = 0) -> Status:
        """Send an object and return what the peer said about it.

        Args:
            sop_uid: SOP Instance UID.
            context: what `accepts` says yes to.
            data: the data set, encoded as the context says, in pieces. When it raises, the association is aborted.
            priority: 0 medium, 1 high, 2 low.

        Raises:
            PeerRejected: the peer does not accept the context.
            PeerAborted, PeerTimedOut, PeerMisbehaved: the association is gone, and closed; whether the object
                was stored is not known.

        Source: PS3.7 9.1.1, PS3.4 Annex B
        """
        context_id = self._context_id(context)
        message_id = self._next_message_id()
        command = commands.store_request(message_id, context.sop_class_uid, sop_uid, priority)
        return self._ask(context_id, command, message_id, data)

    def converse(
        self, context: Context, request: Callable[[int], bytes], keys: bytes, within_s: float
    ) -> Iterator[Answer]:
        """Send a request that has several responses and yield them as they come.

        When `waiting` raises, the peer is asked to cancel and given a moment to do so; then that is raised.

        Args:
            context: what `accepts` says yes to.
            request: makes the command set for a message id.
            keys: the identifier, encoded as the context says.
            within_s: how long the peer may be silent; 0 for any time.

        Raises:
            PeerRejected: the peer does not accept the context.
            PeerAborted, PeerTimedOut, PeerMisbehaved: the association is gone, and closed.

        Source: PS3.7 9.1.2, 9.1.4, 9.3.2.3 (C-CANCEL)
        """
        context_id = self._context_id(context)
        message_id = self._next_message_id()
        canceling = Canceling(self._wire, context_id, message_id)
        try:
            command = request(message_id)
            self._wire.send_message(context_id, command, [keys])
            self._wire.waiting = canceling.look
            field = commands.decode(command, self.peer).field | commands.RESPONSE
            is_pending = True
            while is_pending:
                received = self._received(field, message_id, within_s)
                parts = messages.read_data_set(self._wire, context_id, within_s) if received.has_data_set else ()
                data = b"".join(parts)
                status = received.status or Status(0)
                is_pending = status.is_pending
                yield Answer(status, received.sub_operations, data)
            self._wire.waiting = canceling.waiting
            if canceling.stop is not None:
                raise canceling.stop
        except errors.PeerError as error:
            self.abort()
            # Of a peer that is asked to cancel it says nothing that it goes away.
            raise canceling.stop or error from error
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """End the association at once. Source: PS3.8 7.3"""
        if self._is_open:
            self._is_open = False
            self._wire.abort()

    def release(self) -> None:
        """End the association in order; when the peer does not play along it is ended all the same.

        Nothing is lost by that: whatever was sent is answered already. Source: PS3.8 7.2
        """
        if not self._is_open:
            return
        self._is_open = False
        self._wire.waiting = wire.wait_on
        try:
            self._wire.send(pdu.RELEASE_RQ)
            self._wire.expect("A-RELEASE-RP", self._limits.release_s)
            while (kind := self._wire.read_pdu()[0]) != pdu.A_RELEASE_RP:
                if kind == pdu.A_RELEASE_RQ:  # both at once: PS3.8 7.2.2
                    self._wire.send(pdu.RELEASE_RP)
            self._wire.close()
        except errors.PeerError:
            self._wire.abort()

    def _context_id(self, context: Context) -> int:
        if not self._is_open:
            raise errors.PeerAborted(f"{self.peer}: the association is ended")
        answer = self._answers.get(context, "not asked for")
        if isinstance(answer, str):
            raise errors.PeerRejected(f"{self.peer}: {context} not accepted: {answer}")
        return answer

    def _next_message_id(self) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id

    def _ask(self, context_id: int, command: bytes, message_id: int, data: Iterable[Buffer] | None) -> Status:
        try:
            self._wire.send_message(context_id, command, data)
            field = commands.C_ECHO_RSP if data is None else commands.C_STORE_RSP
            return self._received(field, message_id, self._limits.response_s).status or Status(0)
        except BaseException:
            self.abort()
            raise

    def _received(self, field: int, message_id: int, within_s: float) -> commands.Command:
        """Wait for a response to the request of this id. Source: PS3.7 9.3.1.2, 9.3.5.2"""
        self._wire.expect(f"response to request {message_id}", within_s)
        received = messages.read_command(self._wire)
        if received is None:
            raise self._wire.misbehaved(f"asked for the release of the association before it answered {message_id}")
        response = received.command
        if response.field != field or response.status is None:
            raise self._wire.misbehaved(f"sent command {response.field:04X} instead of {field:04X}")
        if response.message_id != message_id:
            raise self._wire.misbehaved(f"answered request {response.message_id} instead of {message_id}")
        return response


def _request(peer: Peer, calling: str, contexts: Sequence[Context], limits: Limits) -> negotiation.Request:
    wanted = list(dict.fromkeys(contexts))
    if not 1 <= len(wanted) <= negotiation.MOST_CONTEXTS:
        raise ValueError(f"{len(wanted)} presentation contexts; 1 to {negotiation.MOST_CONTEXTS} are possible")
    for title in (calling, peer.ae_title):
        if not negotiation.is_title(title):
            raise ValueError(f"{title!r} is no AE title: 1 to 16 ASCII characters, no backslash")
    return negotiation.Request(
        called=peer.ae_title,
        calling=calling,
        contexts=[
            negotiation.ProposedContext(2 * index + 1, context.sop_class_uid, (context.transfer_syntax_uid,))
            for index, context in enumerate(wanted)
        ],
        max_pdu_length=pdu.receivable(limits.max_pdu_length),
    )


def _negotiate(connection: wire.Wire, request: negotiation.Request, limits: Limits) -> dict[Context, int | str]:
    """Ask for the association; return for each context its id, or why it is refused."""
    connection.send(handshake.encode_request(request))
    connection.expect("answer to A-ASSOCIATE-RQ", limits.accept_s)
    kind, body = connection.read_pdu()
    if kind == pdu.A_ASSOCIATE_RJ:
        rejection = handshake.decode_rejection(bytes(body), connection.peer)
        text = f"{connection.peer}: association rejected ({rejection.text})"
        raise errors.PeerRejected(text, is_transient=rejection.is_transient)
    if kind != pdu.A_ASSOCIATE_AC:
        raise connection.misbehaved(f"answered A-ASSOCIATE-RQ with a PDU of type {kind}")
    acceptance = handshake.decode_acceptance(bytes(body), connection.peer)
    connection.limit_fragments(acceptance.max_pdu_length, limits.send_pdu_length)
    answers = {answer.id: answer for answer in acceptance.contexts}
    return {
        Context(asked.abstract_syntax, asked.transfer_syntaxes[0]): _answer(asked, answers.get(asked.id))
        for asked in request.contexts
    }


def _answer(asked: negotiation.ProposedContext, answer: negotiation.AnsweredContext | None) -> int | str:
    if answer is None:
        return "not answered"
    if answer.result != negotiation.ACCEPTANCE:
        return negotiation.refusal_text(answer.result)
    if answer.transfer_syntax not in asked.transfer_syntaxes:
        return f"accepted with transfer syntax {answer.transfer_syntax!r}, which was not offered"
    return asked.id
