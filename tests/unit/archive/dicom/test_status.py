"""What a status says, and how it is said."""

from __future__ import annotations

import pytest

from archive.dicom.status import Status


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (Status(0x0000), "0000 Success"),
        (Status(0xA700, "disk full"), "A700 Refused: Out of Resources (disk full)"),
        (Status(0xA7FF), "A7FF Refused: Out of Resources"),
        (Status(0xA901), "A901 Error: Data Set Does Not Match SOP Class"),
        (Status(0xB006), "B006 Warning: Elements Discarded"),
        (Status(0xC123), "C123 Error: Cannot Understand"),
        (Status(0x0122), "0122 Refused: SOP Class Not Supported"),
        (Status(0x4242), "4242 Failure"),
    ],
)
def test_status_is_said_with_code_name_and_comment(status: Status, text: str) -> None:
    assert (status.text, str(status)) == (text, text)


@pytest.mark.parametrize("code", [0x0001, 0x0107, 0x0116, 0xB000, 0xB007])
def test_warning_is_neither_success_nor_failure(code: int) -> None:
    status = Status(code)

    assert (status.is_success, status.is_warning, status.is_failure) == (False, True, False)


@pytest.mark.parametrize("code", [0x0110, 0x0111, 0x0211, 0xA700, 0xA900, 0xC000, 0xFE00, 0xFF00, 0x1234])
def test_whatever_is_no_success_and_no_warning_is_a_failure(code: int) -> None:
    assert Status(code).is_failure


@pytest.mark.parametrize(("code", "expected"), [(0xA700, True), (0xA7FF, True), (0xA900, False), (0x0213, False)])
def test_all_codes_of_out_of_resources_are_known_as_that(code: int, expected: bool) -> None:
    assert Status(code).is_out_of_resources is expected
