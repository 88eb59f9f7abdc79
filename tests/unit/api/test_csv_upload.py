"""CSV that is uploaded: which lines name what, and what is said of the others."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.answers import BadRequest
from api.rest.creation.upload import Body, Upload, column
from archive.query import Entity

STUDY = ("StudyInstanceUID", 1)
NOBODY: Any = None

uids = st.lists(st.integers(0, 999), min_size=1, max_size=8).map(lambda parts: ".".join(map(str, parts)))


def upload(text: str | bytes, *columns: tuple[str, int], delimiter: str = ",") -> Upload:
    body = text if isinstance(text, bytes) else text.encode()
    return Upload(Body(io.BytesIO(body), delimiter, ""), columns or (STUDY,))


def studies(csv: Upload, step: int = 100) -> list[Entity]:
    """Read all, in steps, as the tasks are made."""
    found: list[Entity] = []
    position = ""
    while part := csv.after(NOBODY, position, step):
        found += [entity for _, entity in part]
        position = part[-1][0]
    return found


def error(csv: Upload) -> str:
    with pytest.raises(BadRequest) as raised:
        csv.check()
    return str(raised.value)


@pytest.mark.parametrize(
    "text", ["1.2\n1.3\n", "1.2\r\n1.3", '"1.2"\r\n"1.3"\r\n', "\ufeff1.2\n\n , \n1.3\n", " 1.2 ,x\n1.3"]
)
def test_lines_name_studies(text: str) -> None:
    csv = upload(text)

    assert csv.check() == 2
    assert studies(csv) == [Entity("1.2"), Entity("1.3")]


def test_header_is_left_out() -> None:
    assert studies(upload("StudyInstanceUID\n1.2\n")) == [Entity("1.2")]


def test_first_line_with_a_damaged_uid_is_no_header() -> None:
    assert error(upload("1.2.x\n1.3\n")).startswith("1 of 2 lines cannot be used, no task was made: line 1: ")


def test_second_header_is_an_error() -> None:
    assert "line 3: StudyInstanceUID 'Study'" in error(upload("Study\n1.2\nStudy\n"))


def test_series_are_in_a_column_of_their_own() -> None:
    csv = upload("patient;series;study\nA;1.5;1.2\n", ("StudyInstanceUID", 3), ("SeriesInstanceUID", 2), delimiter=";")

    assert studies(csv) == [Entity("1.2", "1.5")]


def test_line_without_the_column_is_named() -> None:
    said = error(upload("1.2,a,7x\n1.3\n1,2,3\n", ("StudyInstanceUID", 3)))

    assert "line 1: StudyInstanceUID '7x' in column 3" in said
    assert "line 2: has 1 columns, expected the StudyInstanceUID in column 3" in said


def test_series_that_is_missing_is_named() -> None:
    csv = upload("1.2,1.5\n1.2,\n", STUDY, ("SeriesInstanceUID", 2))

    assert "line 2: SeriesInstanceUID ''" in error(csv)


def test_number_of_a_line_counts_those_within_quotes() -> None:
    assert "line 4: " in error(upload('1.2,"a\nb"\n1.3,c\nbad,d\n'))


def test_only_the_first_of_many_bad_lines_are_named() -> None:
    said = error(upload("1.2\n" + "bad\n" * 25))

    assert said.startswith("25 of 26 lines cannot be used")
    assert said.count("line ") == 10
    assert said.endswith("; and 15 more")


def test_open_quote_is_an_error_of_its_line() -> None:
    assert "line 2: is no CSV" in error(upload('1.2\n"1.3\n'))


def test_other_delimiter_than_announced_leaves_nothing_that_can_be_used() -> None:
    csv = upload("1.2;a\n", delimiter=",")

    assert csv.check() == 0
    assert csv.nothing.startswith("1 of 1 lines cannot be used, no task was made: line 1: ")


def test_other_columns_may_be_in_any_character_set() -> None:
    assert studies(upload("1.2,M\xfcller\n".encode("latin-1"))) == [Entity("1.2")]


def test_empty_and_header_alone_name_nothing() -> None:
    assert upload("").check() == 0
    assert upload("StudyInstanceUID\n").check() == 0
    assert studies(upload("StudyInstanceUID\n")) == []


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "1.5", "1001", "99999999999999"])
def test_column_is_a_number_from_one(text: str) -> None:
    with pytest.raises(BadRequest, match="number of the column"):
        column("StudyInstanceUID", text)


@given(st.lists(uids, max_size=40), st.integers(1, 7), st.integers(0, 45))
def test_reading_goes_on_behind_any_line(lines: list[str], step: int, behind: int) -> None:
    text = "".join(f"{uid}\n" for uid in lines)

    assert studies(upload(text), step) == [Entity(uid) for uid in lines]
    rest = upload(text).after(NOBODY, str(behind), 100) if behind else []
    assert [entity for _, entity in rest] == [Entity(uid) for uid in lines[behind:] if behind]
