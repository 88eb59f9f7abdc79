"""Every cell of the state table, written out once more by hand."""

from __future__ import annotations

import pytest

from tasks import state
from tasks.state import Event, Status

_GONE = "gone"

#: Rows: event; columns: SCHEDULED, SCHEDULED FOR RETRY, IN PROCESS, COMPLETED, WARNING, FAILED, CANCELED.
#: "-" no arrow. Source: facts of dcm4chee-arc 1.4 and the table of corners in docs/decisions.
_GRID = """
create      -                   -                   -                   -         -         -         -
claim       IN_PROCESS          IN_PROCESS          -                   -         -         -         -
succeed     -                   -                   COMPLETED           -         -         -         -
warn        -                   -                   WARNING             -         -         -         -
fail        -                   -                   FAILED              -         -         -         -
retry       -                   -                   SCHEDULED_FOR_RETRY -         -         -         -
drop        -                   -                   CANCELED            -         -         -         -
lose        -                   -                   SCHEDULED_FOR_RETRY -         -         -         -
give_back   -                   -                   SCHEDULED           -         -         -         -
cancel      CANCELED            CANCELED            CANCELED            -         -         -         -
reschedule  SCHEDULED           SCHEDULED           SCHEDULED           SCHEDULED SCHEDULED SCHEDULED SCHEDULED
delete      gone                gone                gone                gone      gone      gone      gone
"""

_STATUSES = (
    Status.SCHEDULED,
    Status.SCHEDULED_FOR_RETRY,
    Status.IN_PROCESS,
    Status.COMPLETED,
    Status.WARNING,
    Status.FAILED,
    Status.CANCELED,
)


def _cells() -> list[tuple[Status, Event, str]]:
    found = []
    for line in _GRID.strip().splitlines():
        name, *cells = line.split()
        assert len(cells) == len(_STATUSES)
        found += [(status, Event[name.upper()], cell) for status, cell in zip(_STATUSES, cells, strict=True)]
    return found


def test_grid_of_this_test_covers_every_status_and_event() -> None:
    assert {(status, event) for status, event, _ in _cells()} == {(s, e) for s in Status for e in Event}


@pytest.mark.parametrize(("status", "event", "cell"), _cells())
def test_cell_is_as_the_table_says(status: Status, event: Event, cell: str) -> None:
    if cell == "-":
        assert not state.may(status, event)
        with pytest.raises(KeyError):
            state.next_status(status, event)
    else:
        assert state.may(status, event)
        expected = None if cell == _GONE else Status[cell]
        assert state.next_status(status, event) == expected


@pytest.mark.parametrize("came_from", [Status.SCHEDULED, Status.SCHEDULED_FOR_RETRY])
def test_given_back_task_has_the_status_that_it_came_from(came_from: Status) -> None:
    assert state.next_status(Status.IN_PROCESS, Event.GIVE_BACK, came_from=came_from) is came_from


@pytest.mark.parametrize("event", [event for event in Event if event is not Event.GIVE_BACK])
def test_origin_of_a_run_changes_no_other_event(event: Event) -> None:
    for status in Status:
        if state.may(status, event):
            assert state.next_status(status, event, came_from=Status.SCHEDULED_FOR_RETRY) == state.next_status(
                status, event
            )


def test_done_waiting_and_running_are_all_statuses_and_share_none() -> None:
    assert state.DONE | state.WAITING | {Status.IN_PROCESS} == set(Status)
    assert not state.DONE & state.WAITING
    for status in Status:
        assert status.is_done == (status in state.DONE)
        assert status.is_waiting == (status in state.WAITING)


def test_only_reports_leave_in_process_by_themselves() -> None:
    leaving = {event for event in Event if state.may(Status.IN_PROCESS, event)}

    assert leaving - state.REPORTS == {Event.CANCEL, Event.RESCHEDULE, Event.DELETE}
    for event in state.REPORTS:
        assert [s for s in Status if state.may(s, event)] == [Status.IN_PROCESS]


def test_statuses_are_spelled_as_on_the_wire_of_the_original() -> None:
    assert [status.value for status in _STATUSES] == [
        "SCHEDULED", "SCHEDULED FOR RETRY", "IN PROCESS", "COMPLETED", "WARNING", "FAILED", "CANCELED",
    ]  # fmt: skip
