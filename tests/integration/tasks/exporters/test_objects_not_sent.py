"""Objects that a node refuses or that we cannot read: each is named, none hides another."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import PermanentError
from tasks.outcome import Outcome
from tasks.state import Status
from tests import factories
from tests.integration.archive.archive_agreement import write_object
from tests.integration.tasks.exporters.sending import Sending, results, said, start, uids
from tests.lab.acts import Answer
from tests.lab.misbehaving import NO_SYNTAX, Misbehaving
from tests.stored_study import OBJECTS, SERIES, STUDY

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0xA900, "A900 Error: Data Set Does Not Match SOP Class"),
        (0xC000, "C000 Error: Cannot Understand"),
        (0x0122, "0122 Refused: SOP Class Not Supported"),
        (0x0110, "0110 Processing Failure"),
    ],
)
def test_refused_object_hides_no_other_and_is_named_with_peer_and_status(
    sending: Sending, status: int, text: str
) -> None:
    run = start()
    with Misbehaving(objects=lambda n: Answer(status, "so") if n == 2 else Answer()) as peer:
        sending.send_to(peer.peer)

        ending = sending.attempt(run)

    expected = f"{peer.peer}: {text} (so)"
    assert said(run) == [
        (OBJECTS[0], "sent", 0, None), (OBJECTS[1], "refused", status, expected), (OBJECTS[2], "sent", 0, None),
    ]  # fmt: skip
    assert ending == Outcome(
        Status.FAILED, f"Export Study[uid={STUDY}] to dicom:PACS - completed:2, failed:1: {expected}"
    )


def test_warning_of_the_node_confirms_the_object(sending: Sending) -> None:
    run = start()
    with Misbehaving(objects=lambda n: Answer(0xB000 if n == 1 else 0)) as peer:
        sending.send_to(peer.peer)

        ending = sending.attempt(run)

    assert ending == Outcome(Status.COMPLETED, f"Export Study[uid={STUDY}] to dicom:PACS - completed:2, warning:1")
    assert said(run)[0] == (
        OBJECTS[0], "warning", 0xB000, f"{peer.peer}: B000 Warning: Coercion of Data Elements",
    )  # fmt: skip


def test_context_that_is_not_accepted_refuses_its_objects_by_name(sending: Sending, tmp_path: Path) -> None:
    uid = sending.add(write_object(tmp_path / "ct", STUDY, SERIES[0], "1.2.9.4", SOPClassUID=CT))
    run = start()
    with Misbehaving(contexts=lambda sop_class, _: NO_SYNTAX if sop_class == CT else 0) as peer:
        sending.send_to(peer.peer)

        ending = sending.attempt(run)

    [refused] = [row for row in said(run) if row[1] == "refused"]
    assert refused[0] == uid
    assert refused[3] is not None
    assert refused[3].startswith(f"{peer.peer}: SOP class {CT} in transfer syntax {EXPLICIT} not accepted: ")
    assert isinstance(ending, Outcome)
    assert (ending.status, uids(peer.received)) == (Status.FAILED, OBJECTS)


@pytest.mark.parametrize(
    ("rule", "status"), [("FAILED", Status.FAILED), ("WARNING", Status.WARNING), ("COMPLETED", Status.COMPLETED)]
)
def test_exporter_says_how_partial_success_ends(sending: Sending, rule: str, status: Status) -> None:
    run = start()
    with Misbehaving(objects=lambda n: Answer(0xC000 if n == 2 else 0)) as peer:
        sending.send_to(peer.peer, partial_success=rule)

        ending = sending.attempt(run)

    assert isinstance(ending, Outcome)
    assert ending.status is status
    assert "completed:2, failed:1" in ending.message


@pytest.mark.parametrize("rule", ["WARNING", "COMPLETED"])
def test_no_success_at_all_is_no_partial_success(sending: Sending, rule: str) -> None:
    run = start()
    with Misbehaving(objects=lambda _: Answer(0xC000)) as peer:
        sending.send_to(peer.peer, partial_success=rule)

        ending = sending.attempt(run)

    assert isinstance(ending, Outcome)
    assert ending.status is Status.FAILED
    assert f"{peer.peer}: C000 Error: Cannot Understand (3 objects)" in ending.message


# --- sources that cannot be read


def test_source_that_is_gone_fails_for_good_and_hides_no_other_object(sending: Sending) -> None:
    sending.archive.source(OBJECTS[1]).unlink()
    run = start()
    with Misbehaving() as peer:
        sending.send_to(peer.peer)

        ending = sending.attempt(run)

    assert isinstance(ending, PermanentError)
    assert results(run) == {OBJECTS[0]: "sent", OBJECTS[1]: "unreadable", OBJECTS[2]: "sent"}
    assert (uids(peer.received), peer.associations) == ([OBJECTS[0], OBJECTS[2]], 1)


def test_damaged_file_is_not_sent(sending: Sending) -> None:
    source = sending.archive.source(OBJECTS[1])
    content = source.read_bytes()
    source.chmod(0o600)
    source.write_bytes(content[:-1] + b"\xff")
    run = start()
    with Misbehaving() as peer:
        sending.send_to(peer.peer)

        ending = sending.attempt(run)

    assert isinstance(ending, Outcome)
    assert (ending.status, results(run)[OBJECTS[1]]) == (Status.FAILED, "unreadable")
    assert uids(peer.received) == [OBJECTS[0], OBJECTS[2]]
    assert str(source) in ending.message


def test_objects_out_of_reach_ask_for_no_association(sending: Sending) -> None:
    run = start()
    factories.sql("UPDATE file_system SET owner_device = 'archive-b'")
    with Misbehaving() as peer:
        sending.send_to(peer.peer)

        ending = sending.attempt(run)

    assert isinstance(ending, Outcome)
    assert ending.status is Status.FAILED
    assert (results(run), peer.associations) == (dict.fromkeys(OBJECTS, "unreadable"), 0)
