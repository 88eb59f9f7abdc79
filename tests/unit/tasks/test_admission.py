"""May a task run now, and if not, why not: every reason by itself, and windows in the wall clock of a device."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from config.device import Device, Queue
from config.schedule import Schedule
from tasks import admission
from tasks.admission import Candidate, DestinationState, PauseState, Refusal, Why
from tasks.state import Status
from tests import factories

NOW = datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
EARLIER = NOW - timedelta(minutes=5)
VIENNA = ZoneInfo("Europe/Vienna")

TASK = Candidate(Status.SCHEDULED, "archive-a", "Export", NOW)
PAUSE = PauseState("", draining=False, who="anna@host", why="new disks", until=None)
PACS = DestinationState("dicom:PACS")


def refusals(
    task: Candidate = TASK, *, device: Device | None = None, pauses: list[PauseState] | None = None
) -> list[Refusal]:
    cluster = factories.cluster(device or factories.device())
    return admission.admissible(task, cluster, pauses or [], VIENNA, NOW)


def only(found: list[Refusal]) -> Refusal:
    assert len(found) == 1, found
    return found[0]


def device_with(**queue: Any) -> Device:
    return factories.device(queues={"Export": replace(factories.EXPORT, **queue)})


@pytest.mark.parametrize("status", [Status.SCHEDULED, Status.SCHEDULED_FOR_RETRY])
def test_due_task_of_an_open_queue_may_run(status: Status) -> None:
    assert refusals(replace(TASK, status=status)) == []


@pytest.mark.parametrize("status", [s for s in Status if not s.is_waiting])
def test_task_that_does_not_wait_may_not_run(status: Status) -> None:
    refusal = only(refusals(replace(TASK, status=status)))

    assert (refusal.why, refusal.text) == (Why.NOT_WAITING, f"the task is {status}")


def test_task_may_not_run_before_its_time_and_says_when() -> None:
    refusal = only(refusals(replace(TASK, scheduled_time=LATER)))

    assert (refusal.why, refusal.until) == (Why.NOT_DUE, LATER)
    assert LATER.isoformat() in refusal.text


def test_task_waits_for_its_earlier_run() -> None:
    assert only(refusals(replace(TASK, has_open_run=True))).why is Why.STILL_ENDING


def test_unknown_device_is_named() -> None:
    refusal = only(refusals(replace(TASK, device="archive-x")))

    assert (refusal.why, refusal.text) == (Why.UNKNOWN_DEVICE, "Device archive-x is not in the configuration")


def test_unknown_queue_is_named() -> None:
    refusal = only(refusals(replace(TASK, queue="Import")))

    assert (refusal.why, refusal.text) == (Why.UNKNOWN_QUEUE, "Device archive-a has no queue Import")


def test_foreign_device_runs_nothing() -> None:
    assert only(refusals(device=factories.device(is_ours=False))).why is Why.FOREIGN


def test_device_that_is_not_installed_runs_nothing() -> None:
    refusal = only(refusals(device=factories.device(installed=False)))

    assert refusal.why is Why.NOT_INSTALLED
    assert "archive-a" in refusal.text


def test_queue_that_is_not_installed_runs_nothing() -> None:
    refusal = only(refusals(device=device_with(installed=False)))

    assert refusal.why is Why.NOT_INSTALLED
    assert "Export" in refusal.text


@pytest.mark.parametrize("queue", ["", "Export"])
@pytest.mark.parametrize("until", [None, LATER])
def test_pause_of_the_device_or_of_the_queue_holds(queue: str, until: datetime | None) -> None:
    refusal = only(refusals(pauses=[replace(PAUSE, queue=queue, until=until)]))

    assert (refusal.why, refusal.until) == (Why.PAUSED, until)
    assert refusal.text.endswith("is paused by anna@host: new disks")
    assert ("Queue Export of device archive-a" in refusal.text) == bool(queue)


def test_draining_is_a_reason_of_its_own() -> None:
    refusal = only(refusals(pauses=[replace(PAUSE, draining=True, why=None)]))

    assert (refusal.why, refusal.text) == (Why.DRAINING, "Device archive-a is drained by anna@host")


@pytest.mark.parametrize("pause", [replace(PAUSE, queue="Retrieve"), replace(PAUSE, until=EARLIER)])
def test_pause_of_another_queue_or_of_the_past_holds_nothing(pause: PauseState) -> None:
    assert refusals(pauses=[pause]) == []


def test_pause_ends_at_its_very_end() -> None:
    assert refusals(pauses=[replace(PAUSE, until=NOW)]) == []


@pytest.mark.parametrize("until", [None, LATER])
def test_held_destination_takes_nothing(until: datetime | None) -> None:
    held = replace(PACS, held_by="anna", held_until=until)

    refusal = only(refusals(replace(TASK, destination=held)))

    assert (refusal.why, refusal.until) == (Why.HELD, until)
    assert "dicom:PACS is held by anna" in refusal.text


def test_failing_destination_takes_nothing_until_its_breaker_closes() -> None:
    refusal = only(refusals(replace(TASK, destination=replace(PACS, open_until=LATER))))

    assert (refusal.why, refusal.until) == (Why.BREAKER_OPEN, LATER)


@pytest.mark.parametrize("running", [2, 3])
def test_full_destination_takes_nothing(running: int) -> None:
    refusal = only(refusals(replace(TASK, destination=replace(PACS, cap=2, running=running))))

    assert refusal.why is Why.DESTINATION_FULL
    assert f"{running} of 2" in refusal.text


@pytest.mark.parametrize(
    "destination",
    [
        PACS,
        replace(PACS, held_by="anna", held_until=EARLIER),
        replace(PACS, open_until=EARLIER),
        replace(PACS, cap=2, running=1),
        replace(PACS, cap=None, running=99),
    ],
)
def test_destination_with_room_holds_nothing(destination: DestinationState) -> None:
    assert refusals(replace(TASK, destination=destination)) == []


def test_all_reasons_are_told_at_once() -> None:
    device = factories.device(installed=False, queues={"Export": Queue("Export", installed=False)})
    task = replace(TASK, scheduled_time=LATER, has_open_run=True, destination=replace(PACS, cap=0, held_by="anna"))

    found = refusals(task, device=device, pauses=[PAUSE])

    assert [refusal.why for refusal in found] == [
        Why.NOT_INSTALLED, Why.NOT_INSTALLED, Why.PAUSED, Why.NOT_DUE, Why.STILL_ENDING, Why.HELD,
        Why.DESTINATION_FULL,
    ]  # fmt: skip


def in_window(text: str, now: datetime, zone: str = "Europe/Vienna", *more: str) -> bool:
    device = device_with(schedules=tuple(Schedule.parse(one) for one in (text, *more)))
    found = admission.queue_refusals(
        factories.cluster(device), "archive-a", "Export", [], ZoneInfo(zone), now
    )  # fmt: skip
    assert all(refusal.why is Why.OUTSIDE_WINDOW for refusal in found)
    return not found


def test_window_goes_by_the_wall_clock_of_the_device() -> None:
    at = datetime(2026, 1, 15, 17, 30, tzinfo=UTC)

    assert in_window("hour=18-6", at, "Europe/Vienna")
    assert not in_window("hour=18-6", at, "Europe/London")


def test_window_follows_summer_time() -> None:
    winter, summer = datetime(2026, 3, 28, 17, 0, tzinfo=UTC), datetime(2026, 3, 29, 16, 0, tzinfo=UTC)

    assert in_window("hour=18", winter)
    assert in_window("hour=18", summer)
    assert not in_window("hour=18", summer - timedelta(days=1))


def test_hour_that_summer_time_leaves_out_never_comes_and_the_doubled_one_lasts_two() -> None:
    spring = [datetime(2026, 3, 29, 0, 0, tzinfo=UTC) + timedelta(minutes=m) for m in range(0, 180, 30)]
    autumn = [datetime(2026, 10, 24, 23, 0, tzinfo=UTC) + timedelta(minutes=m) for m in range(0, 240, 30)]

    assert sum(in_window("hour=2", now) for now in spring) == 0
    assert sum(in_window("hour=2", now) for now in autumn) == 4


@pytest.mark.parametrize(
    ("hour", "open_"), [(17, False), (18, True), (23, True), (0, True), (6, True), (7, False), (12, False)]
)
def test_window_wraps_around_midnight(hour: int, open_: bool) -> None:
    assert in_window("hour=18-6", datetime(2026, 1, 15, hour, 59, 59, tzinfo=UTC), "UTC") is open_


def test_day_of_the_week_is_the_devices_own() -> None:
    sunday_in_auckland = datetime(2026, 3, 7, 20, 0, tzinfo=UTC)

    assert in_window("dayOfWeek=0", sunday_in_auckland, "Pacific/Auckland")
    assert not in_window("dayOfWeek=0", sunday_in_auckland, "UTC")


def test_days_wrap_around_the_week() -> None:
    friday, sunday, tuesday = (datetime(2026, 3, d, 12, tzinfo=UTC) for d in (6, 8, 10))

    assert [in_window("dayOfWeek=5-1", day, "UTC") for day in (friday, sunday, tuesday)] == [True, True, False]


def test_any_of_several_windows_suffices() -> None:
    noon = datetime(2026, 3, 6, 12, tzinfo=UTC)

    assert in_window("hour=0-5", noon, "UTC", "hour=12")
    assert not in_window("hour=0-5", noon, "UTC", "hour=13")


def test_closed_window_is_described_with_its_zone() -> None:
    device = device_with(schedules=(Schedule.parse("hour=18-6"), Schedule.parse("dayOfWeek=0")))

    refusal = only(refusals(device=device))

    assert refusal.why is Why.OUTSIDE_WINDOW
    assert refusal.text.endswith("(Europe/Vienna)")
    assert "hour=18-6" in refusal.text
