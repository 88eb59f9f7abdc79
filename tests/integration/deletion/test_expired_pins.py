"""A task that waits for so long that it does not keep its study any more is told of, once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from tasks import alarms
from tests import factories
from tests.lab.deletable import House
from workers import housekeeping

STUDY = "1.2.3"


def waiting_since(days: float) -> int:
    """Insert a task that reads the study and should have begun so many days ago."""
    [task] = factories.insert(study_uid=STUDY, scheduled_time=datetime.now(UTC) - timedelta(days=days))
    return task.id


def told(house: House) -> list[str]:
    """Run the job of beat; returns what was said of it in the log."""
    with capture_logs() as logs:
        alarms.tell_expired_pins(house.device)
    return [line["text"] for line in logs if line["event"] == "alarm"]


def standing() -> list[str]:
    return factories.sql("SELECT subject FROM alarm ORDER BY 1")


@pytest.fixture(autouse=True)
def _none(house: House) -> None:
    factories.sql("DELETE FROM alarm")
    house.deletable(STUDY)


def test_pin_that_has_expired_raises_one_alarm(house: House) -> None:
    task = waiting_since(8)

    [said] = told(house)

    assert said.startswith(f"Task {task} (EXPORT on archive-a, queue Export) waits since 2")
    assert said.endswith(
        f"longer than 7 days: it does not keep study {STUDY} in group ONLINE_STORAGE of device archive-a from deletion "
        "any more"
    )
    assert told(house) == []
    assert standing() == [f"task {task}"]


def test_pin_that_stands_raises_none(house: House) -> None:
    waiting_since(6)

    assert told(house) == []


def test_task_of_a_study_that_is_not_here_raises_none(house: House) -> None:
    factories.insert(study_uid="1.2.4", scheduled_time=datetime.now(UTC) - timedelta(days=8))

    assert told(house) == []


def test_alarm_of_a_task_that_is_done_is_cleared(house: House) -> None:
    task = waiting_since(8)
    told(house)

    factories.change(factories.Event.CANCEL, task)
    told(house)

    assert standing() == []


def test_beat_lets_it_be_told(house: House) -> None:
    assert ("archive-a", "", "tell_expired_pins") in housekeeping.wanted(housekeeping.configuration.current())
    waiting_since(8)

    housekeeping.run("archive-a", "", "tell_expired_pins")

    assert factories.sql("SELECT result FROM housekeeping_job WHERE job = 'tell_expired_pins'") == [
        "1 alarms raised, 0 cleared"
    ]
