"""What several kinds show of a task's parameters and progress."""

from __future__ import annotations

from collections.abc import Iterable

from api.rest.parameters import Parameter, flag
from api.rest.shape import Cell, Filter
from tasks.record import TaskView

STUDY = Filter(Parameter("StudyInstanceUID", "Study that the task is about."), "study_uid")


def title_filter(name: str, field: str, description: str) -> Filter:
    """Return a filter by an AE title."""
    return Filter(Parameter(name, description), field)


def flag_filter(name: str, description: str) -> Filter:
    """Return a filter by a parameter of the task that is true or false."""
    return Filter(flag(name, description), name, in_params=True, is_flag=True)


def counted(task: TaskView, name: str) -> int:
    """Return a number of the progress; 0 before there was any."""
    value = task.progress.get(name)
    return value if isinstance(value, int) else 0


def numbers(task: TaskView, names: Iterable[str]) -> dict[str, str | None]:
    """Return numbers of the progress as text, None for 0. Source: counters in dcm4chee's JSON."""
    return {name: str(number) if (number := counted(task, name)) else None for name in names}


def cells_of(names: Iterable[str]) -> dict[str, Cell]:
    """Return the cells of numbers of the progress; CSV shows 0 as well."""
    return {name: _number_cell(name) for name in names}


def told(task: TaskView, name: str) -> str | None:
    """Return a parameter of the task as text."""
    value = task.params.get(name)
    return None if value is None else str(value)


def cell(name: str) -> Cell:
    """Return the cell of a parameter."""
    return lambda task, _: told(task, name)


def is_set(task: TaskView, name: str) -> bool:
    """Return a parameter of the task that is true or false."""
    return task.params.get(name) is True


def _number_cell(name: str) -> Cell:
    return lambda task, _: str(counted(task, name))
