"""Exports to DICOM nodes of other makes, good and bad ones, by a real worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from sqlalchemy import select

from archive.dicom.peer import Peer
from archive.storage import importing
from tasks import operations
from tasks.moving import Change
from tasks.query import TaskQuery
from tasks.run import ObjectOutcomeRow, Run
from tasks.state import Status
from tests.lab import ldif, part10, peers, stored
from tests.lab.acts import AbortDuring, Answer
from tests.lab.cluster import BY, Lab, cluster, free_port
from tests.lab.misbehaving import Misbehaving
from tests.lab.orthanc import orthanc

HERE = "archive-a"
#: How long we wait for an answer to a request for an association, and to an object.
PATIENCE_MS = 1500
#: AEs of this test, each at a port of its own: none is held up by the breaker of another.
TITLES = ("SINK", "ORTHANC", "REFUSES", "DROPS", "CUTS", "DOZES", "SLEEPS", "NOBODY", "FULL")

Peers = dict[str, Peer]


@pytest.fixture(scope="module")
def nodes() -> Peers:
    return {title: Peer(title, "127.0.0.1", free_port()) for title in TITLES}


@pytest.fixture(scope="module")
def running(nodes: Peers) -> Iterator[Lab]:
    changes = [change for node in nodes.values() for change in ldif.remote(node.ae_title, node.port)]
    changes += [ldif.exporter(title, HERE, uri=f"dicom:{title}") for title in TITLES]
    # What has failed runs again only when it is told to.
    changes += [ldif.queue("Export", dcmRetryDelay="PT1H")]
    changes += [ldif.connection(HERE, dcmAAACTimeout=str(PATIENCE_MS), dcmResponseTimeout=str(PATIENCE_MS))]
    with cluster(*changes) as made:
        made.ready(made.worker(HERE))
        yield made


@pytest.fixture
def lab(running: Lab) -> Iterator[Lab]:
    yield running
    running.await_idle()
    stored.forget()


def import_samples(lab: Lab, folder: Path) -> None:
    """Store pydicom's samples without the network."""
    folder.mkdir()
    for number, sample in enumerate(part10.first_of_each(part10.samples()).values()):
        (folder / f"{number}.dcm").symlink_to(sample.path)
    importing.import_folder(operations.our_device(HERE), folder, home=lab.home)


def export_all(lab: Lab, title: str) -> None:
    """Export all studies and wait until that is done."""
    tasks = [lab.schedule(device=HERE, exporter=title, study_uid=uid)[0] for uid in stored.studies()]
    lab.await_status(tasks, Status.COMPLETED)


def fail(lab: Lab, title: str, study_uid: str) -> tuple[int, Run]:
    """Export a study to a node that fails; returns the task and its ended run."""
    (task,) = lab.schedule(device=HERE, exporter=title, study_uid=study_uid)
    lab.await_status([task], Status.SCHEDULED_FOR_RETRY)
    return task, lab.runs(task)[-1]


def again(lab: Lab, task: int) -> None:
    """Let a task run at once that waits for a retry, and wait until it is COMPLETED."""
    operations.reschedule_one(task, TaskQuery(), Change(), BY)
    lab.await_status([task], Status.COMPLETED)


def outcomes(lab: Lab, run: Run) -> list[tuple[str, int | None]]:
    """Return how the objects of a run ended, with the peer's statuses, in the order of the run."""
    rows = select(ObjectOutcomeRow).where(ObjectOutcomeRow.run_id == run.id).order_by(ObjectOutcomeRow.id)
    return lab.ask(lambda session: [(row.result, row.status_code) for row in session.scalars(rows)])


def values(path: Path) -> dict[int, object]:
    """Return the values of all elements but group lengths, by tag."""
    return {element.tag: element.value for element in pydicom.dcmread(path) if element.tag.element}


def test_samples_arrive_at_storescp_byte_for_byte(lab: Lab, nodes: Peers, tmp_path: Path) -> None:
    import_samples(lab, tmp_path / "in")
    with peers.storescp(port=nodes["SINK"].port, ae_title="SINK") as sink:
        export_all(lab, "SINK")

        assert sink.data_sets() == {uid: part10.as_sent(data_set) for uid, data_set in stored.data_sets().items()}
        assert len(sink.files()) == len(part10.first_of_each(part10.samples()))


