"""A task is made with what follows from its exporter, once for equal requests, or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from config.device import Exporter, Queue
from tasks import operations
from tasks.errors import InvalidError, NotFoundError
from tasks.query import TaskQuery
from tasks.state import Status
from tests import factories

pytestmark = pytest.mark.usefixtures("cluster")

ALL = TaskQuery()
BY = factories.BY
AB = ("archive-a", "archive-b")
RETRIEVE = Queue("Retrieve")


def test_scheduled_task_takes_queue_and_destination_from_its_exporter() -> None:
    folder = Exporter("ToFolder", "file:out", "Retrieve", ae_title="ARCHIVE_A")
    factories.use_cluster(
        factories.device(exporters={"ToFolder": folder}, queues={"Retrieve": RETRIEVE}),
    )

    made = operations.schedule(factories.new_task(exporter_id="ToFolder", queue="?"), BY)

    task = made.task
    assert not made.existed
    assert (task.queue, task.local_aet, task.destination) == ("Retrieve", "ARCHIVE_A", "file:out")


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        ({"device": "archive-x"}, NotFoundError, "Unknown Device: archive-x, expected one of archive-a, archive-b"),
        ({"exporter_id": "ToMars"}, InvalidError, "No Exporter configured with ID:ToMars"),
        ({"exporter_id": None}, InvalidError, "needs an ExporterID and a StudyInstanceUID"),
        ({"study_uid": None}, InvalidError, "needs an ExporterID and a StudyInstanceUID"),
        ({"kind": "IMPORT"}, InvalidError, "no kind of task is called 'IMPORT'"),
    ],
)
def test_task_that_cannot_run_is_refused_and_not_made(
    values: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        operations.schedule(factories.new_task(**values), BY)
    with pytest.raises(error, match=text):
        operations.schedule_all([factories.new_task(), factories.new_task(**values)], BY)

    assert factories.views() == []


@pytest.mark.parametrize("uri", ["dicom:PACS", "file://elsewhere/folder", "file:"])
def test_destination_that_this_version_cannot_reach_is_refused_at_creation(uri: str) -> None:
    factories.use_cluster(factories.device(exporters={"ToPACS": Exporter("ToPACS", uri, "Export")}))

    with pytest.raises(InvalidError, match=f"Exporter ToPACS has dcmURI .*{uri}"):
        operations.schedule(factories.new_task(exporter_id="ToPACS"), BY)


@pytest.mark.parametrize("status", [Status.SCHEDULED, Status.SCHEDULED_FOR_RETRY])
def test_equal_task_that_waits_is_returned_instead_of_a_second_one(status: Status) -> None:
    first = factories.placed(status, series_uid="1.2.3.4")

    again = operations.schedule(factories.new_task(series_uid="1.2.3.4"), BY)

    assert (again.existed, again.task.id) == (True, first.task_id)
    assert len(factories.views()) == 1


@pytest.mark.parametrize(
    "other", [{"study_uid": "1.2.4"}, {"series_uid": "1.2.3.4"}, {"exporter_id": "Other"}, {"device": "archive-b"}]
)
def test_task_for_something_else_is_made(other: dict[str, Any]) -> None:
    exporters = {"Noop": factories.NOOP, "Other": replace(factories.NOOP, id="Other")}
    factories.use_cluster(*(factories.device(name, exporters=exporters) for name in AB))
    factories.insert()

    assert not operations.schedule(factories.new_task(**other), BY).existed


@pytest.mark.parametrize("status", [s for s in Status if not s.is_waiting])
def test_task_that_runs_or_is_done_does_not_stand_for_a_new_one(status: Status) -> None:
    factories.placed(status)

    assert not operations.schedule(factories.new_task(), BY).existed
    assert len(factories.views()) == 2


def test_duplicate_is_made_where_it_is_allowed() -> None:
    factories.insert()

    assert not operations.schedule(factories.new_task(), BY, allow_duplicate=True).existed


def test_two_who_schedule_the_same_at_once_make_one_task() -> None:
    for number in range(5):
        with ThreadPoolExecutor(4) as pool:
            new = factories.new_task(study_uid=f"1.2.{number}")
            made = list(pool.map(lambda one: operations.schedule(one, BY), [new] * 4))

        assert sum(not one.existed for one in made) == 1
        assert len({one.task.id for one in made}) == 1
