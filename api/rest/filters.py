"""Filters of tasks: the same for lists, counts, CSV and bulk changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import tzinfo
from typing import Any

from api.answers import BadRequest, NotFound
from api.rest import times
from api.rest.parameters import Given, Parameter, flag
from api.rest.shape import Filter, Shape
from tasks import query as queries
from tasks.query import Page, TaskQuery
from tasks.state import WAITING, Status

#: Largest id that the database can hold.
_LARGEST_ID = 2**63 - 1
_LARGEST_PAGE = 99_999
_NEWEST_FIRST = "-updatedTime"

_BY_NAME = {status.value: status for status in Status}
_STATUSES = [*(status.value for status in Status), "waiting"]
_RANGE = "DICOM range: A-B, A-, -B, or A alone for the whole of its precision"

COMMON = (
    Parameter("taskID", "Id of a task.", repeatable=True),
    Parameter("dicomDeviceName", "Device that shall run the task, or ran it last.", repeatable=True),
    Parameter(
        "status",
        "Status; `waiting` means SCHEDULED and SCHEDULED FOR RETRY.",
        {"type": "string", "enum": _STATUSES},
        repeatable=True,
    ),
    Parameter("batchID", "Batch that the task was made in."),
    Parameter("createdTime", _RANGE),
    Parameter("updatedTime", _RANGE),
)

PAGE = (
    Parameter("offset", "Tasks to skip.", {"type": "integer", "minimum": 0, "maximum": _LARGEST_PAGE}),
    Parameter("limit", "Tasks at most; absent: all.", {"type": "integer", "minimum": 1, "maximum": _LARGEST_PAGE}),
    Parameter(
        "orderby",
        "Order, descending with a hyphen before.",
        {"type": "string", "enum": [sign + order for order in queries.ORDERS for sign in ("", "-")]},
    ),
)

ALL = flag("all", "Needed to change tasks without any filter.")


def of_shape(shape: Shape) -> tuple[Parameter, ...]:
    """Return the filters of a kind."""
    return COMMON + tuple(one.parameter for one in shape.filters)


def task_query(given: Given, shape: Shape, zone: tzinfo) -> TaskQuery:
    """Return which tasks of a kind are meant. Raises as `query_of` does."""
    return replace(query_of(given, shape.filters, zone), kinds=(shape.kind,))


def query_of(given: Given, own: Sequence[Filter], zone: tzinfo) -> TaskQuery:
    """Return which tasks are meant, of any kind.

    Args:
        given: the parameters.
        own: filters besides the common ones.
        zone: on whose clock times without an offset are.

    Raises:
        BadRequest: a value cannot be used.
        NotFound: a task id is no number.
    """
    values: dict[str, Any] = {}
    for one in own:
        name = one.parameter.name
        values[one.field] = given.all(name, commas=True) if one.is_list else given.one(name)
    return TaskQuery(
        ids=tuple(task_id(text) for text in given.all("taskID", commas=True)),
        devices=given.without_star("dicomDeviceName"),
        statuses=_statuses(given.without_star("status")),
        batch_id=given.one("batchID"),
        created=_range(given, "createdTime", zone),
        updated=_range(given, "updatedTime", zone),
        **values,
    )


def task_id(text: str) -> int:
    """Return the number of a task.

    Raises:
        NotFound: it is none; dcm4chee answers so too.
    """
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(_LARGEST_ID)) else 0
    if not 0 < number <= _LARGEST_ID:
        raise NotFound(f"No such Task : {text}")
    return number


def page(given: Given) -> Page:
    """Return which part of a list is asked for.

    Raises:
        BadRequest: a value cannot be used.
    """
    order = given.one("orderby") or _NEWEST_FIRST
    if order.removeprefix("-") not in queries.ORDERS or order.startswith("--"):
        known = ", ".join(f"[-]{name}" for name in queries.ORDERS)
        raise BadRequest(f"orderby={order}: expected one of {known}")
    return Page(given.number("offset", 0, _LARGEST_PAGE) or 0, given.number("limit", 1, _LARGEST_PAGE), order)


def refuse_all(wanted: TaskQuery, given: Given, known: Sequence[Parameter]) -> None:
    """Refuse a change of all tasks that was not asked for as such.

    Raises:
        BadRequest: there is neither a filter nor `all=true`.
    """
    if wanted.is_unfiltered and not given.is_true("all"):
        names = ", ".join(parameter.name for parameter in known)
        raise BadRequest(f"Missing query parameter: to change all tasks say all=true, else one of {names}")


def _statuses(given: tuple[str, ...]) -> tuple[Status, ...]:
    found: dict[Status, None] = {}
    for text in given:
        name = " ".join(text.replace("_", " ").split()).upper()
        if name == "WAITING":
            found |= dict.fromkeys(sorted(WAITING))
        elif name in _BY_NAME:
            found[_BY_NAME[name]] = None
        else:
            raise BadRequest(f"status={text}: expected one of {', '.join(_STATUSES)}")
    return tuple(found)


def _range(given: Given, name: str, zone: tzinfo) -> times.Range:
    text = given.one(name)
    return (None, None) if text is None else times.dt_range(name, text, zone)
