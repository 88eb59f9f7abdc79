"""What a kept bulk call asks for is read as it was written."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tasks.moving import Change
from tasks.query import TaskQuery
from tasks.state import Status
from tasks.wish import Action, Wish

WHEN = datetime(2026, 8, 20, 12, 5, 9, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    "wish",
    [
        Wish(Action.DELETE, TaskQuery()),
        Wish(Action.CANCEL, TaskQuery(statuses=(Status.SCHEDULED_FOR_RETRY,), ids=(1, 2**62), requester_user="Ä")),
        Wish(
            Action.RESCHEDULE,
            TaskQuery(
                kinds=("DIFF",), queues=("a",), created=(WHEN, None), updated=(None, WHEN),
                params=(("checkMissing", False), ("comparefield", "true")),
            ),
            Change(devices=("archive-b", "archive-a"), scheduled_time=WHEN, keep_scheduled_time=True, priority=9),
        ),
    ],
)  # fmt: skip
def test_wish_is_read_as_it_was_written(wish: Wish) -> None:
    assert Wish.of_json(wish.to_json()) == wish
