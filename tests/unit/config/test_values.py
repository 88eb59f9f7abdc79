"""Values of attributes: what is written reads as the same, anything else is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import values
from config.device import FileSystem
from config.values import Codec

plain = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1)


@given(st.timedeltas(timedelta(0), timedelta(days=10_000)))
def test_duration_round_trip(value: timedelta) -> None:
    assert values.parse_duration(values.write_duration(value)) == value


@given(st.integers(1, 65535))
def test_port_round_trip(value: int) -> None:
    assert values.PORT.parse(values.PORT.write(value)) == value


@given(st.booleans())
def test_boolean_round_trip(value: bool) -> None:
    assert values.BOOLEAN.parse(values.BOOLEAN.write(value)) is value


@given(plain.filter(lambda name: "=" not in name), st.text())
def test_property_round_trip(name: str, value: str) -> None:
    assert values.PROPERTY.parse(values.PROPERTY.write((name, value))) == (name, value)


@given(plain, st.lists(plain.filter(lambda name: not set(name) & set(",|\\=")), max_size=3))
def test_file_system_round_trip(path: str, shared: list[str]) -> None:
    value = FileSystem(path, tuple(shared))

    assert values.FILE_SYSTEM.parse(values.FILE_SYSTEM.write(value)) == value


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT30S", 30), ("PT10M", 600), ("P1D", 86400), ("P1DT2H3M4.5S", 93784.5), ("pt1h", 3600), ("PT0S", 0)],
)
def test_durations_of_the_shipped_configuration_are_read(text: str, seconds: float) -> None:
    assert values.parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        *[
            (values.DURATION, text)
            for text in (
                "30",
                "30s",
                "P",
                "PT",
                "P1DT",
                "PT-1S",
                "P1W",
                "P1Y",
                "",
                "PT1S1M",
                "P٣D",
                "P" + "9" * 12 + "D",
            )
        ],
        (values.duration(timedelta(seconds=1)), "PT0S"),
        (values.BOOLEAN, "yes"),
        (values.PORT, "0"),
        (values.PORT, "65536"),
        (values.PORT, "1_0"),
        (values.PORT, "٣"),
        (values.AE_TITLE, "SEVENTEEN_LETTERS"),
        (values.AE_TITLE, "BACK\\SLASH"),
        (values.AE_TITLE, " "),
        (values.UID, "1.02"),
        (values.UID, "1." * 32 + "1"),
        (values.URI, "PACS"),
        (values.URI, "file:with blank"),
        (values.PROPERTY, "=value"),
        (values.PROPERTY, "name"),
        (values.TIME_ZONE, "Europe"),
        (values.TIME_ZONE, "../etc/passwd"),
        (values.TIME_ZONE, "Mars/Olympus"),
        (values.TEXT, " "),
        (values.FILE_SYSTEM, "|sharedWith=b"),
        (values.FILE_SYSTEM, "a|sharedwidth=b"),
        (values.FILE_SYSTEM, "a|sharedWith="),
        (values.FILE_SYSTEM, "a|sharedWith=b,,c"),
        (values.FILE_SYSTEM, "a|sharedWith=b|sharedWith=c"),
        (values.FILE_SYSTEM, "a|"),
        (values.FILE_SYSTEM, "back\\slash"),
    ],
)
def test_anything_else_is_refused(codec: Codec[Any], text: str) -> None:
    with pytest.raises(ValueError):
        codec.parse(text)


def test_file_system_may_have_bars_and_backslashes_in_its_path() -> None:
    assert values.FILE_SYSTEM.parse(r"a\|b\\|sharedWith=x") == FileSystem("a|b\\", ("x",))


def test_web_path_gets_the_slash_that_the_original_adds() -> None:
    assert values.WEB_PATH.parse("dcm4chee-arc") == "/dcm4chee-arc"
