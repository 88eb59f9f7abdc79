"""The DICOM server of one process, with real sockets: who gets in, whom it outlasts, how it ends."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from archive import errors
from archive.dicom import requestor, server
from archive.dicom.acceptor import Proposal, StoreRequest
from archive.dicom.peer import VERIFICATION, Limits, Peer
from archive.dicom.places import MOST_SILENT, Places
from archive.dicom.server import Listener, Server
from archive.dicom.status import Status
from config.device import ApplicationEntity, Device, NetworkConnection
from tests.lab.waiting import wait_until

DEVICE = Device(
    "archive-a",
    connections={"dicom": NetworkConnection("dicom", "127.0.0.1", 11112)},
    aes={"ARCHIVE_A": ApplicationEntity("ARCHIVE_A", ("dicom",))},
)


class Echo:
    """Answers C-ECHO and counts ends."""

    def __init__(self, ended: list[str], calling: str) -> None:
        self._ended, self._calling = ended, calling

    def echo(self) -> Status:
        return Status(0)

    def store(self, request: StoreRequest) -> Status:
        return Status(0xA700, "this is a test")

    def answered(self) -> None:
        pass

    def close(self) -> None:
        self._ended.append(self._calling)


class Running:
    """A server in threads of this process."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.ended: list[str] = []
        self.places = Places.make(1)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.listener.setblocking(False)
        self.peer = Peer("ARCHIVE_A", *self.listener.getsockname())
        self.in_time: bool | None = None
        listeners = [Listener(self.listener, ("dicom",))]
        self.server = Server(listeners, self.places, lambda: self.device, self._services)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection((self.peer.host, self.peer.port), timeout=30, source_address=(source, 0))

    def echoes(self, calling: str = "MODALITY", called: str = "ARCHIVE_A") -> bool:
        peer = replace(self.peer, ae_title=called)
        with requestor.associate(peer, calling, [VERIFICATION], Limits()) as association:
            return association.echo().is_success

    def stop(self) -> None:
        self.server.stop()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def close(self) -> None:
        self.stop()
        os.close(self.places.descriptor)

    def _services(self, _device: Device, proposal: Proposal) -> Echo:
        return Echo(self.ended, proposal.calling)

    def _serve(self) -> None:
        self.in_time = self.server.serve()


@pytest.fixture
def running() -> Iterator[Running]:
    with capture_logs():  # they would stand between the results
        made = Running(DEVICE)
        yield made
        made.close()


@contextmanager
def associations(running: Running, count: int) -> Iterator[list[requestor.Requestor]]:
    with ExitStack() as stack:
        yield [stack.enter_context(requestor.associate(running.peer, "MODALITY", [VERIFICATION])) for _ in range(count)]


def test_echo_is_answered_and_the_end_of_each_association_told_once(running: Running) -> None:
    for number in range(3):
        assert running.echoes(f"CT{number}")

    wait_until(lambda: len(running.ended) == 3, "all have ended")
    assert running.ended == ["CT0", "CT1", "CT2"]


@pytest.mark.parametrize("count", [12, 100, 2 * MOST_SILENT])
def test_silent_connections_keep_nobody_out(running: Running, count: int) -> None:
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(running.connect())

        assert running.echoes()


def test_oldest_silent_connection_makes_room_for_a_new_one(running: Running) -> None:
    with ExitStack() as stack:
        first, *_ = [stack.enter_context(running.connect()) for _ in range(MOST_SILENT + 1)]

        assert was_ended(first)


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\nHost: archive\r\n\r\n", os.urandom(5000), b"\x04\0\0\0\0\0", b"\x01\0\xff\xff\xff\xff"],
    ids=["http", "noise", "data before a request", "endless request"],
)
def test_garbage_is_cut_off_and_told_in_one_line(running: Running, said: bytes) -> None:
    with capture_logs([merge_contextvars]) as logs, running.connect() as connection:
        connection.sendall(said)
        assert was_ended(connection)
        wait_until(lambda: logs, "a line is logged")
    assert [(line["event"], line["address"]) for line in logs] == [
        ("connection without an association ended", "127.0.0.1")
    ]
    assert running.echoes()


def test_half_a_request_keeps_nobody_out(running: Running) -> None:
    with running.connect() as connection:
        connection.sendall(b"\x01\0\0\0\0\xcd" + b"\0\1\0\0ARCHIVE_A")

        assert running.echoes()


