"""Peers that send or take a little now and then: they are given up, and whoever waits for them is asked."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from archive import errors
from archive.dicom import commands, messages, pdu, wire
from tests.lab.scripted import command_pdu, data_pdu, pdv

PEER = "PACS at 127.0.0.1:11112"
COMMAND = commands.store_request(1, "1.2.840.10008.5.1.4.1.1.2", "1.2.3")
EMPTY = data_pdu(pdv(b"", is_command=True, is_last=False))
#: Pause of the peers here; a reader must not see it as silence.
PAUSE_S = 0.01


class Asked(Exception):
    """Whoever waits was asked whether to go on."""


def stop() -> None:
    raise Asked


@contextmanager
def against(act: Callable[[socket.socket], object]) -> Iterator[wire.Wire]:
    """Yield our end of a connection whose other end does something again and again."""
    theirs, ours = socket.socketpair()
    over = threading.Event()

    def play() -> None:
        with suppress(OSError):
            while not over.wait(PAUSE_S):
                act(theirs)

    thread = threading.Thread(target=play)
    with closing(theirs), closing(ours):
        thread.start()
        try:
            yield wire.Wire(ours, PEER, send_s=60, max_pdu_length=131072)
        finally:
            over.set()
            with suppress(OSError):  # closed by the test
                ours.shutdown(socket.SHUT_RDWR)
            thread.join(60)


@pytest.mark.parametrize("said", [EMPTY, command_pdu(COMMAND)[:1]], ids=["empty parts", "garbage"])
def test_command_that_trickles_is_given_up(said: bytes) -> None:
    with against(lambda theirs: theirs.sendall(said)) as reader:
        reader.expect("request", 0.2)

        with pytest.raises((errors.PeerTimedOut, errors.PeerMisbehaved)):
            messages.read_command(reader)


def test_end_of_the_time_is_seen_although_bytes_come() -> None:
    half = struct.pack(">BxI", pdu.P_DATA_TF, 100_000)
    sent = iter([half])
    with against(lambda theirs: theirs.sendall(next(sent, b"x"))) as reader:
        reader.expect("request", 0.2)

        with pytest.raises(errors.PeerTimedOut, match=f"^{PEER}: no request within 0.2 s, only "):
            messages.read_command(reader)


def test_who_waits_is_asked_although_bytes_come() -> None:
    with against(lambda theirs: theirs.sendall(EMPTY)) as reader:
        reader.waiting = stop
        reader.expect("response", 60)

        with pytest.raises(Asked):
            messages.read_command(reader)


def test_empty_parts_of_a_command_count() -> None:
    with against(lambda theirs: theirs.sendall(EMPTY * 1000)) as reader:
        reader.expect("request", 60)

        with pytest.raises(errors.PeerMisbehaved, match="sent a command of more than 65536 bytes"):
            messages.read_command(reader)


def test_empty_parts_of_a_data_set_come_to_an_end() -> None:
    part = data_pdu(pdv(b"", is_command=False, is_last=False))
    with (
        against(lambda theirs: theirs.sendall(part * 100)) as reader,
        pytest.raises(errors.PeerMisbehaved, match="sent a data set with more than 1000 empty parts"),
    ):
        list(messages.read_data_set(reader, 1, 60))


def test_data_set_that_trickles_is_given_up() -> None:
    # A byte each 10 ms is less than the 1024 a second that are worth waiting for.
    sent = iter([struct.pack(">BxI", pdu.P_DATA_TF, 100_000)])
    with (
        against(lambda theirs: theirs.sendall(next(sent, b"x"))) as reader,
        pytest.raises(errors.PeerTimedOut, match=f"^{PEER}: no next part of a data set within 0.5 s, only "),
    ):
        list(messages.read_data_set(reader, 1, 0.5))


def test_data_set_that_comes_steadily_takes_longer_than_the_time_of_a_silent_one() -> None:
    parts = iter([data_pdu(pdv(b"x" * 1000, is_command=False, is_last=n == 100)) for n in range(1, 101)])
    with against(lambda theirs: theirs.sendall(next(parts, b""))) as reader:
        found = b"".join(messages.read_data_set(reader, 1, 0.5))

    assert len(found) == 100_000


def test_who_sends_is_asked_although_the_peer_takes_bytes() -> None:
    with against(lambda theirs: theirs.recv(4096)) as writer:
        writer.waiting = stop

        with pytest.raises(Asked):
            writer.send_message(1, COMMAND, [b"x" * 100_000_000])
        writer.abort()


def test_who_sends_to_a_fast_peer_is_asked_between_two_pdus() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 100_000

    with against(lambda theirs: theirs.recv(1 << 22)) as writer:
        writer.waiting = stop

        with pytest.raises(Asked):
            writer.send_message(1, COMMAND, endless())
        writer.abort()
