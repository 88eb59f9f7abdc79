"""`dicom:AET` stores objects at a DICOM node of the directory (C-STORE), unchanged.

What is known to be confirmed is not sent again, unless it was replaced since. An object is sent again whose answer
was lost, or not yet written when the run was lost: nobody knows whether it arrived.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from itertools import islice

from archive.dicom import negotiation, nodes, requestor
from archive.dicom.peer import Context, Peer
from archive.dicom.requestor import Requestor
from archive.dicom.status import Status as DimseStatus
from archive.errors import NotConfigured, PeerError, PeerTimedOut, SourceError
from archive.query import StoredObject
from archive.storage import copying, reading
from config.device import Device, Exporter
from tasks import destinations
from tasks.errors import DestinationError, InvalidError
from tasks.exporters import counting
from tasks.exporters.counting import Tally
from tasks.outcome import Outcome
from tasks.work import Work

#: Answers that a run waits for in vain before it ends: one may be lost, the second is a peer that hangs.
_MOST_SILENCES = 2


class DicomNode:
    """Sends objects with C-STORE. Source: exporter `dicom:` of dcm4chee-arc-light, PS3.4 annex B."""

    reads_files = True

    def check(self, exporter: Exporter, device: Device) -> None:
        """Refuse an AE that the directory does not know or that cannot be connected to, and a device without one."""
        peer_of(exporter)
        calling_of(exporter, device, None)

    def destination(self, exporter: Exporter) -> str | None:
        """Return `dicom:AET`."""
        return f"dicom:{exporter.target}"

    def send(self, exporter: Exporter, objects: list[StoredObject], work: Work) -> Outcome:
        """Send what is not confirmed yet, on as many associations as it takes.

        Raises:
            DestinationError: the node cannot be reached, does not answer, or has no room; the text names its AE,
                address and cause. What it had confirmed before stays confirmed.
            PermanentError: files of the study are gone; all that is left was sent.
        """
        tally = Tally(exporter, objects, work, done=counting.confirmed(objects, work))
        name = f"dicom:{exporter.target}"
        try:
            transfer = _Transfer(exporter, work, tally)
            transfer.send()
        except (PeerError, _NoRoom) as error:
            if isinstance(error, _NoRoom) or transfer.blames_the_node:
                destinations.failed(name, work.run_id, str(error))
            raise DestinationError(f"{tally.text()}: {error}") from error
        finally:
            tally.close()
        if transfer.was_answered:
            destinations.answered(name)
        return tally.outcome()


class _NoRoom(Exception):
    """The node is out of resources: it would say the same of the next object."""


class _Transfer:
    """One run: associations, one after the other, until all is sent or nothing can be done."""

    def __init__(self, exporter: Exporter, work: Work, tally: Tally) -> None:
        self._calling = calling_of(exporter, work.device, work.task.local_aet)
        self._peer = peer_of(exporter)
        self._limits = nodes.limits_of(work.device, self._calling)
        self._work = work
        self._tally = tally
        #: The object that was sent last, until its answer is there.
        self._in_flight: StoredObject | None = None
        #: The node has said something about an object.
        self.was_answered = False
        #: The last association that was asked for came to be.
        self._is_accepted = False
        self._has_confirmed = False
        self._failed_before: Collection[str] = ()
        self._tried: set[str] = set()

    @property
    def blames_the_node(self) -> bool:
        """Tell whether an association that broke says something about the node, and not about an object.

        Who accepts associations and has confirmed something in this run, or was only asked for what failed before,
        is there: an object at which it aborts each time shall not keep all others from it.
        """
        return not self._is_accepted or not (self._has_confirmed or self._tried <= set(self._failed_before))

    def send(self) -> None:
        """Send what can be read; what could not be sent before goes last, so that it holds up no other object.

        Raises:
            PeerError: an association could not be made, settled nothing, or hangs again.
            _NoRoom: the node is full.
        """
        found = _readable(self._tally)
        self._failed_before = self._work.refused() if found else ()
        waiting, silences = sorted(found, key=lambda item: item.sop_uid in self._failed_before), 0
        while waiting:
            before = self._tally.settled
            try:
                self._associate(waiting)
            except PeerError as error:
                silences += isinstance(error, PeerTimedOut)
                if self._tally.settled == before or silences == _MOST_SILENCES:
                    self._lose(error)
                    raise
            except SourceError as error:
                self._break_off(error)
            waiting = self._left(waiting)

    def _associate(self, waiting: Sequence[StoredObject]) -> None:
        """Send on one association what its contexts suffice for."""
        contexts = list(islice(dict.fromkeys(map(_context_of, waiting)), negotiation.MOST_CONTEXTS))
        # What was confirmed is written before anything may take long.
        self._work.flush()
        self._work.check_stop()
        self._is_accepted = False
        with requestor.associate(
            self._peer, self._calling, contexts, self._limits, waiting=self._work.check_stop
        ) as association:
            self._is_accepted = True
            asked = frozenset(contexts)
            full = self._send_each(association, [item for item in waiting if _context_of(item) in asked])
        if full is not None:
            raise _NoRoom(full)

    def _send_each(self, association: Requestor, objects: Iterable[StoredObject]) -> str | None:
        """Send until all are sent, or the node is full: then return what it said."""
        for item in objects:
            self._work.begin(item.sop_uid)
            context = _context_of(item)
            refusal = association.refusal(context)
            if refusal is not None:
                self._tally.refused(item, f"{self._peer}: {context} not accepted: {refusal}")
                continue
            status = self._send_one(association, item)
            if status is not None and status.is_out_of_resources:
                return self._said(status)
        return None

    def _send_one(self, association: Requestor, item: StoredObject) -> DimseStatus | None:
        with ExitStack() as opened:
            try:
                chunks = opened.enter_context(reading.data_set(item))
            except SourceError as error:
                self._tally.unreadable(item, error)
                return None
            self._in_flight = item
            self._tried.add(item.sop_uid)
            status = association.store(item.sop_uid, _context_of(item), chunks)
        self._in_flight, self.was_answered = None, True
        self._has_confirmed |= status.is_success or status.is_warning
        if status.is_success:
            self._tally.sent(item, status.code)
        elif status.is_warning:
            self._tally.warned(item, self._said(status), status.code)
        else:
            self._tally.refused(item, self._said(status), status.code)
        return status

    def _said(self, status: DimseStatus) -> str:
        return f"{self._peer}: {status.text}"

    def _left(self, waiting: Sequence[StoredObject]) -> list[StoredObject]:
        """Return what is not settled; last what was on its way: perhaps it is this that the node cannot take."""
        lost, self._in_flight = self._in_flight, None
        left = [item for item in waiting if self._tally.is_open(item)]
        return sorted(left, key=lambda item: item is lost)

    def _lose(self, error: PeerError) -> None:
        if self._in_flight is not None:
            self._tally.refused(self._in_flight, str(error))

    def _break_off(self, error: SourceError) -> None:
        """Give up an object whose file could not be read to its end: half of it was sent."""
        if self._in_flight is None:
            raise error
        self._tally.unreadable(self._in_flight, error)


def _readable(tally: Tally) -> list[StoredObject]:
    """Return the objects that have a file; the others are settled by that."""
    found = []
    for item in tally.missing:
        try:
            copying.place_of(item)
            found.append(item)
        except SourceError as error:
            tally.unreadable(item, error)
    return found


def _context_of(item: StoredObject) -> Context:
    assert item.transfer_syntax_uid is not None  # noqa: S101 - it has a file, see _readable
    return Context(item.sop_class_uid, item.transfer_syntax_uid)


def peer_of(exporter: Exporter) -> Peer:
    """Return the node: its AE at any device of the directory, at its first installed connection without TLS.

    Raises:
        InvalidError: there is none.
    """
    try:
        peer = nodes.find(exporter.target)
    except NotConfigured as error:
        raise InvalidError(str(error)) from error
    if peer is not None:
        return peer
    raise InvalidError(
        f"Exporter {exporter.id} has dcmURI {exporter.uri}, expected the AE title of an installed device "
        f"with an installed DICOM connection without TLS"
    )


def calling_of(exporter: Exporter, device: Device, local_aet: str | None) -> str:
    """Return the AE title that calls: the task's, else the exporter's, else the first one of the device.

    Raises:
        InvalidError: the device has none, or it is no AE title.
    """
    titles = (ae.title for ae in device.aes.values() if ae.installed is not False)
    title = local_aet or exporter.ae_title or next(titles, None)
    if title is None:
        raise InvalidError(f"Exporter {exporter.id}: device {device.name} has no installed AE to call from")
    if not negotiation.is_title(title):
        raise InvalidError(f"Exporter {exporter.id}: calls from {title!r}, expected 1 to 16 ASCII characters")
    return title
