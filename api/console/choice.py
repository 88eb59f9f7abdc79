"""Which tasks the page is about: the filters of REST, for all kinds at once, and links that keep them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from api.answers import BadRequest
from api.rest import filters, parameters
from api.rest.parameters import Given, Parameter
from api.rest.shape import Filter
from archive import configuration
from config import settings
from tasks.query import TaskQuery
from tasks.registry import load_kinds

_OWN = (
    Filter(Parameter("kind", "Kind of task.", repeatable=True), "kinds", is_list=True),
    Filter(Parameter("queue", "Queue.", repeatable=True), "queues", is_list=True),
    Filter(Parameter("ExporterID", "Exporter.", repeatable=True), "exporter_ids", is_list=True),
    Filter(Parameter("StudyInstanceUID", "Study."), "study_uid"),
)

FILTERS = (*filters.COMMON, *(one.parameter for one in _OWN))
_NAMES = tuple(parameter.name for parameter in FILTERS)

#: Tasks on a page, unless told otherwise.
PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class Choice:
    """Tasks that are chosen by filters."""

    query: TaskQuery
    #: The filters as they were given.
    given: Mapping[str, list[str]]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The filters as names and values, for forms and links."""
        return [(name, value) for name in _NAMES for value in self.given.get(name, ())]

    def value(self, name: str) -> str:
        """Return what a field of the form holds."""
        return ",".join(self.given.get(name, ()))

    def link(self, path: str = "/archive/tasks", **changes: object) -> str:
        """Return a URL with these filters, and others in place of some of them; None: without it."""
        kept = [(name, value) for name, value in self.pairs if name not in changes]
        added = [(name, str(value)) for name, value in changes.items() if value is not None]
        return f"{path}?{urlencode(kept + added)}".rstrip("?")

    def without_status(self) -> TaskQuery:
        """Return the query for the counts, which tell statuses apart themselves."""
        return replace(self.query, statuses=())


def of(given: Given) -> Choice:
    """Return what the filters choose.

    Raises:
        BadRequest: a value cannot be used.
        NotFound: a task id is no number.
    """
    query = filters.query_of(given, _OWN, settings.current().zone())
    return Choice(query, {name: given.values[name] for name in _NAMES if name in given.values})


def read(items: Iterable[tuple[str, str]], more: Iterable[Parameter] = (), *, changing: bool = False) -> Given:
    """Return the parameters of a request, of which these and the filters are known.

    Raises:
        BadRequest: one is unknown, or given twice.
    """
    return parameters.take(items, (*FILTERS, *more), changing=changing)


@dataclass(frozen=True, slots=True)
class Offer:
    """What can be chosen from lists."""

    devices: list[str]
    queues: list[str]
    exporters: list[str]
    kinds: list[str]


def offered() -> Offer:
    """Return the devices, queues, exporters and kinds of the cluster."""
    ours = configuration.current().ours
    return Offer(
        devices=sorted(ours),
        queues=sorted({queue for device in ours.values() for queue in device.queues}),
        exporters=sorted({exporter for device in ours.values() for exporter in device.exporters}),
        kinds=sorted(load_kinds()),
    )


def ids(given: Given, name: str) -> tuple[int, ...]:
    """Return the tasks that were ticked.

    Raises:
        BadRequest: there is none.
    """
    found = tuple(filters.task_id(text) for text in given.all(name, commas=True))
    if not found:
        raise BadRequest("no task is selected: tick some, or choose all that match")
    return found
