"""Sizes and intervals in the words of the old manual."""

from __future__ import annotations

from datetime import timedelta

import pytest

from config import sizes, values


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("50MB", 50_000_000), ("1.5GB", 1_500_000_000), ("2TB", 2 * 10**12), (" 20MB ", 20_000_000)],
)
def test_size_is_in_powers_of_ten(text: str, size_bytes: int) -> None:
    minimum = sizes.parse_minimum(text)

    assert minimum is not None
    assert minimum.bytes_of(10**15) == size_bytes
    assert sizes.write_minimum(minimum) == text.strip()


def test_percentage_is_of_the_whole_file_system() -> None:
    minimum = sizes.parse_minimum("2.5%")

    assert minimum is not None
    assert minimum.bytes_of(1000) == 25


@pytest.mark.parametrize("text", ["NONE", "none", " None "])
def test_none_is_no_minimum(text: str) -> None:
    assert sizes.parse_minimum(text) is None


@pytest.mark.parametrize("text", ["", "50", "50MiB", "50 MB", "50mb", "19.9MB", "101%", "-1%", "NEVER", "1e3GB"])
def test_other_minimum_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        sizes.parse_minimum(text)


@pytest.mark.parametrize(
    ("text", "seconds", "written"),
    [("60s", 60, "1m"), ("24h", 86400, "1d"), ("7d", 604800, "1w"), ("90m", 5400, "90m"), ("0s", 0, "0s")],
)
def test_interval_is_written_in_its_largest_unit(text: str, seconds: int, written: str) -> None:
    interval = sizes.parse_interval(text)

    assert interval == timedelta(seconds=seconds)
    assert sizes.write_interval(interval) == written
    assert sizes.parse_interval(written) == interval


@pytest.mark.parametrize("text", ["", "1h30m", "1 h", "-1d", "1H", "d", "PT1H", "999999999w"])
def test_other_interval_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        sizes.parse_interval(text)


@pytest.mark.parametrize("text", ["NEVER", "never", "0s", "0w"])
def test_never_and_nothing_are_never(text: str) -> None:
    assert sizes.parse_interval_or_never(text) is None


@pytest.mark.parametrize(
    ("text", "names"),
    [("NONE", ()), ("A;B", ("A", "B")), (" A \n b/B;", ("A", "b/B")), ("A;A", ("A",))],
)
def test_groups_are_separated_by_semicolons_or_blanks(text: str, names: tuple[str, ...]) -> None:
    assert values.GROUPS.parse(text) == names
    assert values.GROUPS.parse(values.GROUPS.write(names)) == names


@pytest.mark.parametrize("text", ["", ";", "a/b/c", "/B"])
def test_other_groups_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        values.GROUPS.parse(text)
