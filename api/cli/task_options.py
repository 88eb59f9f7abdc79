"""The filters of `arcfleet task`: those of REST, whatever a kind or a queue calls them there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import click

F = TypeVar("F", bound=Callable[..., Any])

#: Kinds as the command line names them.
KINDS = ("export", "retrieve", "diff", "stgver", "deletion")

_STUDY = {"study": "StudyInstanceUID"}
_LOCAL = {"local_aet": "LocalAET"}

#: Option -> query parameter, of every kind.
_COMMON = {
    "task_id": "taskID",
    "device": "dicomDeviceName",
    "status": "status",
    "batch": "batchID",
    "created": "createdTime",
    "updated": "updatedTime",
}
#: The same of each kind besides.
_OWN: Mapping[str, Mapping[str, str]] = {
    "export": {"exporter": "ExporterID", **_STUDY},
    "retrieve": {
        **_LOCAL, "remote_aet": "RemoteAET", "destination_aet": "DestinationAET", "queue": "dcmQueueName", **_STUDY,
    },
    "diff": {
        **_LOCAL, "remote_aet": "PrimaryAET", "destination_aet": "SecondaryAET", "compare": "comparefield",
        "missing": "checkMissing", "different": "checkDifferent",
    },
    "stgver": {**_LOCAL, **_STUDY},
    "deletion": {**_STUDY},
    "queue": {"local_aet": "localAET", "remote_aet": "remoteAET", **_STUDY},
}  # fmt: skip
#: The same where batches are listed, if it is another.
_OF_BATCHES = {"LocalAET": "localAET", "RemoteAET": "remoteAET", "DestinationAET": "destinationAET"}

_OPTIONS = (
    click.option("--device", multiple=True, help="Device that shall run it, or ran it last."),
    click.option("--status", multiple=True, help="Status, or `waiting`."),
    click.option("--batch", help="Batch."),
    click.option("--exporter", multiple=True, help="Exporter; of exports."),
    click.option("--study", help="Study Instance UID."),
    click.option("--local-aet", help="AE that the task works as."),
    click.option("--remote-aet", help="AE that has the study; of comparisons the primary one."),
    click.option("--destination-aet", help="AE that gets the study; of comparisons the secondary one."),
    click.option("--compare", help="What is compared; of comparisons."),
    click.option("--missing/--no-missing", default=None, help="Missing studies are counted; of comparisons."),
    click.option("--different/--no-different", default=None, help="Different studies are counted; of comparisons."),
    click.option("--created", metavar="A-B", help="Time of creation, for example 20260820-."),
    click.option("--updated", metavar="A-B", help="Time of the last change."),
)
_QUEUE = click.option("--queue", help="Tasks of every kind of this queue; with --kind retrieve a filter.")

id_option = click.option("--id", "task_id", multiple=True, help="Id of a task.")

kind_option = click.option(
    "--kind", default="export", show_default=True, help=f"Kind of the tasks: {', '.join(KINDS)}."
)


queue_option = click.option("--queue", help="Queue that the task is in, instead of its kind.")


@dataclass(frozen=True, slots=True)
class Filters:
    """What the filter options say, and to which services."""

    given: Mapping[str, Any]
    kind: str = "export"

    @property
    def path(self) -> str:
        """Where the services are."""
        return f"/queue/{quote(self.given['queue'], safe='')}" if self._is_queue else f"/monitor/{self.kind}"

    @property
    def _is_queue(self) -> bool:
        return bool(self.given.get("queue")) and self.kind != "retrieve"

    def parameters(self, *, of_batches: bool = False) -> list[tuple[str, str]]:
        """Return the query parameters.

        Raises:
            UsageError: a filter is none of this kind.
        """
        own = _OWN["queue" if self._is_queue else self.kind] if self.kind in _OWN else {}
        names = {**_COMMON, **own}
        found = []
        for option, value in self.given.items():
            if option not in _ALL or value is None or value == () or (option == "queue" and self._is_queue):
                continue
            if option not in names:
                where = f"queue {self.given['queue']}" if self._is_queue else f"--kind {self.kind}"
                raise click.UsageError(f"--{option.replace('_', '-')}: not a filter of {where}")
            name = names[option]
            if of_batches and self.kind != "diff":
                name = _OF_BATCHES.get(name, name)
            values = value if isinstance(value, tuple) else (value,)
            found += [(name, str(one).lower() if isinstance(one, bool) else one) for one in values]
        return found


_ALL = frozenset(_COMMON) | frozenset(option for own in _OWN.values() for option in own)


def filtered(command: F) -> F:
    """Add the filter options."""
    for option in reversed((*_OPTIONS, _QUEUE)):
        command = option(command)
    return command
