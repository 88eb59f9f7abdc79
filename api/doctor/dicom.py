"""DICOM: whether the AEs of our devices answer C-ECHO, and those that they send to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from api.doctor.case import Case
from api.doctor.finding import Finding, Subject
from api.doctor.limits import NoAnswer, each
from archive.dicom import echo, listening, negotiation
from archive.dicom.peer import Limits, Peer
from archive.errors import PeerError
from config.device import ApplicationEntity, Device
from tasks.errors import InvalidError
from tasks.exporters import dicom_node

SAY = Subject("DICOM")

#: Seconds for each step with one AE, and for all AEs together.
_LIMITS = Limits(connect_s=2, accept_s=3, response_s=3, send_s=2, release_s=1)
_ALL_S = 12.0


@dataclass(frozen=True, slots=True)
class _Call:
    """One C-ECHO."""

    peer: Peer
    calling: str
    #: Our device that is called, or that calls.
    device: str
    #: What it is for.
    purpose: str


def own(case: Case) -> Iterator[Finding]:
    """Send C-ECHO to each AE of our devices, at each connection on which it takes associations."""
    for device in case.devices():
        for connection in listening.for_tls(device):
            found = "for TLS, which is not spoken yet: nobody listens there"
            yield SAY.note(f"connection {connection.name} of {device.name}", found, device=device.name)
        if not listening.of(device, offset=0):
            found = "no DICOM connection on which an AE takes associations"
            yield SAY.note(f"connections of {device.name}", found, device=device.name)
    do = "arcfleet dicom --device {}"
    yield from _asked([call for device in case.devices() for call in _to(device, case)], do, is_ours=True)


def others(case: Case) -> Iterator[Finding]:
    """Send C-ECHO to the AEs that exporters send to; with one device only, to all AEs of the directory."""
    if not case.wishes.remote:
        yield SAY.note("remote AEs", "not asked")
        return
    calls: dict[Peer, _Call] = {}
    for device in case.devices():
        for exporter in device.exporters.values():
            if exporter.scheme == "dicom":
                try:
                    peer = dicom_node.peer_of(exporter)
                    calling = dicom_node.calling_of(exporter, device, None)
                except InvalidError as error:
                    do = "mend the exporter or the AE that it names"
                    expected = "an AE that can be called"
                    yield SAY.error(f"exporter {exporter.id}", str(error), expected, do, device=device.name)
                    continue
                calls.setdefault(peer, _Call(peer, calling, device.name, f"exporter {exporter.id} of {device.name}"))
        if case.wishes.device is not None:
            for call in _from(device, case):
                calls.setdefault(call.peer, call)
    do = "see whether it runs and knows the calling AE; its tasks wait and are tried again"
    yield from _asked(list(calls.values()), do, is_ours=False)


def _asked(calls: list[_Call], do: str, *, is_ours: bool) -> Iterator[Finding]:
    say = SAY.error if is_ours else SAY.warning
    for call, problem in each(_ALL_S, calls, _problem_of):
        what = f"C-ECHO {call.peer.ae_title}"
        if problem is None:
            yield SAY.ok(what, f"{call.peer} answers {call.calling}", device=call.device)
        else:
            found = f"{call.peer}: {problem}" if isinstance(problem, NoAnswer) else problem
            yield say(
                what, f"{found} (called by {call.calling}; {call.purpose})", "an answer", do.format(call.device),
                device=call.device,
            )  # fmt: skip


def _problem_of(call: _Call) -> str | NoAnswer | None:
    try:
        status = echo.ask(call.peer, call.calling, _LIMITS)
    except PeerError as error:
        return str(error)
    return None if status.is_success else f"{call.peer}: {status.text}"


def _to(device: Device, case: Case) -> Iterator[_Call]:
    """Yield calls to the AEs of a device, by host names as others use them, as one that may call."""
    for place in listening.of(device, offset=case.offset):
        host = listening.connection_of(device, place.connections).hostname
        for ae in listening.acceptors(device, place.connections):
            calling = next(iter(ae.accepted_calling_titles), ae.title)
            if negotiation.is_title(ae.title) and negotiation.is_title(calling):
                yield _Call(
                    Peer(ae.title, host, place.port), calling, device.name, f"connection {place.connections[0]}"
                )


def _from(device: Device, case: Case) -> Iterator[_Call]:
    """Yield calls from a device to all AEs of the directory that can be called without TLS."""
    calling = next((ae.title for ae in device.aes.values() if ae.installed is not False), None)
    if calling is None or not negotiation.is_title(calling):
        return
    for other in case.known.devices.values():
        if other.is_ours or not other.installed:
            continue
        for ae in other.aes.values():
            if ae.acceptor and ae.installed is not False and negotiation.is_title(ae.title):
                yield from map(partial(_call, ae, calling, device), _plain(other, ae))


def _plain(device: Device, ae: ApplicationEntity) -> list[tuple[str, int]]:
    found = device.installed_connections(ae.connections, "DICOM")
    return [(one.hostname, one.port) for one in found if one.port is not None and not one.tls_cipher_suites]


def _call(ae: ApplicationEntity, calling: str, device: Device, at: tuple[str, int]) -> _Call:
    return _Call(Peer(ae.title, *at), calling, device.name, "AE of the directory")
