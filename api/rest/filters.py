"""Filters of tasks: the same for lists, counts, CSV and bulk changes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from api.answers import BadRequest, NotFound
from api.rest import times
from api.rest.parameters import Given, Parameter, flag
from api.rest.scope import Scope
from api.rest.shape import Filter
from tasks import query as queries
from tasks.query import Page, TaskQuery
from tasks.record import TaskView
from tasks.state import WAITING, Status

#: Largest id that the database can hold.
_LARGEST_ID = 2**63 - 1
_LARGEST_PAGE = 99_999
_NEWEST_FIRST = "-updatedTime"

#: `after`: order, microseconds (at most those of the year 9999), id.
_CURSOR = re.compile(r"(-?[A-Za-z]+)\.(\d{1,17})\.(\d{1,19})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_BY_NAME = {status.value: status for status in Status}
_STATUSES = [*(status.value for status in Status), "waiting"]
_RANGE = "DICOM range: A-B, A-, -B, or A alone for the whole of its precision"

RANGES = ("createdTime", "updatedTime")

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
    *(Parameter(name, _RANGE) for name in RANGES),
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

AFTER = Parameter(
    "after", "Only what comes behind this place: from the header Link of the page before; instead of offset."
)

ALL = flag("all", "Needed to change tasks without any filter.")


def of_scope(scope: Scope) -> tuple[Parameter, ...]:
    """Return the filters of a scope."""
    return COMMON + tuple(one.parameter for one in scope.filters)


def task_query(given: Given, base: TaskQuery, own: Sequence[Filter], zone: tzinfo) -> TaskQuery:
    """Return which tasks are meant, of those that the path means. Raises as `query_of` does."""
    found = query_of(given, own, zone)
    return replace(found, kinds=base.kinds or found.kinds, queues=base.queues or found.queues)


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
    in_params: list[tuple[str, str | bool]] = []
    for one in own:
        name = one.parameter.name
        text = given.one(name)
        if one.in_params and text is not None:
            in_params.append((one.field, given.is_true(name) if one.is_flag else text))
        elif not one.in_params:
            values[one.field] = given.all(name, commas=True) if one.is_list else text
    return TaskQuery(
        ids=tuple(task_id(text) for text in given.all("taskID", commas=True)),
        devices=given.without_star("dicomDeviceName"),
        statuses=statuses(given.without_star("status")),
        batch_id=given.one("batchID"),
        created=_range(given, "createdTime", zone),
        updated=_range(given, "updatedTime", zone),
        params=tuple(in_params),
        **values,
    )


def parameters_of(wanted: TaskQuery, own: Sequence[Filter]) -> list[tuple[str, str]]:
    """Return what `query_of` reads as this query; ids and what stands in the path are left out."""
    found = [("dicomDeviceName", name) for name in wanted.devices]
    found += [("status", status.value) for status in wanted.statuses]
    found += [("batchID", wanted.batch_id)] if wanted.batch_id is not None else []
    for name, bounds in zip(RANGES, (wanted.created, wanted.updated), strict=True):
        found += [(name, times.as_dt_range(bounds))] if bounds != (None, None) else []
    in_params = dict(wanted.params)
    for one in own:
        value = in_params.get(one.field) if one.in_params else getattr(wanted, one.field)
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        name = one.parameter.name
        found += [(name, str(each).lower() if isinstance(each, bool) else str(each)) for each in values]
    return found


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
    after = given.one("after")
    position = None if after is None else _position(after, order)
    offset = given.number("offset", 0, _LARGEST_PAGE) or 0
    if offset and position is not None:
        raise BadRequest(f"after={after} and offset={offset}: expected one of them")
    return Page(offset, given.number("limit", 1, _LARGEST_PAGE), order, position)


def cursor(task: TaskView, order: str) -> str:
    """Return what `after` takes to go on behind this task: the order, microseconds since 1970, and the id."""
    at, number = queries.position_of(task, order)
    return f"{order}.{(at - _EPOCH) // _MICROSECOND}.{number}"


def _position(text: str, order: str) -> tuple[datetime, int]:
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise BadRequest(f"after={text}: expected what the link of an earlier answer says")
    if found[1] != order:
        raise BadRequest(f"after={text}: it is of orderby={found[1]}, and this request has orderby={order}")
    return _EPOCH + int(found[2]) * _MICROSECOND, min(int(found[3]), _LARGEST_ID)


def refuse_all(wanted: TaskQuery, given: Given, known: Sequence[Parameter], base: TaskQuery | None = None) -> None:
    """Refuse a change of all tasks that was not asked for as such.

    Args:
        wanted: which tasks.
        given: the parameters.
        known: which could narrow it down.
        base: what the path says of the tasks; None: kinds and queues are no filters, wherever they come from.

    Raises:
        BadRequest: there is neither a filter nor `all=true`.
    """
    is_unfiltered = wanted.is_unfiltered if base is None else wanted == base
    if is_unfiltered and not given.is_true("all"):
        names = ", ".join(parameter.name for parameter in known)
        raise BadRequest(f"Missing query parameter: to change all tasks say all=true, else one of {names}")


def statuses(given: tuple[str, ...]) -> tuple[Status, ...]:
    """Return the statuses that are named; `waiting` is two of them.

    Raises:
        BadRequest: there is none of that name.
    """
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
