"""Reschedule: where a task was, or on a device that has and reaches what it needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archive import db
from archive.storage import file_systems, ingest
from archive.storage.choosing import Chooser
from config.device import ApplicationEntity, Cluster, Device, Exporter, FileSystem, FileSystemGroup, Queue
from tasks import operations
from tasks.errors import ConflictError, InvalidError
from tasks.moving import Change
from tasks.query import TaskQuery
from tasks.state import Event, Status
from tests import factories
from tests.integration.archive.archive_agreement import incoming, write_object

pytestmark = pytest.mark.usefixtures("cluster")

ALL = TaskQuery()
BY = factories.BY
AB = ("archive-a", "archive-b")
RETRIEVE = Queue("Retrieve")


def places() -> list[str]:
    return factories.sql("SELECT device FROM task ORDER BY id")


def test_rescheduled_task_starts_anew_where_it_was() -> None:
    run = factories.running(device="archive-b", batch_id="b", requester_user="anna")
    factories.report(run, Event.FAIL, error="refused", outcome="0 of 3", counts=True)

    operations.reschedule(TaskQuery(statuses=(Status.FAILED,)), Change(), BY)

    [task] = factories.views()
    assert (task.status, task.device, task.failures) == (Status.SCHEDULED, "archive-b", 0)
    assert (task.error_message, task.outcome_message, task.started_time, task.ended_time) == (None,) * 4
    assert (task.batch_id, task.requester_user) == ("b", "anna")
    assert factories.sql("SELECT scheduled_time <= clock_timestamp() FROM task") == [True]


def test_new_exporter_alone_does_not_move_the_task() -> None:
    other = Exporter("Other", "noop:", "Retrieve", ae_title="ARCFLEET")
    queues = {"Export": factories.EXPORT, "Retrieve": RETRIEVE}
    exporters = {"Noop": factories.NOOP, "Other": other}
    factories.use_cluster(*(factories.device(name, exporters=exporters, queues=queues) for name in AB))
    factories.insert(device="archive-b")

    operations.reschedule(ALL, Change(exporter_id="Other"), BY)

    [task] = factories.views()
    assert (task.device, task.exporter_id, task.queue, task.local_aet) == ("archive-b", "Other", "Retrieve", "ARCFLEET")


def test_time_and_priority_are_set_or_kept() -> None:
    tonight = datetime(2100, 1, 1, tzinfo=UTC)
    run = factories.running(priority=7)
    factories.report(run, Event.RETRY, error="refused", delay=timedelta(hours=1), counts=True)
    [before] = factories.views()

    operations.reschedule(ALL, Change(devices=("archive-b",), keep_scheduled_time=True), BY)
    [moved] = factories.views()
    operations.reschedule(ALL, Change(scheduled_time=tonight, priority=9), BY)
    [later] = factories.views()

    kept = (moved.scheduled_time, moved.priority, moved.failures, moved.error_message)
    assert kept == (before.scheduled_time, 7, 1, "refused")
    assert moved.device == "archive-b"
    assert (later.scheduled_time, later.priority, later.failures) == (tonight, 9, 0)


def test_several_devices_share_the_tasks_in_turn_over_all_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.small_chunks(monkeypatch, 3)
    names = ("archive-a", "archive-b", "archive-c")
    factories.use_cluster(*(factories.device(name) for name in names))
    factories.insert(11)

    result = operations.reschedule(ALL, Change(devices=names), BY)

    assert places() == [names[number % 3] for number in range(11)]
    assert result.by_device == {"archive-a": 4, "archive-b": 4, "archive-c": 3}


def test_device_that_cannot_run_a_task_is_passed_over() -> None:
    only_a = {"Noop": factories.NOOP, "OnlyA": replace(factories.NOOP, id="OnlyA")}
    factories.use_cluster(factories.device(exporters=only_a), factories.device("archive-b"))
    for number in range(6):
        factories.insert(exporter_id="OnlyA" if number % 2 else "Noop")

    result = operations.reschedule(ALL, Change(devices=AB), BY)

    assert (result.count, result.failed) == (6, 0)
    assert all(task.device == "archive-a" for task in factories.views() if task.exporter_id == "OnlyA")


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (Change(devices=("archive-x",)), InvalidError, "Unknown Device: archive-x"),
        (Change(devices=("off",)), InvalidError, "Device: off not installed"),
        (Change(devices=("foreign",)), ConflictError, "Device: foreign is not run by arcfleet"),
        (Change(devices=("archive-b",), exporter_id="ToMars"), InvalidError, "No Exporter configured with ID:ToMars"),
        (Change(devices=("archive-b",), queue="Import"), InvalidError, "No Queue configured with name:Import"),
        (Change(devices=("archive-b", "archive-x")), InvalidError, "Unknown Device: archive-x"),
    ],
)
def test_change_that_no_task_can_take_is_refused_as_a_whole(change: Change, error: type[Exception], text: str) -> None:
    factories.use_cluster(
        factories.device(), factories.device("archive-b"), factories.device("off", installed=False),
        factories.device("foreign", is_ours=False),
    )  # fmt: skip
    [task] = factories.insert()

    with pytest.raises(error, match=text):
        operations.reschedule(ALL, change, BY)
    with pytest.raises(error, match=text):
        operations.reschedule_one(task.id, ALL, change, BY)

    assert [(view.status, view.device) for view in factories.views()] == [(Status.SCHEDULED, "archive-a")]
    assert len(factories.arrows_of(task.id)) == 1


def lacking(**values: Any) -> Device:
    return factories.device("archive-b", **values)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (
            lacking(exporters={}),
            "Cannot reschedule Export Task{id=%d} to Exporter{id=Noop} not configured at Device{name=archive-b}",
        ),
        (
            lacking(queues={}),
            "Cannot reschedule Task{id=%d} on Queue{name=Export} not configured at Device{name=archive-b}",
        ),
        (
            lacking(aes={"OTHER": ApplicationEntity("OTHER")}),
            "No such Application Entity{dicomAETitle=ARCHIVE_A} on new device{name=archive-b}",
        ),
        (
            lacking(aes={"ARCHIVE_A": ApplicationEntity("ARCHIVE_A", installed=False)}),
            "No such Application Entity{dicomAETitle=ARCHIVE_A} on new device{name=archive-b}",
        ),
    ],
)
def test_target_that_lacks_what_the_task_needs_is_refused_with_its_name(target: Device, text: str) -> None:
    factories.use_cluster(factories.device(), target)
    [task] = factories.insert(local_aet="ARCHIVE_A")
    expected = text % task.id if "%d" in text else text

    with pytest.raises(ConflictError) as refused:
        operations.reschedule_one(task.id, ALL, Change(devices=("archive-b",)), BY)
    result = operations.reschedule(ALL, Change(devices=("archive-b",)), BY)

    assert str(refused.value) == expected
    assert (result.count, result.failed, result.refusals) == (0, 1, {expected: 1})
    assert [(view.status, view.device) for view in factories.views()] == [(Status.SCHEDULED, "archive-a")]


def test_other_ae_title_of_the_target_counts() -> None:
    aes = {"ARCHIVE_B": ApplicationEntity("ARCHIVE_B", other_titles=("ARCHIVE_A",))}
    factories.use_cluster(factories.device(), lacking(aes=aes))
    factories.insert(local_aet="ARCHIVE_A")

    assert operations.reschedule(ALL, Change(devices=("archive-b",)), BY).count == 1


@pytest.fixture
def stored(cluster: Cluster, tmp_path: Path) -> Iterator[None]:
    """Study 1.2.1 on a file system that archive-a and archive-b mount, 1.2.2 on one that archive-a alone mounts."""
    shared = FileSystemGroup("ONLINE_STORAGE", (FileSystem("shared", ("archive-b",)),))
    alone = FileSystemGroup("NEARLINE_STORAGE", (FileSystem("alone"),))
    exporters = {"ToFolder": Exporter("ToFolder", "file:out", "Export"), "Noop": factories.NOOP}
    groups = {group.id: group for group in (shared, alone)}
    a = factories.device(exporters=exporters, file_system_groups=groups)
    factories.use_cluster(a, factories.device("archive-b", exporters=exporters))
    with db.transaction() as session:
        file_systems.ensure(session, a, tmp_path)
    targets = [Chooser("archive-a", group).current() for group in groups.values()]
    for number, target in enumerate(targets, 1):
        path = write_object(tmp_path / str(number), f"1.2.{number}", f"1.2.{number}.1", f"1.2.{number}.1.1")
        ingest.store(target, [incoming(path)])
    yield
    for table in ("study_on_file_system", "file", "instance", "series", "study", "patient", "bytes_received"):
        factories.sql(f"DELETE FROM {table}")
    factories.sql("DELETE FROM file_system")


@pytest.mark.usefixtures("stored")
def test_target_that_cannot_read_the_study_is_refused_and_one_that_can_is_taken() -> None:
    [near] = factories.insert(exporter_id="ToFolder", study_uid="1.2.1")
    [far] = factories.insert(exporter_id="ToFolder", study_uid="1.2.2")
    change = Change(devices=("archive-b",))

    result = operations.reschedule(ALL, change, BY)

    assert (result.count, result.failed) == (1, 1)
    [reason] = result.refusals
    for named in (f"Task{{id={far.id}}}", "Device{name=archive-b}", "Study[uid=1.2.2]", "alone (archive-a)"):
        assert named in reason
    assert [task.device for task in factories.views()] == ["archive-b", "archive-a"]
    with pytest.raises(ConflictError, match=r"it reaches no good copy of 1 objects of Study\[uid=1.2.2\]"):
        operations.reschedule_one(far.id, ALL, change, BY)
    assert factories.status_of(near.id) is Status.SCHEDULED


@pytest.mark.usefixtures("stored")
def test_exporter_that_reads_no_files_runs_anywhere() -> None:
    factories.insert(exporter_id="Noop", study_uid="1.2.2")

    assert operations.reschedule(ALL, Change(devices=("archive-b",)), BY).count == 1


def peers_too(device: Device) -> Device:
    """Return a device with the queues of kinds that speak with others, and a connection."""
    return replace(device, queues={name: Queue(name) for name in ("Retrieve", "DiffTasks", "StgVerTasks", "Export")})


@pytest.mark.parametrize(
    ("kind", "queue", "destination", "becomes"),
    [
        ("RETRIEVE", "Retrieve", "ARCHIVE_A", "ARCHIVE_B"),
        ("RETRIEVE", "Retrieve", "ELSEWHERE", "ELSEWHERE"),
        ("DIFF", "DiffTasks", "ARCHIVE_A", "ARCHIVE_A"),
        ("STGVER", "StgVerTasks", None, None),
    ],
)
def test_new_local_ae_takes_the_place_of_the_old_one(
    kind: str, queue: str, destination: str | None, becomes: str | None
) -> None:
    factories.use_cluster(*(peers_too(factories.device(name)) for name in AB))
    factories.insert(
        kind=kind, queue=queue, exporter_id=None, local_aet="ARCHIVE_A", remote_aet="PACS", destination_aet=destination
    )
    to_b = Change(devices=("archive-b",))

    without = operations.reschedule(ALL, to_b, BY)
    with_it = operations.reschedule(ALL, replace(to_b, local_aet="ARCHIVE_B"), BY)

    assert list(without.refusals) == [
        "No such Application Entity{dicomAETitle=ARCHIVE_A} on new device{name=archive-b}"
    ]
    assert with_it.count == 1
    [task] = factories.views()
    assert (task.device, task.local_aet, task.remote_aet, task.destination_aet) == (
        "archive-b", "ARCHIVE_B", "PACS", becomes,
    )  # fmt: skip


def test_task_without_a_local_ae_among_its_kind_stays_as_it_was_when_it_is_run_again() -> None:
    factories.use_cluster(*(peers_too(factories.device(name)) for name in AB))
    factories.insert(kind="RETRIEVE", queue="Retrieve", exporter_id=None, local_aet="ARCFLEET", remote_aet="PACS",
                     destination_aet="ARCFLEET")  # fmt: skip

    operations.reschedule(ALL, Change(), BY)

    [task] = factories.views()
    assert (task.device, task.local_aet, task.destination_aet, task.destination) == (
        "archive-a", "ARCFLEET", "ARCFLEET", "dicom:PACS",
    )  # fmt: skip


def test_new_queue_is_one_that_the_target_has() -> None:
    both = [peers_too(factories.device(name)) for name in AB]
    quick = replace(both[1], queues={**both[1].queues, "Quick": Queue("Quick")})
    factories.use_cluster(both[0], quick)
    factories.insert(kind="RETRIEVE", queue="Retrieve", exporter_id=None, local_aet="ARCFLEET", remote_aet="PACS",
                     destination_aet="X")  # fmt: skip

    with pytest.raises(InvalidError, match="No Queue configured with name:Quick"):
        operations.reschedule(ALL, Change(devices=("archive-a",), queue="Quick"), BY)
    operations.reschedule(ALL, Change(devices=("archive-b",), queue="Quick"), BY)

    assert [(task.device, task.queue) for task in factories.views()] == [("archive-b", "Quick")]


def test_export_takes_another_ae_and_deletion_none() -> None:
    factories.use_cluster(*(peers_too(factories.device(name)) for name in AB))
    factories.insert(local_aet="ARCHIVE_A")
    factories.insert(kind="DELETE_STUDY", queue="Export", exporter_id=None)

    result = operations.reschedule(ALL, Change(local_aet="ARCFLEET"), BY)

    assert (result.count, result.failed) == (1, 1)
    assert "it deletes a study and speaks to nobody" in next(iter(result.refusals))
    assert [task.local_aet for task in factories.views()] == ["ARCFLEET", None]


def test_deletion_whose_mark_is_gone_takes_no_turn() -> None:
    queues = {"Export": factories.EXPORT, "DeleteStudy": Queue("DeleteStudy")}
    factories.use_cluster(*(factories.device(name, queues=queues) for name in AB))
    for _ in range(2):
        factories.insert()
        factories.insert(kind="DELETE_STUDY", queue="DeleteStudy", exporter_id=None)

    result = operations.reschedule(ALL, Change(devices=AB), BY)

    assert (result.count, result.failed) == (2, 2)
    assert all("its mark does not stand any more" in reason for reason in result.refusals)
    assert places() == ["archive-a", "archive-a", "archive-b", "archive-a"]


@pytest.mark.usefixtures("stored")
def test_verification_goes_only_where_the_files_are_reached() -> None:
    current = [replace(peers_too(one), exporters={}) for one in operations.configuration.current().ours.values()]
    factories.use_cluster(*current)
    for study in ("1.2.1", "1.2.2"):
        factories.insert(kind="STGVER", queue="StgVerTasks", exporter_id=None, local_aet="ARCFLEET", study_uid=study)

    result = operations.reschedule(ALL, Change(devices=("archive-b",)), BY)

    assert (result.count, result.failed) == (1, 1)
    assert "it reaches no good copy of 1 objects of Study[uid=1.2.2]" in next(iter(result.refusals))
    assert places() == ["archive-b", "archive-a"]
