"""RETRIEVE: real archives send, a real storescp takes; counters, refusals, a stop."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from archive.dicom import commands, wire
from archive.dicom.peer import Peer
from config.device import Device
from tasks import operations
from tasks.errors import DestinationError, InvalidError, StoppedError
from tasks.outcome import Outcome
from tasks.query import TaskQuery
from tasks.record import NewTask
from tasks.state import Status
from tasks.store import Claimed
from tests import factories
from tests.integration.archive.dicom.test_queries import PENDING, release, said
from tests.integration.tasks.kinds import asking
from tests.lab import peers
from tests.lab.cluster import free_port
from tests.lab.orthanc import orthanc
from tests.lab.qrscp import dcmqrscp
from tests.lab.scripted import accept, scripted, take, take_priority, take_until_closed

pytestmark = pytest.mark.usefixtures("cluster")

STUDY = "1.2.1"
OBJECTS = [f"{STUDY}.1.{n}" for n in (1, 2, 3)]


def start(**values: object) -> Claimed:
    given = {"remote_aet": "QRSCP", "destination_aet": "SINK", "study_uid": STUDY, **values}
    return factories.running(**asking.new("RETRIEVE", **given))


def test_study_goes_from_dcmqrscp_to_the_destination(tmp_path: Path) -> None:
    with (
        peers.storescp(port=free_port(), ae_title="SINK") as sink,
        dcmqrscp(asking.files(tmp_path, {STUDY: 3, "1.2.2": 1}), sink.peer, port=free_port()) as source,
    ):
        asking.use(source)
        run = start()

        ending = asking.attempt(run)

        assert ending == Outcome(Status.COMPLETED, f"Export STUDY[suid:{STUDY}] from QRSCP to SINK - completed:3")
        assert sorted(sink.data_sets()) == OBJECTS
    assert asking.progress(run.task.id) == {
        "remaining": 0, "completed": 3, "failed": 0, "warning": 0, "statusCode": 0,
    }  # fmt: skip


def test_object_goes_from_orthanc_to_the_destination(tmp_path: Path) -> None:
    allowed = {"DicomAlwaysAllowFind": True, "DicomAlwaysAllowMove": True}
    with (
        peers.storescp(port=free_port(), ae_title="SINK") as sink,
        orthanc(sink.peer, port=free_port(), rest_port=free_port(), **allowed) as source,
    ):
        source.upload(asking.files(tmp_path, {STUDY: 3}))
        asking.use(source.peer)

        ending = asking.attempt(start(remote_aet="ORTHANC", series_uid=f"{STUDY}.1", sop_uid=OBJECTS[1]))

        assert isinstance(ending, Outcome)
        assert ending.status is Status.COMPLETED
        assert list(sink.data_sets()) == [OBJECTS[1]]


def test_run_twice_sends_twice_and_ends_the_same(tmp_path: Path) -> None:
    with (
        peers.storescp(port=free_port(), ae_title="SINK") as sink,
        dcmqrscp(asking.files(tmp_path, {STUDY: 3}), sink.peer, port=free_port()) as source,
    ):
        asking.use(source)
        run = start()

        assert asking.attempt(run) == asking.attempt(run)

        assert (sink.requests(), len(sink.files())) == (6, 3)


def test_destination_that_the_source_does_not_know_fails_with_its_words(tmp_path: Path) -> None:
    with dcmqrscp(asking.files(tmp_path, {STUDY: 1}), port=free_port()) as source:
        asking.use(source)
        run = start(destination_aet="NOWHERE")

        ending = asking.attempt(run)

    assert isinstance(ending, Outcome)
    assert ending.status is Status.FAILED
    assert ending.message.startswith(
        f"Export STUDY[suid:{STUDY}] from QRSCP to NOWHERE failed - status:A801H, "
        "A801 Refused: Move Destination Unknown"
    )
    assert asking.progress(run.task.id)["statusCode"] == 0xA801


def test_destination_that_is_away_is_a_failure(tmp_path: Path) -> None:
    nobody = Peer("SINK", "127.0.0.1", free_port())
    with dcmqrscp(asking.files(tmp_path, {STUDY: 2}), nobody, port=free_port()) as source:
        asking.use(source)

        ending = asking.attempt(start())

    assert isinstance(ending, Outcome)
    assert ending.status is Status.FAILED


def test_source_that_is_away_counts_against_it() -> None:
    away = Peer("QRSCP", "127.0.0.1", free_port())
    asking.use(away)

    ending = asking.attempt(start())

    assert isinstance(ending, DestinationError)
    assert str(ending) == f"{away}: Connection refused"
    assert factories.sql("SELECT failures FROM destination WHERE name = 'dicom:QRSCP'") == [1]


def test_node_that_only_stores_is_not_blamed() -> None:
    with peers.storescp(port=free_port(), ae_title="QRSCP") as node:
        asking.use(node.peer)

        ending = asking.attempt(start())

    assert isinstance(ending, DestinationError)
    assert "not accepted: abstract syntax not supported" in str(ending)
    assert factories.sql("SELECT failures FROM destination WHERE failures > 0") == []


@pytest.mark.parametrize(
    ("status", "numbers", "ends"),
    [
        (0xB000, (0, 2, 1, 0), Status.WARNING), (0xB000, (0, 0, 3, 0), Status.FAILED), (0, (0, 2, 0, 1), "warning:1"),
        (0xA702, (), Status.FAILED), (0xFE00, (2, 1, 0, 0), Status.FAILED),
    ],
)  # fmt: skip
def test_end_is_what_the_peer_says(status: int, numbers: tuple[int, ...], ends: object) -> None:
    def script(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader)
        take(reader)
        connection.sendall(said(commands.C_MOVE_RSP, status, *numbers))
        release(connection, reader)

    with scripted(script) as peer:
        asking.use(Peer("QRSCP", peer.host, peer.port))
        ending = asking.attempt(start())

    assert isinstance(ending, Outcome)
    assert ends in (ending.status, ending.message.rpartition(", ")[2])


def succeeded(numbers: tuple[int, ...], here: Device, **params: object) -> tuple[Status, int]:
    """Return how a task ends whose peer calls it a success with these numbers, and the priority that it was told."""
    asked: list[int] = []

    def script(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader)
        asked.append(take_priority(reader))
        connection.sendall(said(commands.C_MOVE_RSP, 0, *numbers))
        release(connection, reader)

    with scripted(script) as peer:
        asking.use(Peer("QRSCP", peer.host, peer.port))
        ending = asking.attempt(start(params=params), here=here)

    assert isinstance(ending, Outcome)
    return ending.status, asked[0]


@pytest.mark.parametrize("priority", [0, 1, 2])
def test_peer_is_told_the_priority(priority: int) -> None:
    assert succeeded((0, 1, 0, 0), asking.device(), priority=priority) == (Status.COMPLETED, priority)


@pytest.mark.parametrize("nobody_says", [True, False])
@pytest.mark.parametrize(
    ("name", "numbers"), [("warns_on_no_match", (0, 0, 0, 0)), ("warns_on_warnings", (0, 2, 0, 1))]
)  # fmt: skip
def test_q15_success_is_a_warning_only_where_the_directory_says_so_and_there_is_one(
    name: str, numbers: tuple[int, ...], nobody_says: bool
) -> None:
    plain = asking.device()
    ae = replace(plain.aes["ARCHIVE_A"], **{name: not nobody_says})
    says = replace(plain, **{name: True}) if nobody_says else plain
    of_ae = replace(says, aes={"ARCHIVE_A": ae})

    assert succeeded(numbers, plain)[0] is Status.COMPLETED
    factories.empty()
    assert succeeded(numbers, of_ae)[0] is (Status.COMPLETED if nobody_says else Status.WARNING)
    factories.empty()
    assert succeeded((0, 3, 0, 0), of_ae)[0] is Status.COMPLETED
    factories.empty()
    assert succeeded(numbers, replace(plain, **{name: True}))[0] is Status.WARNING


def test_run_that_is_stopped_cancels_at_the_peer() -> None:
    asked = []

    def script(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader)
        take(reader)
        connection.sendall(said(commands.C_MOVE_RSP, PENDING, 2, 1, 0, 0))
        operations.cancel_one(run.task.id, TaskQuery(), factories.BY)
        asked.append(take(reader)[0].command.field)
        connection.sendall(said(commands.C_MOVE_RSP, 0xFE00, 2, 1, 0, 0))
        take_until_closed(connection)

    run = start()
    with scripted(script) as peer:
        asking.use(Peer("QRSCP", peer.host, peer.port))
        ending = asking.attempt(run)

    assert isinstance(ending, StoppedError)
    assert ending.reason == "cancel"
    assert asked == [commands.C_CANCEL_RQ]
    assert factories.sql("SELECT failures FROM destination WHERE name = 'dicom:QRSCP' AND failures > 0") == []


def test_task_is_checked_when_it_is_made() -> None:
    asking.use(Peer("QRSCP", "127.0.0.1", 1))
    good = NewTask("RETRIEVE", "archive-a", "", local_aet="ARCHIVE_A", remote_aet="QRSCP", destination_aet="SINK",
                   study_uid=STUDY)  # fmt: skip

    made = operations.schedule(good, factories.BY).task

    assert (made.queue, made.destination) == ("Retrieve", "dicom:QRSCP")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"remote_aet": "NOBODY"}, "No such Application Entity: RemoteAET NOBODY"),
        ({"local_aet": "ARCHIVE_B"}, "No such Application Entity: ARCHIVE_B at Device{name=archive-a}"),
        ({"destination_aet": None}, "needs a StudyInstanceUID and a DestinationAET"),
        ({"queue": "Nowhere"}, "No Queue configured with name:Nowhere at Device{name=archive-a}"),
    ],
)
def test_task_that_cannot_run_is_refused(values: dict[str, str], said: str) -> None:
    asking.use(Peer("QRSCP", "127.0.0.1", 1))
    given = {"remote_aet": "QRSCP", "destination_aet": "SINK", "study_uid": STUDY, **values}

    with pytest.raises(InvalidError, match=said.replace("{", r"\{")):
        operations.schedule(factories.new_task(**asking.new("RETRIEVE", **given)), factories.BY)
