"""Nodes that refuse, abort, hang or lie: each run ends by itself and names them, and the next one sends the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from archive.dicom.peer import Peer
from tasks.errors import DestinationError, StoppedError
from tasks.outcome import Outcome
from tasks.registry import kind_of
from tasks.run import Stop
from tasks.state import Status
from tests import factories
from tests.integration.tasks.exporters.sending import Sending, next_attempt, results, said, start, uids
from tests.lab import acts
from tests.lab.acts import Abort, AbortDuring, Act, Answer, Close, Garbage, Hang, Reject, Release, Reset, StopReading
from tests.lab.misbehaving import Misbehaving
from tests.lab.nobody import Deaf, Nobody
from tests.lab.waiting import wait_until
from tests.stored_study import OBJECTS, STUDY

OK = Answer()


def only(number: int, act: Act) -> Callable[[int], Act]:
    """Return a script that does this with one object or association, counted over all, and answers the others."""
    return lambda n: act if n == number else OK


# --- no association


def test_node_where_nobody_listens_is_named_with_its_address(sending: Sending) -> None:
    run = start()
    with Nobody() as peer:
        sending.send_to(peer)

        ending = sending.attempt(run)

    assert isinstance(ending, DestinationError)
    assert str(ending) == (
        f"Export Study[uid={STUDY}] to dicom:PACS - completed:0, remaining:3: "
        f"PACS at 127.0.0.1:{peer.port}: Connection refused"
    )
    assert results(run) == dict.fromkeys(OBJECTS, "not reached")


def test_host_that_does_not_answer_is_given_up_after_the_time_to_connect(sending: Sending) -> None:
    run = start()
    with Deaf() as peer:
        sending.send_to(peer)

        ending = sending.attempt(run)

    assert str(ending).endswith(f"PACS at 127.0.0.1:{peer.port}: no connection within 1 s")
    assert results(run) == dict.fromkeys(OBJECTS, "not reached")


def test_host_without_an_address_is_named(sending: Sending) -> None:
    run = start()
    sending.send_to(Peer("PACS", "nowhere.invalid", 104))

    ending = sending.attempt(run)

    assert "PACS at nowhere.invalid:104: host name not resolved" in str(ending)


@pytest.mark.parametrize(
    ("act", "cause"),
    [
        (Reject(1, 1, 7), "association rejected (permanent, service user: called AE title not recognized)"),
        (Reject(2, 3, 2), "association rejected (transient, upper layer (presentation): local limit exceeded)"),
        (Abort(), "aborted the association"),
        (Close(), "connection closed by the peer"),
        (Reset(), "connection lost"),
        (Hang(), "no answer to A-ASSOCIATE-RQ within 1 s"),
        (Garbage(), "sent what is no PDU"),
        (Release(), "answered A-ASSOCIATE-RQ with a PDU of type 5"),
    ],
)
def test_association_that_does_not_come_to_be_ends_the_run(sending: Sending, act: Act, cause: str) -> None:
    run = start()
    with Misbehaving(associations=lambda _: act) as peer:
        sending.send_to(peer.peer)

        ending = sending.attempt(run)

        assert isinstance(ending, DestinationError)
        assert f"{peer.peer}: {cause}" in str(ending)
        assert peer.associations == 1
    assert results(run) == dict.fromkeys(OBJECTS, "not reached")


# --- an association that breaks

BREAKS = [
    (Abort(), "aborted the association"),
    (AbortDuring(), "aborted the association"),
    (Close(), "connection closed by the peer"),
    (Reset(), "connection"),
    (Release(), "asked for the release of the association before it answered"),
    (Hang(), "no response to request"),
    (Garbage(), "sent what is no PDU"),
    (Answer(id_offset=5), "answered request"),
]


@pytest.mark.parametrize(("act", "cause"), BREAKS)
def test_association_that_breaks_at_the_first_object_ends_the_run(sending: Sending, act: Act, cause: str) -> None:
    run = start()
    with Misbehaving(objects=only(1, act)) as peer:
        sending.send_to(peer.peer)

        ending = sending.attempt(run)

        assert isinstance(ending, DestinationError)
        assert f"{peer.peer}: {cause}" in str(ending)
        assert peer.associations == 1
    assert results(run) == {OBJECTS[0]: "refused", OBJECTS[1]: "not reached", OBJECTS[2]: "not reached"}
    assert f"{peer.peer}: {cause}" in str(said(run)[0][3])


@pytest.mark.parametrize(("act", "cause"), BREAKS)
def test_run_goes_on_where_an_association_broke(sending: Sending, act: Act, cause: str) -> None:
    run = start()
    with Misbehaving(objects=only(2, act)) as peer:
        sending.send_to(peer.peer)

        ending = sending.attempt(run)

    assert ending == Outcome(Status.COMPLETED, f"Export Study[uid={STUDY}] to dicom:PACS - completed:3")
    assert results(run) == dict.fromkeys(OBJECTS, "sent")
    assert peer.associations == 2
    # What was not confirmed comes last; nothing that was confirmed comes again.
    assert [uid for uid in uids(peer.received) if uid != OBJECTS[1]] == [OBJECTS[0], OBJECTS[2]]
    assert uids(peer.received)[-1] == OBJECTS[1]


def test_object_that_the_node_cannot_take_holds_up_no_other(sending: Sending) -> None:
    more = sending.add_many(3)
    run = start()
    bad = OBJECTS[0]
    with Misbehaving(by_uid={bad: Abort()}) as peer:
        sending.send_to(peer.peer)
        first = sending.attempt(run)

        again = next_attempt(run)
        second = sending.attempt(again)

    assert isinstance(first, DestinationError)
    assert isinstance(second, DestinationError)
    assert results(again) == {**dict.fromkeys([*OBJECTS[1:], *more], "sent"), bad: "refused"}


def test_run_ends_at_the_second_answer_that_does_not_come(sending: Sending) -> None:
    sending.add_many(4)
    run = start()
    with Misbehaving(objects=lambda n: OK if n % 2 else Hang()) as peer:
        sending.send_to(peer.peer)

        ending = sending.attempt(run)

        assert isinstance(ending, DestinationError)
        assert f"{peer.peer}: no response to request 2 within 1 s" in str(ending)
        assert peer.associations == 2
    assert sorted(results(run).values()).count("sent") == 2


def test_node_that_goes_down_in_the_middle_gets_the_rest_next_time(sending: Sending) -> None:
    run = start()
    with Misbehaving(objects=only(2, Close()), associations=lambda n: OK if n == 1 else Reject(2, 3, 1)) as peer:
        sending.send_to(peer.peer)
        ending = sending.attempt(run)
    again = next_attempt(run)
    with Misbehaving() as healthy:
        sending.send_to(healthy.peer)
        sending.attempt(again)

    assert "completed:1" in str(ending)
    assert f"{peer.peer}: association rejected (transient, upper layer (presentation): temporary congestion)" in str(
        ending
    )
    assert results(run)[OBJECTS[0]] == "sent"
    assert sorted(uids(healthy.received)) == OBJECTS[1:]


# --- no room


def test_full_node_ends_the_run_and_gets_only_the_rest_next_time(sending: Sending) -> None:
    sending.add_many(7)
    run = start()
    with Misbehaving(objects=lambda n: Answer(0xA700, "disk full") if n == 6 else OK) as peer:
        sending.send_to(peer.peer)

        ending = sending.attempt(run)
        again = next_attempt(run)
        second = sending.attempt(again)

    said_so = f"{peer.peer}: A700 Refused: Out of Resources (disk full)"
    assert isinstance(ending, DestinationError)
    assert str(ending) == f"Export Study[uid={STUDY}] to dicom:PACS - completed:5, failed:1, remaining:4: {said_so}"
    assert sorted(results(run).values()) == ["not reached"] * 4 + ["refused"] + ["sent"] * 5
    assert [row[2:] for row in said(run) if row[1] == "refused"] == [(0xA700, said_so)]
    assert isinstance(second, Outcome)
    assert second.status is Status.COMPLETED
    assert len(peer.received) == 11
    assert sorted(peer.confirmed()) == sorted(set(peer.confirmed()))
    assert peer.endings == ["released", "released"]


# --- stopping


def stopped(sending: Sending, peer: Misbehaving) -> tuple[str, dict[str, str]]:
    """Cancel the task while the peer does not go on; return why the run ended and what it wrote."""
    sending.send_to(peer.peer, silence=timedelta(minutes=1))
    claimed = start()
    ended: list[str] = []
    work = sending.archive.work(claimed)

    def attempt() -> None:
        try:
            kind_of("EXPORT").process(claimed.task, work)
        except StoppedError as error:
            ended.append(error.reason)
        finally:
            work.close()

    running = threading.Thread(target=attempt)
    running.start()
    wait_until(lambda: results(claimed).get(OBJECTS[0]) == "sent", "the first object is written as sent")
    factories.change(factories.Event.CANCEL, claimed.task.id)
    running.join()
    return ended[0], results(claimed)


@pytest.mark.parametrize("act", [Hang(), StopReading()])
def test_cancel_stops_a_run_that_waits_for_its_peer(sending: Sending, act: Act) -> None:
    with Misbehaving(objects=only(2, act)) as peer:
        reason, found = stopped(sending, peer)

    assert reason == Stop.CANCEL
    assert found == {OBJECTS[0]: "sent", OBJECTS[1]: "not reached", OBJECTS[2]: "not reached"}


def test_stop_between_objects_begins_no_other(sending: Sending) -> None:
    go_on = threading.Event()
    with Misbehaving(objects=only(2, acts.Slowly(go_on))) as peer:
        reason, found = stopped(sending, peer)
        go_on.set()

    assert reason == Stop.CANCEL
    assert found[OBJECTS[2]] == "not reached"
    assert OBJECTS[2] not in uids(peer.received)
