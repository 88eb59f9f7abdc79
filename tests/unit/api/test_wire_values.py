"""Times, ranges and lines of CSV on the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
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


@given(st.text(max_size=16))
def test_any_text_is_a_scheduled_time_or_a_bad_request(text: str) -> None:
    try:
        found = times.scheduled(text, VIENNA)
    except BadRequest:
        return
    assert found.tzinfo is UTC


def test_csv_quotes_all_but_what_is_absent() -> None:
    assert csv_line(["a", None, "", 'b"c', "d;e\n"], ";") == '"a";;"";"b""c";"d;e\n"\r\n'
