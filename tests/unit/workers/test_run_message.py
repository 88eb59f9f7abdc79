"""What a message of a run must look like, and what ids and channels are called."""

from __future__ import annotations

import pytest

from tasks.slots import Reservation
from workers import queues
from workers.queues import MESSAGE_VERSION, RunMessage

RESERVATION = Reservation(7, 42, "t", "EXPORT", "archive-a", "Export", "1.2.3")


def test_message_of_our_dispatch_is_read() -> None:
    assert RunMessage.of((MESSAGE_VERSION, 42, 7, "token")) == RunMessage(42, 7, "token")


@pytest.mark.parametrize(
    "args",
    [
        (),
        (MESSAGE_VERSION,),
        (MESSAGE_VERSION, 42, 7),
        (MESSAGE_VERSION, 42, 7, "token", "more"),
        (MESSAGE_VERSION + 1, 42, 7, "token"),
        (0, 42, 7, "token"),
        (str(MESSAGE_VERSION), 42, 7, "token"),
        (MESSAGE_VERSION, "42", 7, "token"),
        (MESSAGE_VERSION, 42, None, "token"),
        (MESSAGE_VERSION, 42, 7, 8),
    ],
)
def test_message_that_is_not_ours_is_refused(args: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match=rf"has {len(args)} arguments, version .*expected version {MESSAGE_VERSION}"):
        RunMessage.of(args)


def test_id_of_a_message_names_task_and_run_and_is_read_back() -> None:
    name = queues.celery_task_id(RESERVATION)

    assert name == "42.7"
    assert queues.ids_of(name) == (42, 7)


@pytest.mark.parametrize("other", ["", "42", "42.", ".7", "a.7", "42.b", "0b3f-11.x", "42.7.1", "-42.7"])
def test_id_of_another_message_names_no_run(other: str) -> None:
    assert queues.ids_of(other) is None


def test_channels_are_the_device_and_its_housekeeping() -> None:
    assert queues.channel_of("archive-a") == queues.channel_for("EXPORT", "archive-a") == "archive-a"
    assert queues.channel_of("archive-a", housekeeping=True) == "archive-a.housekeeping"


def test_arguments_that_flower_shows_hold_no_patient() -> None:
    assert queues.shown_arguments(RESERVATION) == "task 42, archive-a, study 1.2.3"
    assert queues.celery_task_name("EXPORT") == "run.export"
