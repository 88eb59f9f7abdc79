"""What a kind of task is made from: its paths, its parameters, and how a task follows from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.rest.parameters import Given, Parameter
from config.device import Device
from tasks.creating import Subject
from tasks.registry import kind_of

#: Values of the path, by name.
Path = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How tasks of one kind are made."""

    #: Kind of the tasks.
    kind: str
    #: Of the audit table, for one task; with an s for many.
    action: str
    #: Query parameters besides those of every kind.
    parameters: tuple[Parameter, ...]
    #: Return the devices that could run it; raise NotFound if there is none.
    devices: Callable[[Path, Given], Sequence[Device]]
    #: Return the fields of a task, the queue among them, that follow from path, parameters, entity and device.
    fields: Callable[[Path, Given, Subject, Device], Mapping[str, Any]]

    @property
    def queue(self) -> str:
        """Return the queue of tasks whose request names none."""
        return kind_of(self.kind).queue


#: What each value of a path is, for the OpenAPI document.
DESCRIBED = {
    "aet": "AE title of a device of the cluster, or another title of it.",
    "ExporterID": "Exporter.",
    "study": "Study Instance UID.",
    "series": "Series Instance UID.",
    "sop": "SOP Instance UID.",
    "movescp": "AE title that is asked to send.",
    "findscp": "AE title that is queried.",
    "dest": "AE title that it is sent to.",
    "primary": "AE title whose studies are compared.",
    "secondary": "AE title that they are compared with.",
    "studyField": "Column of the Study Instance UID; the first one is 1.",
    "seriesField": "Column of the Series Instance UID; the first one is 1.",
}
