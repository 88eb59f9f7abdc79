"""Export to a DICOM node over real sockets: bytes unchanged, an outcome for each object, nothing sent twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from archive.dicom.peer import Peer
from config import settings
from config.device import ApplicationEntity
from tasks.errors import InvalidError
from tasks.outcome import Outcome
from tasks.registry import kind_of
from tasks.state import Event, Status
from tests import factories
from tests.integration.archive.archive_agreement import write_object
from tests.integration.tasks.exporters.sending import Sending, next_attempt, results, said, start, uids
from tests.lab.acts import Answer
from tests.lab.misbehaving import Misbehaving
from tests.stored_study import OBJECTS, SERIES, STUDY

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
SC = "1.2.840.10008.5.1.4.1.1.7"
EXPLICIT = "1.2.840.10008.1.2.1"


def test_objects_arrive_with_the_bytes_that_we_have(sending: Sending) -> None:
    run = start()
    with Misbehaving() as peer:
        sending.send_to(peer.peer)

        ending = sending.attempt(run)

    assert ending == Outcome(Status.COMPLETED, f"Export Study[uid={STUDY}] to dicom:PACS - completed:3")
    assert uids(peer.received) == OBJECTS
    assert [one.data_set for one in peer.received] == [sending.data_set(uid) for uid in OBJECTS]
    assert {(one.sop_class_uid, one.transfer_syntax_uid) for one in peer.received} == {(SC, EXPLICIT)}
    assert said(run) == [(uid, "sent", 0, None) for uid in OBJECTS]
    assert (peer.titles, peer.endings) == ([("ARCHIVE_A", "PACS")], ["released"])


@pytest.mark.parametrize(("local_aet", "ae_title", "calls"), [("ARCFLEET", "X", "ARCFLEET"), (None, "X", "X")])
def test_task_or_exporter_says_who_calls(
    sending: Sending, local_aet: str | None, ae_title: str, calls: str
) -> None:  # fmt: skip
    run = start(local_aet=local_aet)
    with Misbehaving() as peer:
        sending.send_to(peer.peer, ae_title=ae_title)

        sending.attempt(run)

    assert peer.titles == [(calls, "PACS")]


def test_progress_counts_what_was_done_and_what_is_left(sending: Sending) -> None:
    run = start()
    with Misbehaving(objects=lambda n: Answer(0xB000 if n == 2 else 0xC000 if n == 3 else 0)) as peer:
        sending.send_to(peer.peer)

        sending.attempt(run)

    after = factories.view(run.task.id)
    assert after is not None
    assert after.progress == {"numInstances": 3, "completed": 1, "warning": 1, "failed": 1, "remaining": 0}


def test_each_context_is_asked_for_once_and_only_those_that_objects_need(sending: Sending, tmp_path: Path) -> None:
    sending.add(write_object(tmp_path / "ct", STUDY, SERIES[0], "1.2.9.4", SOPClassUID=CT))
    run = start()
    with Misbehaving() as peer:
        sending.send_to(peer.peer)

        sending.attempt(run)

    assert peer.asked == [[(SC, EXPLICIT), (CT, EXPLICIT)]]
    assert uids(peer.received) == [*OBJECTS, "1.2.9.4"]


def test_more_contexts_than_fit_take_further_associations(sending: Sending, tmp_path: Path) -> None:
    classes = [f"1.2.3.{number}" for number in range(130)]
    more = [
        sending.add(write_object(tmp_path / name, STUDY, SERIES[0], f"1.2.9.4.{number}", SOPClassUID=name))
        for number, name in enumerate(classes)
    ]
    run = start()
    with Misbehaving() as peer:
        sending.send_to(peer.peer)

        ending = sending.attempt(run)

    assert isinstance(ending, Outcome)
    assert ending.status is Status.COMPLETED
    assert uids(peer.received) == [*OBJECTS, *more]
    assert [len(asked) for asked in peer.asked] == [128, 3]


def test_large_object_is_sent_from_disk_unchanged(sending: Sending, tmp_path: Path) -> None:
    pixels = bytes(range(256)) * (17 << 12)
    uid = sending.add(write_object(tmp_path / "big", STUDY, SERIES[0], "1.2.9.4", EncapsulatedDocument=pixels))
    run = start(series_uid=SERIES[0], sop_uid=uid)
    with Misbehaving() as peer:
        sending.send_to(peer.peer)

        sending.attempt(run)

    [received] = peer.received
    assert received.data_set == sending.data_set(uid)


# --- retries send the rest


def test_next_attempt_sends_only_what_was_not_confirmed(sending: Sending) -> None:
    run = start()
    with Misbehaving(objects=lambda n: Answer(0xC000 if n == 2 else 0)) as peer:
        sending.send_to(peer.peer)
        sending.attempt(run)

        again = next_attempt(run)
        ending = sending.attempt(again)

    assert uids(peer.received) == [*OBJECTS, OBJECTS[1]]
    assert results(again) == {OBJECTS[1]: "sent"}
    assert ending == Outcome(Status.COMPLETED, f"Export Study[uid={STUDY}] to dicom:PACS - completed:3")


def test_object_that_was_replaced_between_two_attempts_is_sent_again(sending: Sending) -> None:
    run = start()
    with Misbehaving() as peer:
        sending.send_to(peer.peer)
        sending.attempt(run)
        sending.replace(OBJECTS[0])

        again = next_attempt(run)
        sending.attempt(again)
        sending.attempt(next_attempt(again))

    assert uids(peer.received) == [*OBJECTS, OBJECTS[0]]
    assert peer.received[-1].data_set == sending.data_set(OBJECTS[0])
    assert peer.received[-1].data_set != peer.received[0].data_set


def test_object_that_was_sent_before_digests_were_kept_is_not_sent_again(sending: Sending) -> None:
    run = start()
    with Misbehaving() as peer:
        sending.send_to(peer.peer)
        sending.attempt(run)
        factories.sql("UPDATE object_outcome SET sha256 = NULL")

        sending.attempt(next_attempt(run))

    assert uids(peer.received) == OBJECTS


def test_attempt_with_nothing_left_asks_for_no_association(sending: Sending) -> None:
    run = start()
    with Misbehaving() as peer:
        sending.send_to(peer.peer)
        sending.attempt(run)

        ending = sending.attempt(next_attempt(run))

    assert peer.associations == 1
    assert isinstance(ending, Outcome)
    assert ending.message.endswith("completed:3")


def test_completed_task_that_is_rescheduled_sends_all_again(sending: Sending) -> None:
    run = start()
    with Misbehaving() as peer:
        sending.send_to(peer.peer)
        sending.attempt(run)

        sending.attempt(next_attempt(run, event=Event.SUCCEED))

    assert uids(peer.received) == OBJECTS * 2


# --- what is refused when the task is made


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("dicom:NOWHERE", "expected the AE title of an installed device with an installed DICOM connection"),
        ("dicom:", "expected the AE title of an installed device"),
    ],
)
def test_node_that_the_directory_does_not_know_is_refused_at_creation(sending: Sending, uri: str, text: str) -> None:
    sending.send_to(Peer("PACS", "127.0.0.1", 104), uri=uri)

    with pytest.raises(InvalidError, match=f"Exporter ToPacs has dcmURI {uri}, {text}"):
        kind_of("EXPORT").validate(factories.new_task(exporter_id="ToPacs"), sending.archive.device)


def test_device_without_an_ae_cannot_call(sending: Sending) -> None:
    sending.send_to(Peer("PACS", "127.0.0.1", 104))
    mute = replace(sending.archive.device, aes={"OFF": ApplicationEntity("OFF", installed=False)})

    with pytest.raises(InvalidError, match="device archive-a has no installed AE to call from"):
        kind_of("EXPORT").validate(factories.new_task(exporter_id="ToPacs"), mute)


def test_task_to_a_node_has_it_as_its_destination(sending: Sending) -> None:
    sending.send_to(Peer("PACS", "127.0.0.1", 104))

    made = kind_of("EXPORT").validate(factories.new_task(exporter_id="ToPacs"), sending.archive.device)

    assert made.destination == "dicom:PACS"


def test_samples_of_every_syntax_arrive_unchanged(sending: Sending) -> None:
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    names = ["CT_small.dcm", "JPEG2000.dcm", "image_dfl.dcm", "ExplVR_BigEnd.dcm", "MR_small_RLE.dcm"]
    stored = [(folder / name, sending.add(folder / name)) for name in names]
    with Misbehaving() as peer:
        sending.send_to(peer.peer)
        for path, _ in stored:
            study = str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID)
            run = start(study_uid=study)
            sending.attempt(run)
            factories.report(run, Event.SUCCEED)

    assert {one.sop_uid: one.data_set for one in peer.received} == {uid: sending.data_set(uid) for _, uid in stored}
    assert len({one.transfer_syntax_uid for one in peer.received}) == len(names)


@pytest.mark.parametrize("touches", [True, False])
def test_exporter_says_whether_what_it_reads_counts_as_used(sending: Sending, touches: bool) -> None:
    factories.sql("UPDATE study_on_file_system SET access_time = now() - interval '1 day', marked_at = now()")
    run = start()
    with Misbehaving() as peer:
        sending.send_to(peer.peer, touches=touches)

        sending.attempt(run)

    [is_fresh] = factories.sql(
        "SELECT access_time > now() - interval '1 hour' AND marked_at IS NULL FROM study_on_file_system"
    )
    assert is_fresh is touches


@pytest.fixture
def says_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Let `arcfleet up --offset 1000` of this home say where it listens."""
    monkeypatch.setenv("ARCFLEET_HOME", str(tmp_path / "home"))
    settings.reload()

    def say(*urls: str) -> None:
        told = {"pid": os.getpid(), "offset": 1000, "dicom_urls": ["dicom://ARCHIVE_A@127.0.0.1:12112", *urls]}
        (tmp_path / "home" / "run.json").write_text(json.dumps(told))

    yield say
    monkeypatch.undo()
    settings.reload()


def test_device_of_ours_is_called_where_up_really_listens(sending: Sending, says_up: Callable[..., None]) -> None:
    run = start()
    with Misbehaving() as peer:
        sending.send_to(replace(peer.peer, port=peer.peer.port - 1000))
        says_up(f"dicom://PACS@{peer.peer.host}:{peer.peer.port}")

        ending = sending.attempt(run)

    assert ending == Outcome(Status.COMPLETED, f"Export Study[uid={STUDY}] to dicom:PACS - completed:3")


def test_remote_device_is_not_moved_by_the_offset(sending: Sending, says_up: Callable[..., None]) -> None:
    run = start()
    with Misbehaving() as peer:
        sending.send_to(peer.peer)
        says_up()

        ending = sending.attempt(run)

    assert ending == Outcome(Status.COMPLETED, f"Export Study[uid={STUDY}] to dicom:PACS - completed:3")
