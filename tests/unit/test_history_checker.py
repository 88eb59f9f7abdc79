"""The history checker finds every sort of fault: it is shown a sound history, and that history broken."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tasks.history import Transition
from tests.lab.checker import Evidence, Mark, RunFacts, Wrong, faults

_START = datetime(2026, 1, 1, tzinfo=UTC)
TASK, FIRST, SECOND = 7, 101, 102


def at(seconds: float) -> datetime:
    return _START + timedelta(seconds=seconds)


def step(seq: int, event: str, path: str, run: int | None = None, task: int = TASK) -> Transition:
    """Return a transition; the path is `from>to`, each by its first letter as in `_STATUS`, `-` for none."""
    before, after = (_STATUS[letter] for letter in path.split(">"))
    return Transition(seq, task, at(seq), event, before, after, "archive-a", "archive-a", run, "somebody", None, None)


_STATUS = {
    "-": None,
    "S": "SCHEDULED",
    "R": "SCHEDULED FOR RETRY",
    "P": "IN PROCESS",
    "C": "COMPLETED",
    "F": "FAILED",
    "X": "CANCELED",
}


def run(run_id: int, began: float, ended: float | None, ending: str | None, **other: object) -> RunFacts:
    sound = RunFacts(
        run_id, TASK, "archive-a", "Export", 1, "SCHEDULED", at(began), at(began + 0.1),
        None if ended is None else at(ended), ending,
    )  # fmt: skip
    return replace(sound, **other)  # type: ignore[arg-type]


def begin(run_id: int, second: float, task: int = TASK) -> Mark:
    return Mark("begin", int(second * 1e9), task, run_id, 4711, "1.2.3")


def sound() -> Evidence:
    """A task whose first run was lost and whose second completed."""
    return Evidence(
        statuses={TASK: "COMPLETED"},
        transitions=[
            step(1, "create", "->S"),
            step(2, "claim", "S>P", FIRST),
            step(3, "lose", "P>R", FIRST),
            step(4, "claim", "R>P", SECOND),
            step(5, "succeed", "P>C", SECOND),
        ],
        runs=[
            run(FIRST, 2, 3, "lost"),
            run(SECOND, 4, 5, "completed", came_from="SCHEDULED FOR RETRY"),
        ],
        marks=[begin(FIRST, 2.2), begin(FIRST, 2.8), begin(SECOND, 4.2), begin(SECOND, 4.8)],
        limits={("archive-a", "Export"): 1},
    )


def kinds_of_faults(evidence: Evidence, *, all_done: bool = True) -> set[Wrong]:
    return {fault.wrong for fault in faults(evidence, all_done=all_done)}


def test_sound_history_has_no_fault() -> None:
    assert faults(sound()) == []


def test_every_transition_that_the_table_lacks_is_found() -> None:
    evidence = replace(
        sound(), transitions=[*sound().transitions, step(6, "cancel", "C>X")], statuses={TASK: "CANCELED"}
    )

    assert kinds_of_faults(evidence) == {Wrong.NO_SUCH_ARROW}


def test_arrow_to_another_status_than_the_table_says_is_found() -> None:
    steps = [*sound().transitions[:4], step(5, "succeed", "P>F", SECOND)]
    evidence = replace(sound(), transitions=steps, statuses={TASK: "FAILED"})

    assert kinds_of_faults(evidence) == {Wrong.NO_SUCH_ARROW}


def test_task_given_back_to_another_status_than_it_came_from_is_found() -> None:
    evidence = Evidence(
        {TASK: "SCHEDULED"},
        [step(1, "create", "->S"), step(2, "claim", "S>P", FIRST), step(3, "give back", "P>R", FIRST)],
        [run(FIRST, 2, 3, "given back")],
    )

    assert Wrong.NO_SUCH_ARROW in kinds_of_faults(
        replace(evidence, statuses={TASK: "SCHEDULED FOR RETRY"}), all_done=False
    )


def test_transition_that_does_not_begin_where_the_last_one_ended_is_found() -> None:
    missing = [step for step in sound().transitions if step.seq != 3]

    assert Wrong.GAP in kinds_of_faults(replace(sound(), transitions=missing))


def test_transition_of_a_deleted_task_is_found() -> None:
    steps = [step(1, "create", "->S"), step(2, "delete", "S>-"), step(3, "claim", "S>P", FIRST)]
    evidence = Evidence({TASK: "IN PROCESS"}, steps, [run(FIRST, 3, None, None)])

    assert Wrong.GAP in kinds_of_faults(evidence, all_done=False)


def test_row_that_differs_from_its_history_is_found() -> None:
    assert kinds_of_faults(replace(sound(), statuses={TASK: "FAILED"})) == {Wrong.OTHER_END}


def test_row_without_history_is_found() -> None:
    assert kinds_of_faults(replace(sound(), statuses={TASK: "COMPLETED", 8: "COMPLETED"})) == {Wrong.OTHER_END}


def test_lost_task_is_found() -> None:
    assert kinds_of_faults(replace(sound(), statuses={})) == {Wrong.LOST}


def test_deleted_task_is_not_a_lost_one() -> None:
    steps = [step(1, "create", "->S"), step(2, "delete", "S>-")]

    assert faults(Evidence({}, steps, [])) == []


def test_task_that_did_not_end_is_found_where_all_must_have() -> None:
    evidence = Evidence({TASK: "SCHEDULED"}, [step(1, "create", "->S")], [])

    assert kinds_of_faults(evidence) == {Wrong.NOT_DONE}
    assert faults(evidence, all_done=False) == []


def test_task_in_process_whose_run_has_ended_is_found() -> None:
    steps = sound().transitions[:2]
    evidence = Evidence({TASK: "IN PROCESS"}, steps, [run(FIRST, 2, 3, "stopped")])

    assert kinds_of_faults(evidence, all_done=False) == {Wrong.STUCK}


def test_late_report_that_changed_the_task_is_found() -> None:
    steps = [*sound().transitions[:4], step(5, "succeed", "P>C", FIRST)]
    ended_late = [run(FIRST, 2, 3, "completed"), run(SECOND, 4, 5, "stopped", came_from="SCHEDULED FOR RETRY")]

    assert Wrong.FOREIGN_REPORT in kinds_of_faults(replace(sound(), transitions=steps, runs=ended_late))


def test_report_of_a_run_without_row_is_found() -> None:
    assert Wrong.FOREIGN_REPORT in kinds_of_faults(replace(sound(), runs=sound().runs[:1]))


def test_run_claimed_twice_is_found() -> None:
    steps = [*sound().transitions[:3], step(4, "claim", "R>P", FIRST), step(5, "succeed", "P>C", FIRST)]

    assert Wrong.CLAIMED_TWICE in kinds_of_faults(replace(sound(), transitions=steps))


@pytest.mark.parametrize("ending", ["completed", "failed", "given back", "stopped", None])
def test_run_row_that_ended_otherwise_than_reported_is_found(ending: str | None) -> None:
    runs = [run(FIRST, 2, 3, ending), sound().runs[1]]

    assert Wrong.OTHER_ENDING in kinds_of_faults(replace(sound(), runs=runs))


def test_run_that_worked_unclaimed_is_found() -> None:
    assert kinds_of_faults(replace(sound(), marks=[begin(999, 1)])) == {Wrong.NO_CLAIM}


def test_run_that_worked_for_another_task_is_found() -> None:
    assert kinds_of_faults(replace(sound(), marks=[begin(FIRST, 1, task=8)])) == {Wrong.NO_CLAIM}


def test_two_runs_that_begin_in_the_same_interval_are_found() -> None:
    marks = [begin(FIRST, 2.2), begin(SECOND, 4.2), begin(FIRST, 4.5), begin(SECOND, 4.8)]

    assert kinds_of_faults(replace(sound(), marks=marks)) == {Wrong.TWO_AT_ONCE}


def test_late_begin_between_the_begins_of_the_next_run_is_found() -> None:
    marks = [begin(SECOND, 4.2), begin(FIRST, 4.5), begin(SECOND, 4.8)]

    assert kinds_of_faults(replace(sound(), marks=marks)) == {Wrong.TWO_AT_ONCE}


def test_runs_of_different_tasks_may_work_at_once() -> None:
    other = 8
    both = Evidence(
        {TASK: "COMPLETED", other: "COMPLETED"},
        [
            *(step(1, "create", "->S", task=task) for task in (TASK, other)),
            step(2, "claim", "S>P", FIRST), step(3, "claim", "S>P", SECOND, task=other),
            step(4, "succeed", "P>C", FIRST), step(5, "succeed", "P>C", SECOND, task=other),
        ],
        [run(FIRST, 2, 4, "completed"), run(SECOND, 3, 5, "completed", task_id=other, slot=2)],
        [begin(FIRST, 2.2), begin(SECOND, 3.2, other), begin(FIRST, 3.5), begin(SECOND, 3.8, other)],
        {("archive-a", "Export"): 2},
    )  # fmt: skip

    assert faults(both) == []


def test_two_open_runs_of_one_task_are_found() -> None:
    runs = [run(FIRST, 2, 4.5, "lost"), run(SECOND, 4, 5, "completed", slot=2, came_from="SCHEDULED FOR RETRY")]

    assert Wrong.TWO_OPEN in kinds_of_faults(replace(sound(), runs=runs))


def test_open_run_that_an_ended_one_follows_is_found() -> None:
    runs = [run(FIRST, 2, None, None), sound().runs[1]]

    assert Wrong.TWO_OPEN in kinds_of_faults(replace(sound(), runs=runs))


def test_slot_held_by_two_runs_is_found() -> None:
    runs = [run(FIRST, 2, 4.5, "lost"), sound().runs[1]]

    assert Wrong.SLOT_SHARED in kinds_of_faults(replace(sound(), runs=runs))


def test_more_open_runs_than_allowed_are_found() -> None:
    runs = [run(FIRST, 2, 4.5, "lost"), run(SECOND, 4, 5, "completed", slot=2, came_from="SCHEDULED FOR RETRY")]

    assert Wrong.TOO_MANY in kinds_of_faults(replace(sound(), runs=runs))


def test_slot_beyond_the_limit_is_found() -> None:
    runs = [sound().runs[0], replace(sound().runs[1], slot=2)]

    assert kinds_of_faults(replace(sound(), runs=runs)) == {Wrong.TOO_MANY}
