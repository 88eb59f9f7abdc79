"""Filters know whether they filter, and outcomes are final ones only."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest

from tasks.outcome import Outcome
from tasks.query import TaskQuery
from tasks.state import Status

WHEN = datetime(2026, 1, 1, tzinfo=UTC)

#: A value for each field of a filter.
SET: dict[str, Any] = {
    "ids": (1,),
    "kinds": ("EXPORT",),
    "devices": ("archive-a",),
    "queues": ("Export",),
    "statuses": (Status.FAILED,),
    "batch_id": "b",
    "exporter_ids": ("Noop",),
    "local_aet": "A",
    "remote_aet": "B",
    "destination_aet": "C",
    "study_uid": "1.2",
    "created": (WHEN, None),
    "updated": (None, WHEN),
    "requester_user": "anna",
    "params": (("checkMissing", True),),
}

FROM_PATH = {"kinds", "queues"}


def test_every_field_of_a_filter_is_tried_here() -> None:
    assert set(SET) == {field.name for field in fields(TaskQuery)}


def test_empty_filter_matches_all_and_says_so() -> None:
    assert TaskQuery().is_unfiltered
    assert TaskQuery().conditions() == []


@pytest.mark.parametrize("name", sorted(set(SET) - FROM_PATH))
def test_any_field_that_is_set_filters(name: str) -> None:
    query = TaskQuery(kinds=("EXPORT",), **{name: SET[name]})

    assert not query.is_unfiltered
    assert len(query.conditions()) == 2


def test_kind_and_queue_of_the_path_are_no_filter_but_narrow_it_down() -> None:
    query = TaskQuery(**{name: SET[name] for name in FROM_PATH})

    assert query.is_unfiltered
    assert len(query.conditions()) == 2


def test_empty_values_filter_nothing() -> None:
    query = TaskQuery(devices=(), batch_id=None, created=(None, None))

    assert query.is_unfiltered
    assert query.conditions() == []


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.WARNING, Status.FAILED])
def test_outcome_is_what_a_handler_can_hand_back(status: Status) -> None:
    assert Outcome(status, "text").status is status


@pytest.mark.parametrize(
    "status", [Status.SCHEDULED, Status.SCHEDULED_FOR_RETRY, Status.IN_PROCESS, Status.CANCELED]
)  # fmt: skip
def test_outcome_cannot_be_a_status_that_is_not_a_handlers(status: Status) -> None:
    with pytest.raises(ValueError, match=f"an outcome is COMPLETED, WARNING or FAILED, not {status}"):
        Outcome(status, "text")
