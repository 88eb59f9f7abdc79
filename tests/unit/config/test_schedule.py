"""Processing windows: grammar, hours that wrap, when a window opens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.schedule import Schedule

VIENNA = ZoneInfo("Europe/Vienna")
MONDAY = datetime(2026, 11, 16, tzinfo=UTC)

schedules = st.builds(
    Schedule,
    st.frozensets(st.integers(0, 23), min_size=1),
    st.frozensets(st.integers(0, 6), min_size=1),
)

moments = st.integers(0, 10 * 366 * 24 * 60).map(
    lambda minutes: (datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)).astimezone(VIENNA)
)


@given(schedules)
def test_written_schedule_reads_as_the_same(schedule: Schedule) -> None:
    assert Schedule.parse(str(schedule)) == schedule


@given(schedules, moments)
def test_window_opens_at_the_first_full_hour_that_is_in_it(schedule: Schedule, now: datetime) -> None:
    opens = schedule.next_open(now)

    assert schedule.contains(opens)
    assert opens.astimezone(UTC) >= now.astimezone(UTC) or now.fold == 1
    step = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    while step < opens.astimezone(UTC).replace(minute=0) and now.fold == 0:
        assert not schedule.contains(step.astimezone(VIENNA))
        step += timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "hours", "days"),
    [
        ("hour=18-6 dayOfWeek=1-5", {*range(18, 24), *range(7)}, {1, 2, 3, 4, 5}),
        ("dayOfWeek=5-1", set(range(24)), {5, 6, 0, 1}),
        ("hour=0,12-13,23", {0, 12, 13, 23}, set(range(7))),
        ("dayOfWeek=0 hour=7", {7}, {0}),
    ],
)
def test_lists_and_ranges_that_wrap_are_read(text: str, hours: set[int], days: set[int]) -> None:
    schedule = Schedule.parse(text)

    assert (schedule.hours, schedule.days) == (hours, days)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "hour=24",
        "dayOfWeek=7",
        "hour=",
        "hour",
        "hour=1-",
        "hour=1 hour=2",
        "minute=1",
        "hour=1,,2",
        "hour=-1",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="hour="):
        Schedule.parse(text)


def test_range_that_wraps_names_hours_not_one_long_night() -> None:
    schedule = Schedule.parse("hour=18-6 dayOfWeek=1-5")

    assert schedule.contains(MONDAY)
    assert schedule.contains(MONDAY + timedelta(hours=6, minutes=59))
    assert not schedule.contains(MONDAY + timedelta(hours=7))
    assert not schedule.contains(MONDAY + timedelta(days=5, hours=2))


def test_sunday_is_day_0() -> None:
    assert Schedule.parse("dayOfWeek=0").contains(MONDAY - timedelta(hours=1))


def test_open_window_opens_now() -> None:
    now = MONDAY + timedelta(minutes=12)

    assert Schedule.parse("hour=0-23").next_open(now) == now


def test_closed_window_opens_in_the_evening_or_after_the_weekend() -> None:
    schedule = Schedule.parse("hour=18-6 dayOfWeek=1-5")

    assert schedule.next_open(MONDAY + timedelta(hours=9, minutes=30)) == MONDAY + timedelta(hours=18)
    assert schedule.next_open(MONDAY + timedelta(days=5, hours=3)) == MONDAY + timedelta(days=7)


def test_hour_that_the_clock_skips_opens_a_week_later() -> None:
    schedule = Schedule.parse("hour=2 dayOfWeek=0")

    opens = schedule.next_open(datetime(2026, 3, 29, 1, 30, tzinfo=VIENNA))

    assert opens == datetime(2026, 4, 5, 2, tzinfo=VIENNA)


# --- changes of the clock

QUARTER = timedelta(minutes=15)
#: Changes of an hour north and south of the equator, of half an hour, none; offsets that are no whole hours.
ZONES = ["Europe/Vienna", "America/New_York", "America/Santiago", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]
#: Within a day of a change of the clock in one of them, of each direction, and any other time.
CHANGES = [
    datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC), datetime(2026, 3, 8, 7, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC), datetime(2026, 4, 5, 3, tzinfo=UTC), datetime(2026, 9, 6, 4, tzinfo=UTC),
    datetime(2026, 4, 4, 15, tzinfo=UTC), datetime(2026, 10, 3, 15, 30, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC),
]  # fmt: skip

near_changes = st.builds(
    lambda change, quarters: change + quarters * QUARTER, st.sampled_from(CHANGES), st.integers(-150, 150)
)
wrapping = st.builds(
    lambda first, length, days: Schedule(frozenset((first + n) % 24 for n in range(length)), days),
    st.integers(0, 23), st.integers(1, 12), st.frozensets(st.integers(0, 6), min_size=1, max_size=3),
)  # fmt: skip


def first_open(schedule: Schedule, now: datetime, zone: ZoneInfo) -> datetime:
    """Return when the window opens by trying every quarter of an hour, by the clock that everybody has: UTC."""
    at = now
    while not schedule.contains(at.astimezone(zone)):
        at += QUARTER
    return at


@given(st.one_of(schedules, wrapping), near_changes, st.sampled_from(ZONES))
@settings(deadline=None, max_examples=400)
def test_window_opens_when_the_wall_clock_is_in_it_whatever_the_clock_does(
    schedule: Schedule, now: datetime, name: str
) -> None:
    zone = ZoneInfo(name)

    opens = schedule.next_open(now.astimezone(zone)).astimezone(UTC)

    assert opens == first_open(schedule, now, zone)


@given(wrapping, near_changes, st.sampled_from(ZONES))
@settings(deadline=None)
def test_window_is_open_exactly_at_its_hours_and_days_of_the_wall_clock(
    schedule: Schedule, now: datetime, name: str
) -> None:
    local = now.astimezone(ZoneInfo(name))

    is_open = schedule.contains(local)

    assert is_open == (int(f"{local:%H}") in schedule.hours and int(f"{local:%w}") in schedule.days)


def test_hour_that_comes_twice_is_open_twice() -> None:
    schedule = Schedule.parse("hour=2")
    night = datetime(2026, 10, 25, tzinfo=UTC)

    hours = [schedule.contains((night + timedelta(hours=n)).astimezone(VIENNA)) for n in range(4)]

    assert hours == [True, True, False, False]


def test_night_that_loses_an_hour_opens_at_the_one_that_follows() -> None:
    schedule = Schedule.parse("hour=2-4 dayOfWeek=0")

    opens = schedule.next_open(datetime(2026, 3, 29, 1, 30, tzinfo=VIENNA))

    assert opens.astimezone(UTC) == datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert opens.hour == 3