def test_silent_connection_is_closed_after_its_time(running: Running) -> None:
    running.device = with_connection(aarq_timeout=0.05)

    with running.connect() as connection:
        assert was_ended(connection)


def test_idle_association_is_ended_after_its_time_and_gives_its_place_back(running: Running) -> None:
    running.device = replace(with_connection(idle_timeout=0.05), max_open_associations=1)

    with associations(running, 1) as [idle]:
        wait_until(lambda: running.ended, "the association has ended")
        with pytest.raises(errors.PeerError):
            idle.echo()

    wait_until(lambda: is_taken(running), "there is a place again")


def test_unknown_called_ae_is_rejected_and_told_in_one_line(running: Running) -> None:
    with capture_logs() as logs, pytest.raises(errors.PeerRejected, match=r"(?i)called") as rejected:
        running.echoes(called="ARCHIVE_X")

    assert not rejected.value.is_transient
    assert "called AE 'ARCHIVE_X', expected one of ARCHIVE_A" in [line.get("reason") for line in logs]
    assert running.ended == []


def test_change_of_the_configuration_counts_for_the_next_association(running: Running) -> None:
    ae = replace(DEVICE.aes["ARCHIVE_A"], other_titles=("NEW",), accepted_calling_titles=("CT1",))
    running.device = replace(DEVICE, aes={"ARCHIVE_A": ae})

    assert running.echoes("CT1", "NEW")
    with pytest.raises(errors.PeerRejected, match=r"(?i)calling"):
        running.echoes("CT2", "NEW")


def test_limit_of_open_associations_holds_until_one_ends(running: Running) -> None:
    running.device = replace(DEVICE, max_open_associations=2)

    with associations(running, 2), pytest.raises(errors.PeerRejected, match=r"(?i)limit") as rejected:
        running.echoes()

    assert rejected.value.is_transient
    wait_until(lambda: is_taken(running), "there is a place again")


def test_who_stores_nothing_leaves_when_another_needs_the_place(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_PRODUCTIVE_S", 0.0)
    running.device = replace(DEVICE, max_open_associations=2)

    with associations(running, 2) as [oldest, younger]:
        assert oldest.echo().is_success
        assert running.echoes()
        with pytest.raises(errors.PeerError):
            oldest.echo()
        assert younger.echo().is_success


def test_limit_of_zero_is_none(running: Running) -> None:
    running.device = replace(DEVICE, max_open_associations=0)

    assert running.echoes()


def test_silent_connections_of_one_address_keep_those_of_another(running: Running) -> None:
    with ExitStack() as stack:
        other = stack.enter_context(running.connect("127.0.0.2"))
        first, *_ = [stack.enter_context(running.connect()) for _ in range(MOST_SILENT)]

        assert was_ended(first)
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(1)


def test_one_address_does_not_get_all_places(running: Running) -> None:
    running.device = replace(DEVICE, max_open_associations=4)

    with associations(running, 3), pytest.raises(errors.PeerRejected, match=r"(?i)limit"):
        running.echoes()


def test_rejected_callers_hold_no_place(running: Running) -> None:
    running.device = replace(DEVICE, max_open_associations=1)

    for _ in range(5):
        with pytest.raises(errors.PeerRejected):
            running.echoes(called="OTHER")

    assert running.echoes()


def test_stop_ends_idle_associations_and_silent_connections_in_time(running: Running) -> None:
    with running.connect(), associations(running, 2) as [first, _]:
        running.stop()
        with pytest.raises(errors.PeerError):
            first.echo()

    assert running.in_time
    assert running.ended == ["MODALITY", "MODALITY"]
    with pytest.raises(ConnectionRefusedError):
        running.connect()


def was_ended(connection: socket.socket) -> bool:
    """Wait for what the server says; tell whether it is A-ABORT, or nothing but the end."""
    try:
        return connection.recv(1000)[:1] in (b"", b"\x07")
    except ConnectionResetError:
        return True


def is_taken(running: Running) -> bool:
    try:
        return running.echoes()
    except errors.PeerRejected:
        return False


def with_connection(**seconds: float) -> Device:
    changed = {name: timedelta(seconds=value) for name, value in seconds.items()}
    return replace(DEVICE, connections={"dicom": replace(DEVICE.connections["dicom"], **changed)})
