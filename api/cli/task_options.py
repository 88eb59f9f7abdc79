"""The filters of `arcfleet task`: the same as those of REST."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

#: Option -> query parameter.
FILTER_NAMES = {
    "device": "dicomDeviceName",
    "status": "status",
    "batch": "batchID",
    "exporter": "ExporterID",
    "study": "StudyInstanceUID",
    "created": "createdTime",
    "updated": "updatedTime",
}

_OPTIONS = (
    click.option("--device", multiple=True, help="Device that shall run it, or ran it last."),
    click.option("--status", multiple=True, help="Status, or `waiting`."),
    click.option("--batch", help="Batch."),
    click.option("--exporter", multiple=True, help="Exporter."),
    click.option("--study", help="Study Instance UID."),
    click.option("--created", metavar="A-B", help="Time of creation, for example 20260820-."),
    click.option("--updated", metavar="A-B", help="Time of the last change."),
)

kind_option = click.option("--kind", default="export", show_default=True, help="Kind of the tasks.")


@dataclass(frozen=True, slots=True)
class Filters:
    """What the filter options say."""

    given: Mapping[str, Any]

    def parameters(self) -> list[tuple[str, str]]:
        """Return the query parameters."""
        found = []
        for option, name in FILTER_NAMES.items():
            value = self.given[option]
            if value is not None:
                found += [(name, one) for one in (value if isinstance(value, tuple) else (value,))]
        return found


def filtered(command: F) -> F:
    """Add the filter options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
