"""Known defects of the original (Q1 to Q15 of its description) that this server does not have, one test each.

Q8 and Q9 are wire format, not defects: they are as there. Q15 is in `tests/integration/tasks/kinds/test_retrieve.py`.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from api.app import create_app
from config.device import Queue
from tasks.run import Stop
from tasks.state import Event, Status
from tests import factories
from tests.integration.api.test_kinds_on_the_wire import DIFF, RETRIEVE, STGVER, insert
from tests.integration.api.wire import BASE, EXPORTS, Wire, error_of


def test_q1_end_of_a_run_does_not_overwrite_what_an_operator_did(wire: Wire) -> None:
    canceled, rescheduled = factories.running(), factories.running(queue="Other")

    wire.post(f"{EXPORTS}/{canceled.task.id}/cancel")
    wire.post(f"{EXPORTS}/{rescheduled.task.id}/reschedule?scheduledTime=20300101000000")
    factories.report(canceled, Event.SUCCEED)
    factories.report(rescheduled, Event.FAIL)

    assert factories.status_of(canceled.task.id) is Status.CANCELED
    assert factories.status_of(rescheduled.task.id) is Status.SCHEDULED


def test_q2_cancel_reaches_a_run_on_another_device_and_of_any_kind(wire: Wire) -> None:
    one: dict[str, dict[str, Any]] = {
        "monitor/export": {},
        "monitor/retrieve": RETRIEVE,
        "monitor/diff": DIFF,
        "monitor/stgver": STGVER,
    }
    single = {path: factories.running(**row, device="archive-b") for path, row in one.items()}
    for path, claimed in single.items():
        wire.post(f"{BASE}/{path}/{claimed.task.id}/cancel")
    for claimed in single.values():
        assert factories.run_row(claimed.run_id)["stop_reason"] == Stop.CANCEL

    factories.empty()
    many = {path: factories.running(**row, device="archive-b") for path, row in one.items()}
    for path in many:
        wire.post(f"{BASE}/{path}/cancel?status=IN%20PROCESS")
    for claimed in many.values():
        assert factories.run_row(claimed.run_id)["stop_reason"] == Stop.CANCEL


def test_q3_tasks_of_a_dead_device_are_moved_in_one_call(wire: Wire) -> None:
    waiting = [task.id for task in factories.insert(2, device="archive-b")]
    stuck = factories.running(device="archive-b", queue="Other").task.id

    answer = wire.post(
        f"{EXPORTS}/reschedule?dicomDeviceName=archive-b&status=waiting&status=IN%20PROCESS&newDeviceName=archive-a"
    )

    assert answer.json() == {"count": 3}
    found = [factories.view(task_id) for task_id in (*waiting, stuck)]
    assert {(task.device, task.status) for task in found if task} == {("archive-a", Status.SCHEDULED)}


def test_q4_two_workers_of_one_device_never_run_a_task_twice(wire: Wire) -> None:
    factories.insert()
    [reservation] = factories.reserve()

    assert factories.reserve() == []
    assert factories.claim(reservation) is not None
    assert factories.claim(reservation) is None


@pytest.mark.parametrize("path", [f"{EXPORTS}/{{task}}/reschedule", f"{EXPORTS}/reschedule"])
def test_q5_hour_twelve_is_noon(wire: Wire, path: str) -> None:
    [task] = factories.insert()
    more = "" if "{task}" in path else "&all=true"

    wire.post(f"{path.format(task=task.id)}?scheduledTime=20300115120000{more}")

    found = factories.view(task.id)
    assert found is not None
    assert found.scheduled_time == datetime(2030, 1, 15, 11, tzinfo=UTC)  # noon in Vienna


@pytest.mark.parametrize("hour", [0, 11, 12, 13, 23])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("studies/1.2.3/export/Noop", None),
        ("studies/csv:1/export/Noop", "1.2.3"),
        ("studies/csv:1/stgver", "1.2.3"),
    ],
)
def test_q5_every_hour_of_a_new_task_is_what_it_says(wire: Wire, path: str, body: str | None, hour: int) -> None:
    # Of these services the original reads the hour as one of a clock with twelve.
    queues = {name: Queue(name) for name in ("Export", "StgVerTasks")}
    factories.use_cluster(factories.device(queues=queues))
    headers = {} if body is None else {"content_type": "text/csv"}

    answer = wire.ask("POST", f"{BASE}/aets/ARCHIVE_A/rs/{path}?scheduledTime=20300115{hour:02}3005", body, **headers)

    assert answer.status_code == 202, answer.text
    [task] = factories.views()
    assert task.scheduled_time == datetime(2030, 1, 15, hour, 30, 5, tzinfo=ZoneInfo("Europe/Vienna"))


def test_q6_failing_tasks_are_counted_once_however_many(wire: Wire) -> None:
    factories.insert(250, exporter_id="Gone")
    factories.insert(5)

    answer = wire.post(f"{EXPORTS}/reschedule?status=SCHEDULED")

    assert answer.status_code == 202
    assert (answer.json()["count"], answer.json()["failed"]) == (5, 250)


def test_q7_batches_of_retrieves_are_filtered_as_the_pages_ask(wire: Wire) -> None:
    insert(RETRIEVE, batch_id="b")

    for name in ("localAET", "LocalAET", "remoteAET", "RemoteAET", "destinationAET", "DestinationAET"):
        assert wire.get(f"{BASE}/monitor/retrieve/batch?{name}=NOBODY").content == b"[]"


def test_q10_each_csv_has_its_own_delimiter(wire: Wire) -> None:
    factories.insert(300)
    wrong: list[str] = []

    def read(accept: str, delimiter: str) -> None:
        with Wire(create_app()) as own:
            for _ in range(3):
                text = own.get(f"{EXPORTS}?accept={accept}").content.decode()
                wrong.extend(line for line in text.split("\r\n")[:-1] if line.count(delimiter) != 19)

    readers = [
        threading.Thread(target=read, args=args)
        for args in (("text/csv", ","), ("text/csv;delimiter=semicolon", ";")) * 2
    ]
    for one in readers:
        one.start()
    for one in readers:
        one.join()

    assert wrong == []


def test_q11_new_exporter_or_queue_leaves_the_task_on_its_device(wire: Wire) -> None:
    [task] = factories.insert(device="archive-b")

    wire.post(f"{EXPORTS}/{task.id}/reschedule/OnlyB")
    wire.post(f"{EXPORTS}/reschedule/Noop?status=SCHEDULED")

    found = factories.view(task.id)
    assert found is not None
    assert (found.device, found.exporter_id) == ("archive-b", "Noop")


def test_q12_queue_that_is_not_there_is_refused_and_nothing_is_saved(wire: Wire) -> None:
    [task] = factories.insert(queue="Gone", exporter_id="Lost")

    answer = wire.post(f"{EXPORTS}/{task.id}/reschedule?taskPriority=9")

    assert (answer.status_code, "Nowhere" in error_of(answer)) == (409, True)
    found = factories.view(task.id)
    assert found is not None
    assert found.priority == 4


def test_q13_target_must_have_the_exporters_queue(wire: Wire) -> None:
    [task] = factories.insert(exporter_id="Lost")

    answer = wire.post(f"{EXPORTS}/{task.id}/reschedule?newDeviceName=archive-b")

    assert answer.status_code == 409
    assert error_of(answer) == (
        f"Cannot reschedule Task{{id={task.id}}} on Queue{{name=Nowhere}} not configured at Device{{name=archive-b}}"
    )


def test_q14_device_that_is_stopped_takes_nothing_new_however_it_is_triggered(wire: Wire) -> None:
    [task] = factories.insert()
    assert wire.post(f"{BASE}/devices/archive-a/pause").status_code == 204

    wire.post(f"{EXPORTS}/{task.id}/reschedule")

    reasons = wire.get(f"{EXPORTS}/{task.id}/explain").json()
    assert "paused" in str(reasons)
