"""Export to other people's Store SCPs, each a process of its own."""

from __future__ import annotations

from tasks.outcome import Outcome
from tasks.state import Status
from tests.integration.tasks.exporters.sending import Sending, next_attempt, results, start
from tests.lab import peers
from tests.lab.cluster import free_port
from tests.stored_study import OBJECTS, STUDY

DONE = Outcome(Status.COMPLETED, f"Export Study[uid={STUDY}] to dicom:PACS - completed:3")


def test_objects_arrive_at_pynetdicom(sending: Sending) -> None:
    with peers.pynetdicom_storescp(port=free_port()) as sink:
        sending.send_to(sink.peer)

        assert sending.attempt(start()) == DONE

        assert sink.data_sets() == {uid: sending.data_set(uid) for uid in OBJECTS}


def test_objects_arrive_at_dcmtk_with_their_bytes(sending: Sending) -> None:
    with peers.storescp(port=free_port()) as sink:
        sending.send_to(sink.peer)

        assert sending.attempt(start()) == DONE

        assert sink.data_sets() == {uid: sending.data_set(uid) for uid in OBJECTS}
        assert sink.associations() == 1


def test_dcmtk_that_takes_only_implicit_little_endian_is_said_to_refuse(sending: Sending) -> None:
    run = start()
    with peers.storescp("+xi", port=free_port()) as sink:
        sending.send_to(sink.peer)

        ending = sending.attempt(run)

    assert isinstance(ending, Outcome)
    assert ending.status is Status.FAILED
    assert f"{sink.peer}: SOP class 1.2.840.10008.5.1.4.1.1.7 in transfer syntax 1.2.840.10008.1.2.1 not accepted" in (
        ending.message
    )
    assert results(run) == dict.fromkeys(OBJECTS, "refused")


def test_dcmtk_that_comes_back_gets_what_it_has_not_confirmed(sending: Sending) -> None:
    run, port = start(), free_port()
    with peers.storescp("--abort-after", port=port) as sink:
        sending.send_to(sink.peer)
        ending = sending.attempt(run)
    again = next_attempt(run)
    with peers.storescp(port=port) as sink:
        assert sending.attempt(again) == DONE

        assert sorted(sink.data_sets()) == OBJECTS
    assert f"{sink.peer}: aborted the association" in str(ending)
