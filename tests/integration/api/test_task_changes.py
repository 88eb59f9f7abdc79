"""Cancel, reschedule, delete: what is answered, what is changed, and what the audit says of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tasks.record import TaskView
from tasks.state import Status
from tests import factories
from tests.integration.api.wire import EXPORTS, Wire, error_of


def insert(number: int = 1, **values: object) -> list[int]:
    return [task.id for task in factories.insert(number, **values)]


def view(task_id: int) -> TaskView:
    found = factories.view(task_id)
    assert found is not None
    return found


def audited() -> list[str]:
    return factories.sql(
        "SELECT concat_ws('|', \"user\", host, action, what, count, failed, outcome) FROM audit ORDER BY id"
    )


def test_one_task_is_canceled(wire: Wire) -> None:
    [task_id] = insert()

    answer = wire.post(f"{EXPORTS}/{task_id}/cancel")

    assert (answer.status_code, answer.content) == (204, b"")
    assert view(task_id).status is Status.CANCELED
    assert audited() == [f"local|127.0.0.1|CancelTask|{task_id}|1"]


def test_done_task_cannot_be_canceled(wire: Wire) -> None:
    task_id = factories.placed(Status.COMPLETED).task_id

    answer = wire.post(f"{EXPORTS}/{task_id}/cancel")

    assert answer.status_code == 409
    assert error_of(answer) == "Cannot cancel Task with status: COMPLETED"
    assert audited() == []


def test_all_that_match_are_canceled(wire: Wire) -> None:
    insert(3)
    [other] = insert(device="archive-b")

    answer = wire.post(f"{EXPORTS}/cancel?status=SCHEDULED&dicomDeviceName=archive-a")

    assert (answer.status_code, answer.content) == (200, b'{"count":3}')
    assert view(other).status is Status.SCHEDULED
    assert audited() == [f"local|127.0.0.1|CancelTasks|{EXPORTS}/cancel?status=SCHEDULED&dicomDeviceName=archive-a|3|0"]


def test_all_waiting_and_running_ones_are_canceled_when_all_are_meant(wire: Wire) -> None:
    done = factories.placed(Status.COMPLETED).task_id
    insert(2)

    assert wire.post(f"{EXPORTS}/cancel?all=true").content == b'{"count":2}'
    assert view(done).status is Status.COMPLETED


def test_nothing_that_matches_is_no_error(wire: Wire) -> None:
    assert wire.post(f"{EXPORTS}/cancel?status=SCHEDULED").content == b'{"count":0}'
    assert wire.delete(f"{EXPORTS}?batchID=none").content == b'{"count":0}'


def test_task_is_rescheduled_where_it_was(wire: Wire) -> None:
    task_id = factories.placed(Status.FAILED).task_id

    answer = wire.post(f"{EXPORTS}/{task_id}/reschedule")

    assert answer.status_code == 204
    assert (view(task_id).status, view(task_id).device, view(task_id).failures) == (Status.SCHEDULED, "archive-a", 0)


def test_task_is_moved_to_another_device_at_a_time(wire: Wire) -> None:
    [task_id] = insert()

    answer = wire.post(
        f"{EXPORTS}/{task_id}/reschedule?newDeviceName=archive-b&scheduledTime=20300115120000&taskPriority=8"
    )

    assert answer.status_code == 204
    moved = view(task_id)
    assert (moved.device, moved.priority) == ("archive-b", 8)
    assert moved.scheduled_time == datetime(2030, 1, 15, 11, tzinfo=UTC)  # noon in Vienna


@pytest.mark.parametrize("to", ["", "&newDeviceName=archive-a", "&newDeviceName=archive-b,archive-a"])
def test_time_that_was_read_can_be_sent_back(wire: Wire, to: str) -> None:
    # archive-b is in Tokyo, the server in Vienna.
    [task_id] = insert(device="archive-b")
    wire.post(f"{EXPORTS}/{task_id}/reschedule?scheduledTime=20300115120000{to}")

    [shown] = wire.get(f"{EXPORTS}?taskID={task_id}").json()
    digits = "".join(character for character in shown["scheduledTime"][:19] if character.isdigit())
    wire.post(f"{EXPORTS}/reschedule?dicomDeviceName={shown['dicomDeviceName']}&scheduledTime={digits}{to}")

    assert digits == "20300115120000"
    assert view(task_id).scheduled_time == datetime(2030, 1, 15, 11, tzinfo=UTC)


def test_new_exporter_leaves_the_task_on_its_device(wire: Wire) -> None:
    [task_id] = insert(device="archive-b")

    assert wire.post(f"{EXPORTS}/{task_id}/reschedule/OnlyB").status_code == 204
    assert (view(task_id).device, view(task_id).exporter_id) == ("archive-b", "OnlyB")


def test_several_new_devices_share_what_matches(wire: Wire) -> None:
    ids = insert(10)

    answer = wire.post(f"{EXPORTS}/reschedule?status=waiting&newDeviceName=archive-a&newDeviceName=archive-b")

    assert answer.content == b'{"count":10}'
    devices = [view(task_id).device for task_id in ids]
    assert (devices.count("archive-a"), devices.count("archive-b")) == (5, 5)


def test_what_is_refused_is_counted_once_and_listed(wire: Wire) -> None:
    insert(2)
    ids = insert(3, device="archive-b", exporter_id="OnlyB")

    answer = wire.post(f"{EXPORTS}/reschedule?status=waiting&newDeviceName=archive-a")

    assert answer.status_code == 202
    body = answer.json()
    assert list(body) == ["count", "failed", "refusals"]
    assert (body["count"], body["failed"]) == (2, 3)
    assert body["refusals"][0]["reason"].startswith(f"Cannot reschedule Export Task{{id={ids[0]}}}")
    assert [view(task_id).device for task_id in ids] == ["archive-b"] * 3
    assert audited()[0].endswith("|2|3")


def test_conflict_when_all_are_refused(wire: Wire) -> None:
    [task_id] = insert(device="archive-b", exporter_id="OnlyB")
    text = (
        f"Cannot reschedule Export Task{{id={task_id}}} to Exporter{{id=OnlyB}} "
        "not configured at Device{name=archive-a}"
    )

    bulk = wire.post(f"{EXPORTS}/reschedule?status=waiting&newDeviceName=archive-a")
    single = wire.post(f"{EXPORTS}/{task_id}/reschedule?newDeviceName=archive-a")

    assert (bulk.status_code, single.status_code) == (409, 409)
    assert bulk.json() == {"failed": 1, "refusals": [{"reason": text, "count": 1}]}
    assert error_of(single) == text


def test_dry_run_says_all_and_changes_nothing(wire: Wire) -> None:
    insert(4)
    insert(device="archive-b", exporter_id="OnlyB")
    before = factories.sql("SELECT updated_time FROM task ORDER BY id")

    answer = wire.post(f"{EXPORTS}/reschedule?all=true&newDeviceName=archive-a&dryrun=true")

    assert answer.status_code == 200
    found = answer.json()
    assert (found["dryrun"], found["count"], found["failed"]) == (True, 4, 1)
    assert found["byDevice"] == {"archive-a": 4}
    assert found["byStatus"] == {"SCHEDULED": 4}
    assert len(found["refusals"]) == 1
    assert factories.sql("SELECT updated_time FROM task ORDER BY id") == before
    assert audited() == []


def test_move_can_keep_time_and_failures(wire: Wire) -> None:
    task_id = factories.placed(Status.FAILED).task_id
    factories.sql("UPDATE task SET failures = 3, scheduled_time = '2030-01-01 00:00:00+00'")

    wire.post(f"{EXPORTS}/{task_id}/reschedule?newDeviceName=archive-b&keepScheduledTime=true")

    assert (view(task_id).failures, view(task_id).scheduled_time) == (3, datetime(2030, 1, 1, tzinfo=UTC))


def test_tasks_are_deleted(wire: Wire) -> None:
    [first] = insert()
    insert(2, batch_id="b")

    assert wire.delete(f"{EXPORTS}/{first}").status_code == 204
    assert wire.delete(f"{EXPORTS}?batchID=b").content == b'{"count":2}'
    assert wire.get(f"{EXPORTS}/count").json() == {"count": 0}
    assert [line.split("|")[2] for line in audited()] == ["DeleteTask", "DeleteTasks"]


def test_explain_names_every_reason(wire: Wire) -> None:
    [task_id] = insert(scheduled_time=datetime(2030, 1, 1, tzinfo=UTC))
    wire.post("/dcm4chee-arc/devices/archive-a/pause?why=new%20disk")

    found = wire.get(f"{EXPORTS}/{task_id}/explain").json()

    assert found["mayRun"] is False
    assert [one["why"] for one in found["reasons"]] == ["paused", "not due", "no worker"]
    assert found["reasons"][0]["text"] == "Device archive-a is paused by local@127.0.0.1: new disk"
    assert found["reasons"][1]["until"] == "2030-01-01T01:00:00.000+0100"


def test_explain_says_where_a_task_runs(wire: Wire) -> None:
    claimed = factories.running()

    found = wire.get(f"{EXPORTS}/{claimed.task.id}/explain").json()

    assert (found["mayRun"], found["reasons"], found["run"]["runID"]) == (True, [], claimed.run_id)


@pytest.mark.parametrize("all_of_them", ["cancel?all=true", "reschedule?all=true"])
def test_all_true_changes_everything(wire: Wire, all_of_them: str) -> None:
    insert(2)

    assert wire.post(f"{EXPORTS}/{all_of_them}").content == b'{"count":2}'
