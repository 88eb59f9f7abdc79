"""Another service asks by a message that a study is deleted: only where the group allows it, and once."""

from __future__ import annotations

from typing import Any

import pytest

from archive.deletion import reports
from tasks import intake
from tasks.intake import Answer, Message
from tests import factories
from tests.lab import deletable
from tests.lab.deletable import ONLINE, House

STUDY = "1.2.3"
SAID = {
    "version": 1, "requester": "ris", "dicomDeviceName": "archive-a", "fileSystemGroupID": ONLINE,
    "studyInstanceUID": STUDY,
}  # fmt: skip


def ask(message_id: str = "m-1", **changes: Any) -> Answer:
    reports.look("archive-a")
    return intake.accept(Message(message_id, "schedule.deletion", "DELETE_STUDY", {**SAID, **changes}, "ris-1"))


@pytest.fixture
def open_house(house: House) -> House:
    """Disks of a device whose online group lets messages delete, and no audit of tests before."""
    house.configure(allow_deletion_by_message=True)
    factories.sql("DELETE FROM audit")
    return house


def test_group_that_does_not_allow_it_refuses(house: House) -> None:
    house.deletable(STUDY)

    answer = ask()

    assert answer.refused == (
        "Group ONLINE_STORAGE of device archive-a: studies cannot be deleted by a message, "
        "arcAllowDeletionByMessage is FALSE"
    )
    assert (house.marks(), factories.views()) == ([], [])


def test_study_is_deleted_and_the_ledger_names_the_requester(open_house: House) -> None:
    open_house.deletable(STUDY)
    paths = open_house.files(STUDY)

    answer = ask()
    open_house.run_all()

    [task] = factories.views()
    assert (answer.task_ids, answer.refused) == ((task.id,), None)
    assert (task.requester_user, task.requester_host, task.request_uri) == ("ris", "ris-1", "schedule.deletion m-1")
    assert not any(path.exists() for path in paths)
    assert [row.who for row in deletable.deletions_written()] == ["ris@ris-1"]
    assert factories.sql(
        'SELECT ROW("user", host, action, what, count)::text FROM audit'
    ) == ['(ris,ris-1,ScheduleStudyForDeletion,"schedule.deletion m-1",1)']  # fmt: skip


def test_second_delivery_marks_nothing_again(open_house: House) -> None:
    open_house.deletable(STUDY)
    first = ask()
    open_house.run_all()
    open_house.deletable(STUDY)

    second = ask()

    assert (second.task_ids, second.repeated) == (first.task_ids, True)
    assert open_house.marks() == []


def test_what_keeps_a_study_from_an_operator_keeps_it_from_a_message(open_house: House) -> None:
    open_house.store(STUDY)

    answer = ask()

    assert "AllowDeletingLastCopy" in str(answer.refused)
    assert open_house.marks() == []
    assert factories.sql("SELECT count(*) FROM audit") == [0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"studyInstanceUID": "9.9"}, "No such Study: 9.9"),
        ({"fileSystemGroupID": "GONE"}, "Device archive-a: no group 'GONE', expected one of ONLINE_STORAGE, NEARLINE_"),
        ({"dicomDeviceName": "archive-x"}, "Unknown Device: archive-x"),
        ({"scheduledTime": "2030-01-01T00:00:00Z"}, "scheduledTime is unknown"),
    ],
)
def test_what_is_not_there_is_named(open_house: House, changes: dict[str, Any], reason: str) -> None:
    assert reason in str(ask(**changes).refused)
