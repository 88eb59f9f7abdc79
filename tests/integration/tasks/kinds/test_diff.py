"""DIFF: two real archives are asked for the same studies; what is missing or different is kept."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archive import configuration, db
from archive.dicom import commands, wire
from archive.dicom.peer import Peer
from config.device import AttributeSet
from tasks import diffs, operations, purge
from tasks.errors import DestinationError, InvalidError, StoppedError
from tasks.outcome import Outcome
from tasks.query import TaskQuery
from tasks.state import Event, Status
from tasks.store import Claimed
from tests import factories
from tests.integration.tasks.kinds import asking
from tests.lab import answering
from tests.lab.answering import match, said
from tests.lab.cluster import free_port
from tests.lab.orthanc import orthanc
from tests.lab.qrscp import dcmqrscp
from tests.lab.scripted import Script, accept, scripted, take, take_priority, take_until_closed

pytestmark = pytest.mark.usefixtures("cluster")

NAME = "00100010"
UID = "0020000D"
ORIGINAL, MODIFIED = "04000561", "04000550"


def start(query: str = "", **params: Any) -> Claimed:
    params = {"queryString": query, "checkMissing": True, "checkDifferent": True, **params}
    return factories.running(**asking.new("DIFF", remote_aet="FIRST", destination_aet="SECOND", params=params))


@contextmanager
def two(folder: Path, first: list[Path], second: list[Path], make: str = "dcmqrscp") -> Iterator[None]:
    """Run two archives that hold these files."""
    if make == "dcmqrscp":
        with (
            dcmqrscp(first, port=free_port(), ae_title="FIRST") as one,
            dcmqrscp(second, port=free_port(), ae_title="SECOND") as other,
        ):
            asking.use(one, other)
            yield
    else:
        allowed = {"DicomAlwaysAllowFind": True}
        with (
            orthanc(port=free_port(), rest_port=free_port(), ae_title="FIRST", **allowed) as left,
            orthanc(port=free_port(), rest_port=free_port(), ae_title="SECOND", **allowed) as right,
        ):
            left.upload(first)
            right.upload(second)
            asking.use(left.peer, right.peer)
            yield


def found(claimed: Claimed) -> list[dict[str, Any]]:
    with db.transaction() as session:
        return diffs.of_task(session, claimed.task.id)


def uids(datasets: list[dict[str, Any]]) -> list[str]:
    return [one[UID]["Value"][0] for one in datasets]


def inside(dataset: dict[str, Any]) -> dict[str, Any]:
    """Return what the secondary had."""
    [item] = dataset[ORIGINAL]["Value"]
    [modified] = item[MODIFIED]["Value"]
    return dict(modified)


@pytest.mark.parametrize("make", ["dcmqrscp", "orthanc"])
def test_missing_and_different_studies_are_kept_with_what_differs(make: str, tmp_path: Path) -> None:
    first = asking.files(tmp_path / "1", {"1.2.1": 2, "1.2.2": 1, "1.2.3": 1})
    second = asking.files(tmp_path / "2", {"1.2.1": 2})
    second += asking.files(tmp_path / "3", {"1.2.2": 1}, PatientName="Doe^John")
    with two(tmp_path, first, second, make):
        run = start()

        ending = asking.attempt(run)

    assert ending == Outcome(Status.WARNING, "3 studies compared, missing: 1, different: 1")
    assert asking.progress(run.task.id) == {"matches": 3, "missing": 1, "different": 1}
    by_uid = dict(zip(uids(found(run)), found(run), strict=True))
    assert sorted(by_uid) == ["1.2.2", "1.2.3"]
    assert by_uid["1.2.2"][NAME]["Value"] == [{"Alphabetic": "Doe^Jane"}]
    assert inside(by_uid["1.2.2"])[NAME]["Value"] == [{"Alphabetic": "Doe^John"}]
    assert inside(by_uid["1.2.3"])["00201208"]["Value"] == [0]


def test_equal_archives_end_completed_and_keep_nothing(tmp_path: Path) -> None:
    both = asking.files(tmp_path, {"1.2.1": 2, "1.2.2": 1})
    with two(tmp_path, both, both):
        run = start()

        assert asking.attempt(run) == Outcome(Status.COMPLETED, "2 studies compared")
    assert found(run) == []


def test_query_and_fields_narrow_down_what_is_compared(tmp_path: Path) -> None:
    first = asking.files(tmp_path / "1", {"1.2.1": 1}, PatientID="P1") + asking.files(
        tmp_path / "2", {"1.2.2": 1}, PatientID="P2"
    )
    second = asking.files(tmp_path / "3", {"1.2.2": 1}, PatientID="P2", PatientName="Doe^John", AccessionNumber="A2")
    with two(tmp_path, first, second):
        by_accession = start("PatientID=P2", comparefield="00080050")
        endings = [asking.attempt(by_accession)]
        factories.report(by_accession, Event.SUCCEED)
        neither = start("PatientID=P2", checkDifferent=False)
        endings.append(asking.attempt(neither))
        factories.report(neither, Event.SUCCEED)
        not_missing = start("PatientID=P1", checkMissing=False)
        endings.append(asking.attempt(not_missing))

    assert [str(ending.message) for ending in endings if isinstance(ending, Outcome)] == [
        "1 studies compared, different: 1", "1 studies compared", "1 studies compared",
    ]  # fmt: skip
    [different] = found(by_accession)
    assert set(inside(different)) == {"00080050"}


def cancels(run: Claimed, asked: list[int], *, before: bytes = b"") -> Script:
    """Return a peer that cancels the task when it is asked, and then hears what it is told."""

    def script(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader)
        asked.append(take_priority(reader))
        connection.sendall(before)
        operations.cancel_one(run.task.id, TaskQuery(), factories.BY)
        asked.append(take(reader)[0].command.field)
        connection.sendall(said(commands.C_FIND_RSP, 0xFE00))
        take_until_closed(connection)

    return script


def stopped(ending: Outcome | Exception) -> str:
    assert isinstance(ending, StoppedError)
    return ending.reason


def test_cancel_reaches_the_query_of_the_primary() -> None:
    asked: list[int] = []
    run = start(priority=1)
    with scripted(cancels(run, asked, before=match("1.2.1"))) as peer:
        asking.use(Peer("FIRST", peer.host, peer.port), Peer("SECOND", "127.0.0.1", 1))
        ending = asking.attempt(run)

    assert (stopped(ending), asked) == ("cancel", [1, commands.C_CANCEL_RQ])
    assert factories.status_of(run.task.id) is Status.CANCELED
    assert factories.sql("SELECT failures FROM destination WHERE failures > 0") == []


def test_cancel_reaches_the_query_of_the_secondary_and_nothing_more_is_kept() -> None:
    asked: list[int] = []
    run = start(priority=2)

    def first(connection: socket.socket, reader: wire.Wire) -> None:
        accept(connection, reader)
        asked.append(take_priority(reader))
        connection.sendall(match("1.2.1") + match("1.2.2") + said(commands.C_FIND_RSP, 0))
        answering.release(connection, reader)

    with scripted(first) as one, scripted(cancels(run, asked)) as other:
        asking.use(Peer("FIRST", one.host, one.port), Peer("SECOND", other.host, other.port))
        ending = asking.attempt(run)

    assert (stopped(ending), asked) == ("cancel", [2, 2, commands.C_CANCEL_RQ])
    assert found(run) == []


def test_second_run_forgets_what_the_first_one_found(tmp_path: Path) -> None:
    first = asking.files(tmp_path / "1", {"1.2.1": 1, "1.2.2": 1})
    with two(tmp_path, first, []):
        run = start()

        assert asking.attempt(run) == asking.attempt(run)

        assert sorted(uids(found(run))) == ["1.2.1", "1.2.2"]


def test_results_of_a_batch_are_listed_in_pages_and_go_with_their_tasks(tmp_path: Path) -> None:
    with two(tmp_path, asking.files(tmp_path, {"1.2.1": 1, "1.2.2": 1}), []):
        run = start()
        asking.attempt(run)
    factories.sql("UPDATE task SET batch_id = 'b'")

    with db.transaction() as session:
        pages = [diffs.of_tasks(session, TaskQuery(batch_id="b"), offset=n, limit=1) for n in (0, 1, 2)]
        nothing = diffs.of_tasks(session, TaskQuery(batch_id="c"))
    factories.change(Event.DELETE, run.task.id)
    said = purge.clean_records(asking.device())

    assert [len(page or []) for page in pages] == [1, 1, 0]
    assert nothing is None
    assert "2 differences removed" in said
    assert found(run) == []


def test_run_that_has_ended_keeps_nothing_more(tmp_path: Path) -> None:
    with two(tmp_path, asking.files(tmp_path, {"1.2.1": 1}), []):
        run = start()
        factories.sql("UPDATE run SET ended_at = now()")

        asking.attempt(run)

    assert found(run) == []


def test_secondary_that_is_away_ends_the_run_and_is_named(tmp_path: Path) -> None:
    away = Peer("SECOND", "127.0.0.1", free_port())
    with dcmqrscp(asking.files(tmp_path, {"1.2.1": 1}), port=free_port(), ae_title="FIRST") as one:
        asking.use(one, away)

        ending = asking.attempt(start())

    assert isinstance(ending, DestinationError)
    assert str(ending) == f"{away}: Connection refused"


def compared_by(value: str, *tags: str, **more: Any) -> dict[str, Any]:
    """Return the parameters of a comparison by this field, on a device with an attribute set `Names`."""
    asking.use(Peer("FIRST", "127.0.0.1", 1), Peer("SECOND", "127.0.0.1", 1))
    devices = configuration.current().devices
    held = AttributeSet("Names", "DIFF_RS", tags, **more)
    here = replace(devices["archive-a"], attribute_sets={"Names": held})
    factories.use_cluster(here, *(one for name, one in devices.items() if name != "archive-a"))
    given = asking.new("DIFF", remote_aet="FIRST", destination_aet="SECOND", params={"comparefield": value})
    made = operations.schedule(factories.new_task(**given), factories.BY).task
    factories.change(Event.DELETE, made.id)
    return dict(made.params)


def test_attribute_set_of_the_device_says_what_is_compared(tmp_path: Path) -> None:
    params = compared_by("Names", "00100010", "00080050")
    first = asking.files(tmp_path / "1", {"1.2.1": 1})
    second = asking.files(tmp_path / "2", {"1.2.1": 1}, PatientName="Doe^John", PatientID="P2")
    with two(tmp_path, first, second):
        run = start(**params)
        ending = asking.attempt(run)

    assert params["comparefield"] == "Names"
    assert ending == Outcome(Status.WARNING, "1 studies compared, different: 1")
    assert set(inside(found(run)[0])) == {NAME}


def test_attribute_set_that_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InvalidError, match="00081140: expected the keyword or the tag of an attribute"):
        compared_by("Names", "00081140")
    with pytest.raises(InvalidError, match="Names: expected the keyword or the tag of an attribute"):
        compared_by("Names", "00100010", installed=False)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"remote_aet": "NOBODY"}, "PrimaryAET NOBODY"),
        ({"destination_aet": "NOBODY"}, "SecondaryAET NOBODY"),
        ({"params": {"queryString": "PatientNam=X"}}, "PatientNam: expected the keyword or the tag"),
        ({"params": {"comparefield": "Whatever"}}, "Whatever: expected the keyword or the tag"),
    ],
)
def test_task_that_cannot_run_is_refused(values: dict[str, Any], said: str) -> None:
    asking.use(Peer("FIRST", "127.0.0.1", 1), Peer("SECOND", "127.0.0.1", 1))
    given = {"remote_aet": "FIRST", "destination_aet": "SECOND", **values}

    with pytest.raises(InvalidError, match=said):
        operations.schedule(factories.new_task(**asking.new("DIFF", **given)), factories.BY)