def test_samples_arrive_at_orthanc_as_they_are(lab: Lab, nodes: Peers, tmp_path: Path) -> None:
    import_samples(lab, tmp_path / "in")
    node = nodes["ORTHANC"]
    with orthanc(port=node.port, rest_port=free_port(), ae_title=node.ae_title) as taker:
        export_all(lab, "ORTHANC")
        arrived = {uid: taker.save(found, tmp_path / uid) for uid, found in taker.instances().items()}

    assert arrived.keys() == stored.files().keys()
    equal = {uid for uid, data_set in stored.data_sets().items() if part10.data_set(arrived[uid]) == data_set}
    # Orthanc writes what it has decoded: lengths of sequences and groups may be its own, values may not.
    for uid, path in stored.files().items():
        assert uid in equal or values(arrived[uid]) == values(path), uid
    assert len(equal) > 0.7 * len(arrived)


def test_objects_made_up_arrive_at_orthanc_byte_for_byte(lab: Lab, nodes: Peers, tmp_path: Path) -> None:
    node = nodes["ORTHANC"]
    lab.store_study(HERE, objects=5)
    with orthanc(port=node.port, rest_port=free_port(), ae_title=node.ae_title) as taker:
        export_all(lab, "ORTHANC")
        arrived = {uid: taker.save(found, tmp_path / uid) for uid, found in taker.instances().items()}

    assert {uid: part10.data_set(path) for uid, path in arrived.items()} == stored.data_sets()


def test_objects_arrive_at_pynetdicom_byte_for_byte(lab: Lab, nodes: Peers) -> None:
    lab.store_study(HERE, objects=5)
    with peers.pynetdicom_storescp(port=nodes["SINK"].port, ae_title="SINK") as sink:
        export_all(lab, "SINK")

        assert sink.data_sets() == stored.data_sets()


@pytest.mark.parametrize(
    ("title", "options", "cause"),
    [
        ("REFUSES", ["--refuse"], "reject"),
        ("DROPS", ["--abort-during"], "abort"),
        ("CUTS", ["--abort-after"], "abort"),
        ("DOZES", ["--sleep-during", "60"], f"within {PATIENCE_MS / 1000:g} s"),
        ("SLEEPS", ["--sleep-after", "60"], f"within {PATIENCE_MS / 1000:g} s"),
    ],
)
def test_bad_storescp_is_named_and_gets_all_when_it_is_good_again(
    lab: Lab, nodes: Peers, title: str, options: list[str], cause: str
) -> None:
    study = lab.store_study(HERE, objects=3)
    with peers.storescp(*options, *peers.AS_SENT, port=nodes[title].port, ae_title=title) as bad:
        task, run = fail(lab, title, study)
        before = bad.data_sets() if ("sent", 0) in outcomes(lab, run) else {}

    message = lab.task(task).error_message or ""
    assert str(nodes[title]) in message
    assert cause in message.lower()
    with peers.storescp(port=nodes[title].port, ae_title=title) as good:
        again(lab, task)
        assert good.requests() == 3 - len(before)
        assert before | good.data_sets() == stored.data_sets()


def test_nobody_listening_is_named_with_its_address(lab: Lab, nodes: Peers) -> None:
    task, run = fail(lab, "NOBODY", lab.store_study(HERE, objects=3))

    message = lab.task(task).error_message or ""
    assert f"{nodes['NOBODY']}: " in message
    assert "refused" in message.lower()
    assert outcomes(lab, run) == [("not reached", None)] * 3


def test_full_node_is_named_with_its_status_and_gets_only_the_rest_when_it_has_room(lab: Lab, nodes: Peers) -> None:
    study, port = lab.store_study(HERE, objects=150), nodes["FULL"].port
    with Misbehaving(objects=lambda number: Answer(0 if number <= 100 else 0xA700), ae_title="FULL", port=port) as full:
        task, run = fail(lab, "FULL", study)

    message = lab.task(task).error_message or ""
    assert str(nodes["FULL"]) in message
    assert "A700" in message
    assert outcomes(lab, run) == [("sent", 0)] * 100 + [("refused", 0xA700)] + [("not reached", None)] * 49
    with peers.storescp(port=port, ae_title="FULL") as roomy:
        again(lab, task)
        assert roomy.requests() == 50
        assert roomy.data_sets().keys() == stored.files().keys() - set(full.confirmed())


def test_node_that_aborts_within_a_study_gets_each_object_once(lab: Lab, nodes: Peers) -> None:
    study = lab.store_study(HERE, objects=60)
    # It aborts at each twentieth object that it sees.
    with Misbehaving(
        objects=lambda number: AbortDuring() if number % 20 == 0 else Answer(), ae_title="SINK", port=nodes["SINK"].port
    ) as moody:
        (task,) = lab.schedule(device=HERE, exporter="SINK", study_uid=study)
        lab.await_status([task], Status.COMPLETED)

    assert sorted(moody.confirmed()) == sorted(stored.files())
    assert {one.sop_uid: one.data_set for one in moody.received} == stored.data_sets()
    assert moody.associations == 4
