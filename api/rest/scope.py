"""Which tasks a set of services is about: those of one kind, or those of one queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Request

from api.rest.kinds.values import STUDY, title_filter
from api.rest.shape import Filter, Shape
from tasks.query import TaskQuery

#: Longest name of a queue in a path.
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class Scope:
    """What the common services of a set have in common."""

    #: Path below the base.
    prefix: str
    #: In the OpenAPI document, and in operation ids.
    tag: str
    name: str
    filters: tuple[Filter, ...]
    #: None: tasks of every kind, as JSON only.
    shape: Shape | None
    #: What a reschedule can change besides device, time and priority.
    has_exporter: bool = False
    has_queue: bool = False

    def base(self, request: Request) -> TaskQuery:
        """Return what the path says of the tasks."""
        if self.shape is not None:
            return TaskQuery(kinds=(self.shape.kind,))
        return TaskQuery(queues=(request.path_params["queueName"],))

    def path_parameters(self) -> list[dict[str, Any]]:
        """Return the entries in the OpenAPI document of what stands in the prefix."""
        if self.shape is not None:
            return []
        schema = {"type": "string", "minLength": 1, "maxLength": _LONGEST_NAME}
        return [
            {"name": "queueName", "in": "path", "required": True, "description": "dcmQueueName.", "schema": schema}
        ]  # fmt: skip


def of_kind(shape: Shape) -> Scope:
    """Return the scope of a kind."""
    return Scope(
        prefix=f"/monitor/{shape.slug}",
        tag=shape.kind,
        name=shape.slug,
        filters=shape.filters,
        shape=shape,
        has_exporter=shape.has_exporter,
        has_queue=shape.has_queue,
    )


#: `/queue/{queueName}`: its tasks of every kind. Source: the queue services of dcm4chee.
QUEUE = Scope(
    prefix="/queue/{queueName}",
    tag="queues",
    name="queue",
    filters=(
        title_filter("localAET", "local_aet", "AE that the tasks work as."),
        title_filter("remoteAET", "remote_aet", "AE that the tasks talk to; of comparisons the primary one."),
        STUDY,
    ),
    shape=None,
)
