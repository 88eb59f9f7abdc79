"""Remote AEs that tasks ask: where they are, and what the whole cluster is told of whether they answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from archive.dicom import nodes, requestor
from archive.dicom.peer import Context, Peer
from archive.dicom.requestor import Requestor
from archive.errors import NotConfigured, PeerError, PeerRefused, PeerRejected
from tasks import destinations
from tasks.errors import DestinationError, InvalidError, PermanentError
from tasks.record import TaskView
from tasks.work import Work


def destination_of(title: str | None) -> str | None:
    """Return what caps, holds and breakers of an AE go by."""
    return None if title is None else f"dicom:{title}"


def check(title: str | None, role: str) -> None:
    """See that an AE can be connected to.

    Args:
        title: of the AE.
        role: what it is called in the request, such as `RemoteAET`.

    Raises:
        InvalidError: the directory does not know it.
    """
    if title is None or _find(title) is None:
        raise InvalidError(
            f"No such Application Entity: {role} {title}, expected the AE title of an installed device "
            "with an installed DICOM connection without TLS"
        )


def priority_of(task: TaskView) -> int:
    """Return the priority of the requests of a task: 0 medium, 1 high, 2 low."""
    return int(task.params.get("priority") or 0)


@contextmanager
def association(work: Work, title: str, contexts: Sequence[Context]) -> Iterator[Requestor]:
    """Open an association with a remote AE for the block, from the task's local AE; a stop of the run ends it.

    Raises:
        PermanentError: the directory does not know the AE any more.
        DestinationError: it cannot be reached, does not answer, or refuses; the text names AE, address and cause.
    """
    peer, calling = _known(title), work.task.local_aet or ""
    name = destination_of(title) or ""
    is_open = False
    try:
        work.check_stop()
        limits = nodes.limits_of(work.device, calling)
        with requestor.associate(peer, calling, contexts, limits, waiting=work.check_stop) as opened:
            is_open = True
            yield opened
    except PeerError as error:
        if is_open and isinstance(error, (PeerRefused, PeerRejected)):
            # It is there, it only does not do this: what is sent there need not wait.
            destinations.answered(name)
        else:
            destinations.failed(name, work.run_id, str(error))
        raise DestinationError(str(error)) from error
    destinations.answered(name)


def _known(title: str) -> Peer:
    peer = _find(title)
    if peer is None:
        raise PermanentError(f"No such Application Entity: {title}")
    return peer


def _find(title: str) -> Peer | None:
    try:
        return nodes.find(title)
    except NotConfigured as error:
        raise InvalidError(str(error)) from error
