"""Times, ranges and lines of CSV on the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from api.answers import BadRequest
from api.rest import times
from api.rest.shape import csv_line

VIENNA = ZoneInfo("Europe/Vienna")
TICK = timedelta(microseconds=1)


def vienna(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=VIENNA).astimezone(UTC)  # type: ignore[misc, arg-type]


def test_time_is_written_with_milliseconds_and_an_offset_without_colon() -> None:
    assert times.written(vienna(2026, 8, 20, 14, 5, 9, 123999), VIENNA) == "2026-08-20T14:05:09.123+0200"
    assert times.written(vienna(2026, 1, 20), VIENNA) == "2026-01-20T00:00:00.000+0100"
    assert times.written_as_sql(vienna(2026, 8, 20, 14, 5, 9), VIENNA) == "2026-08-20 14:05:09.000"


@pytest.mark.parametrize("hour", range(24))
def test_every_hour_of_a_scheduled_time_is_what_it_says(hour: int) -> None:
    assert times.scheduled(f"20260820{hour:02}3005", VIENNA) == vienna(2026, 8, 20, hour, 30, 5)


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("2026", vienna(2026, 1, 1), vienna(2027, 1, 1) - TICK),
        ("202612", vienna(2026, 12, 1), vienna(2027, 1, 1) - TICK),
        ("202602", vienna(2026, 2, 1), vienna(2026, 3, 1) - TICK),
        ("20260329", vienna(2026, 3, 29), vienna(2026, 3, 30) - TICK),
        ("2026082014", vienna(2026, 8, 20, 14), vienna(2026, 8, 20, 15) - TICK),
        ("20260820140509.1", vienna(2026, 8, 20, 14, 5, 9, 100000), vienna(2026, 8, 20, 14, 5, 9, 199999)),
        ("20260820-", vienna(2026, 8, 20), None),
        ("-20260820", None, vienna(2026, 8, 21) - TICK),
        ("20260820-20260821", vienna(2026, 8, 20), vienna(2026, 8, 22) - TICK),
        ("2026082012+0000", vienna(2026, 8, 20, 14), vienna(2026, 8, 20, 15) - TICK),
    ],
)
def test_range_means_the_whole_of_its_precision(text: str, begin: datetime | None, end: datetime | None) -> None:
    assert times.dt_range("createdTime", text, VIENNA) == (begin, end)


@given(st.text(alphabet="0123456789.-+ T:", max_size=24))
def test_any_text_is_a_range_or_a_bad_request(text: str) -> None:
    try:
        found = times.dt_range("createdTime", text, VIENNA)
    except BadRequest:
        return
    assert found != (None, None)


@given(
    st.tuples(*[st.none() | st.datetimes(min_value=datetime(1001, 1, 1), max_value=datetime(9998, 1, 1))] * 2),  # noqa: DTZ001
    st.sampled_from([1, 1000, 1_000_000]),
)
def test_range_that_is_written_is_the_same_in_every_zone(
    ends: tuple[datetime | None, datetime | None], precision: int
) -> None:
    low, high = (at and at.replace(microsecond=at.microsecond // precision * precision, tzinfo=UTC) for at in ends)
    high = high and high + timedelta(microseconds=precision) - TICK
    assume((low, high) != (None, None))

    assert times.dt_range("createdTime", times.as_dt_range((low, high)), VIENNA) == (low, high)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("20260820", "20260819220000+0000-20260820215959+0000"),
        ("20260820140509.1-", "20260820120509.100+0000-"),
        ("-20260820140509.1234", "-20260820120509.123499+0000"),
    ],
)
def test_range_is_written_as_precisely_as_it_must_be(text: str, written: str) -> None:
    assert times.as_dt_range(times.dt_range("createdTime", text, VIENNA)) == written


@given(st.text(max_size=16))
def test_any_text_is_a_scheduled_time_or_a_bad_request(text: str) -> None:
    try:
        found = times.scheduled(text, VIENNA)
    except BadRequest:
        return
    assert found.tzinfo is UTC


def test_csv_quotes_all_but_what_is_absent() -> None:
    assert csv_line(["a", None, "", 'b"c', "d;e\n"], ";") == '"a";;"";"b""c";"d;e\n"\r\n'
