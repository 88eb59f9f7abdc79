"""What a sender is told about each object, with the database and the disk that make it so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_agreement import archive_a, write_object
from structlog.testing import capture_logs

from archive import db, errors
from archive.dicom import commands
from archive.dicom.acceptor import Proposal, Services, StoreRequest
from archive.dicom.status import Status
from archive.dicom.store_scp import StoreScp
from config.device import Device
from tests.lab import agreement, part10, stored

SC = "1.2.840.10008.5.1.4.1.1.7"
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
PROPOSAL = Proposal("MODALITY", "ARCHIVE_A", ("127.0.0.1", 40000), (), "1.2.3", "TEST")


@pytest.fixture
def services(home: Path) -> Iterator[Services]:
    opened = StoreScp(lambda device: None).services(archive_a(), PROPOSAL)
    yield opened
    opened.close()


@pytest.fixture
def sent(tmp_path: Path) -> bytes:
    """The data set of an object 1.2.1.1.1."""
    return part10.data_set(write_object(tmp_path / "sent.dcm", sop="1.2.1.1.1"))


def store(services: Services, data: bytes, sop_uid: str = "1.2.1.1.1", sop_class_uid: str = SC) -> Status:
    return services.store(StoreRequest(1, sop_class_uid, sop_uid, EXPLICIT, iter([data[:100], data[100:]])))


def test_echo_needs_neither_database_nor_disk() -> None:
    told: list[str] = []
    services = StoreScp(told.append).services(Device("archive-a"), PROPOSAL)

    assert services.echo() == Status(0)
    services.close()
    assert told == []


def test_object_is_stored_and_stored_again_is_a_success_too(services: Services, sent: bytes) -> None:
    assert [store(services, sent), store(services, sent)] == [Status(0), Status(0)]

    assert stored.data_sets() == {"1.2.1.1.1": sent}


def test_other_bytes_under_the_same_uid_are_told_as_duplicate(services: Services, sent: bytes, tmp_path: Path) -> None:
    other = part10.data_set(write_object(tmp_path / "other.dcm", sop="1.2.1.1.1", PatientID="P2"))
    store(services, sent)

    assert store(services, other) == Status(0x0111, "is here already with other bytes, which are kept")
    assert stored.data_sets() == {"1.2.1.1.1": sent}


def test_data_set_of_another_object_or_class_is_refused_as_not_matching(services: Services, sent: bytes) -> None:
    answers = [store(services, sent, sop_uid="1.2.3"), store(services, sent, sop_class_uid=CT)]

    assert [answer.code for answer in answers] == [0xA900, 0xA900]
    assert stored.files() == {}


def test_what_is_no_data_set_cannot_be_understood(services: Services) -> None:
    answer = store(services, b"\0" * 200)

    assert answer.code == 0xC000
    assert answer.comment


def test_disk_that_is_gone_refuses_for_want_of_resources_in_at_most_64_characters(
    services: Services, sent: bytes, home: Path
) -> None:
    for folder in home.iterdir():
        shutil.rmtree(folder)

    with capture_logs() as logs:
        answers = [store(services, sent) for _ in range(3)]

    assert {answer.code for answer in answers} == {0xA700}
    request = commands.Command(commands.C_STORE_RQ, 1, "1.2", "1.2.3", has_data_set=True)
    told = commands.decode(commands.response(request, answers[0]), "archive").status
    assert told is not None
    comment = told.comment
    assert comment is not None
    assert comment.isascii()
    assert 10 < len(comment) <= 64
    assert [line["event"] for line in logs].count("object refused") == 1


def test_device_without_a_group_for_objects_refuses_for_want_of_resources(home: Path, sent: bytes) -> None:
    services = StoreScp(lambda device: None).services(Device("archive-a"), PROPOSAL)

    assert store(services, sent).code == 0xA700
    services.close()


def test_database_that_is_away_refuses_for_want_of_resources(services: Services, sent: bytes) -> None:
    there = db.engine().url
    db.use(db.make_engine("postgresql://arcfleet@/arcfleet?host=/nowhere"))
    try:
        answer = store(services, sent)
    finally:
        db.use(db.make_engine(there.render_as_string(hide_password=False)))

    assert answer.code == 0xA700
    assert store(services, sent) == Status(0)


def test_association_lost_in_the_middle_of_an_object_leaves_nothing(services: Services, sent: bytes) -> None:
    def broken() -> Iterator[bytes]:
        yield sent[:100]
        raise errors.PeerAborted("MODALITY at 127.0.0.1:40000: connection lost")

    with pytest.raises(errors.PeerAborted):
        services.store(StoreRequest(1, SC, "1.2.1.1.1", EXPLICIT, broken()))

    assert stored.files() == {}


def test_error_of_ours_is_told_as_processing_failure_and_the_next_object_is_stored(
    services: Services, sent: bytes
) -> None:
    def faulty() -> Iterator[bytes]:
        yield sent[:100]
        raise ZeroDivisionError

    with capture_logs() as logs:
        answer = services.store(StoreRequest(1, SC, "1.2.1.1.1", EXPLICIT, faulty()))

    assert answer.code == 0x0110
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["object not stored"]
    assert store(services, sent) == Status(0)


def test_end_of_the_association_closes_its_series_and_all_agrees(home: Path, sent: bytes) -> None:
    told: list[str] = []
    services = StoreScp(told.append).services(archive_a(), PROPOSAL)
    store(services, sent)
    assert not stored.is_settled()

    services.close()

    assert stored.is_settled()
    assert told == ["archive-a"]
    assert agreement.disagreements() == []
