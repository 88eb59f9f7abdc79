"""How an export ends by what became of its objects, and what a destination with failures behind it lets go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tasks import admission
from tasks.admission import DestinationState, Why
from tasks.exporters import counting
from tasks.state import Status

NOW = datetime(2026, 3, 4, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize("rule", ["FAILED", "WARNING", "COMPLETED"])
@pytest.mark.parametrize(("confirmed", "failed"), [(3, 0), (0, 0), (0, 3), (2, 1)])
def test_rule_of_the_exporter_is_for_partial_success_alone(rule: str, confirmed: int, failed: int) -> None:
    expected = {(3, 0): Status.COMPLETED, (0, 0): Status.COMPLETED, (0, 3): Status.FAILED, (2, 1): Status(rule)}

    assert counting.status_of(confirmed, failed, rule) is expected[confirmed, failed]


def test_failing_destination_is_refused_with_its_failures_and_the_last_words() -> None:
    failing = DestinationState(
        "dicom:PACS", failures=4, last_failure="PACS at h:104: no", open_until=NOW + timedelta(seconds=9)
    )

    [refusal] = admission.destination_refusals(failing, NOW)

    assert (refusal.why, refusal.until) == (Why.BREAKER_OPEN, failing.open_until)
    assert refusal.text == "Destination dicom:PACS is left alone after 4 failures in a row: PACS at h:104: no"


@pytest.mark.parametrize(
    ("cap", "gentle_cap", "running", "text"),
    [
        (4, 1, 1, "1 of 1 runs: it has failed, each run that succeeds lets one more go"),
        (None, 2, 3, "3 of 2 runs: it has failed, each run that succeeds lets one more go"),
        (1, 1, 1, "1 of 1 runs"),
        (1, 3, 1, "1 of 1 runs"),
        (4, 2, 1, None),
        (None, 1, 0, None),
    ],
)
def test_smaller_one_of_the_caps_counts(cap: int | None, gentle_cap: int, running: int, text: str | None) -> None:
    state = DestinationState("dicom:PACS", cap=cap, gentle_cap=gentle_cap, running=running)

    found = [refusal.text for refusal in admission.destination_refusals(state, NOW)]

    assert found == ([] if text is None else [f"Destination dicom:PACS has {text}"])
