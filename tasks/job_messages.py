"""What other services may ask for by a message: one model for each kind of task, and its JSON Schema."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from sqlalchemy.orm import Session

from tasks import operations
from tasks.errors import InvalidError
from tasks.idempotency import Once
from tasks.placing import Place
from tasks.record import DEFAULT_PRIORITY, HIGHEST_PRIORITY, NewTask
from tasks.store import By

#: Version of the contract; another one gets another number and is understood beside it.
VERSION = 1

#: A DICOM UID (PS3.5 9.1), as lenient as REST is.
UID = r"^[0-9]+(\.[0-9]+)*$"
LONGEST_UID = 64
#: Of idempotency keys and message ids, in characters.
LONGEST_KEY = 255

#: Neither empty nor with control characters.
_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]+$"

Uid = Annotated[str, Field(pattern=UID, max_length=LONGEST_UID)]
#: PS3.5 6.2: at most 16 characters, no backslash.
Title = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f\\]+$", max_length=16)]
Name = Annotated[str, Field(pattern=_PRINTABLE, max_length=64)]
Key = Annotated[str, Field(pattern=_PRINTABLE, max_length=LONGEST_KEY)]


def _instant(value: object) -> datetime:
    # Celery's JSON brings a datetime as one.
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(value if isinstance(value, str) else "")
        if at.tzinfo is None:
            raise ValueError
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("expected ISO 8601 with an offset, for example 2026-08-20T14:05:00+02:00") from None


Instant = Annotated[
    datetime, BeforeValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 40})
]


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose message it is, as history, audit and tasks name it."""

    by: By
    host: str
    #: Name of the message and its id.
    uri: str


@dataclass(frozen=True, slots=True)
class Made:
    """What was made of a message."""

    task_ids: tuple[int, ...]
    #: How many of them were not there before.
    new: int


class Job(BaseModel, ABC):
    """What every message says, whatever it asks for."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, field_title_generator=lambda name, info: info.alias or name
    )

    #: Of the audit table, as REST writes it.
    action: ClassVar[str]

    version: Literal[1] = Field(description="Version of this contract.")
    requester: Name = Field(description="Who asks; kept with the task and in the audit table.")

    @abstractmethod
    def make(self, session: Session, sender: Sender) -> Made:
        """Make what is asked for, in this transaction.

        Raises:
            TaskError: it cannot be; the text says why, and the transaction must be given up.
        """


@dataclass(frozen=True, slots=True)
class Wish:
    """A task that a message asks for."""

    new: NewTask
    #: Devices whose waiting tasks count as equal.
    equal_on: tuple[str, ...]


class TaskJob(Job):
    """A job that is one task, which may be equal to one that waits."""

    aet: Title = Field(description="AE title of a device of the cluster, or another title of it.")
    batch_id: Name | None = Field(default=None, alias="batchID", description="Batch that the task belongs to.")
    scheduled_time: Instant | None = Field(
        default=None, alias="scheduledTime", description="Earliest start, ISO 8601 with an offset; absent: now."
    )
    priority: int = Field(
        default=DEFAULT_PRIORITY, ge=0, le=HIGHEST_PRIORITY, description="Of the task; the highest runs first."
    )
    device: Name | None = Field(
        default=None, alias="dicomDeviceName", description="Which device; absent: the one with the least waiting."
    )
    idempotency_key: Key | None = Field(
        default=None,
        alias="idempotencyKey",
        description="For 30 days a message of the requester with the same key makes no second task.",
    )
    allow_duplicate: bool = Field(
        default=False, alias="allowDuplicate", description="Make a task also if an equal one still waits."
    )

    @abstractmethod
    def wish(self) -> Wish:
        """Return the task that is asked for, at a device that can run it.

        Raises:
            TaskError: no device can; the text says why.
        """

    def at(self, place: Place, kind: str, **values: Any) -> Wish:
        """Return the task of this kind at that place, with these values besides what every message says."""
        new = NewTask(
            kind=kind,
            device=place.device.name,
            queue=place.queue,
            priority=self.priority,
            scheduled_time=self.scheduled_time,
            batch_id=self.batch_id,
            local_aet=self.aet,
            **values,
        )
        return Wish(new, place.names)

    def make(self, session: Session, sender: Sender) -> Made:
        """Make the task; an equal one that waits, or that of the same key, is the answer instead."""
        wish = self.wish()
        scheduled = operations.schedule(
            replace(wish.new, requester_user=self.requester, requester_host=sender.host, request_uri=sender.uri),
            sender.by,
            allow_duplicate=self.allow_duplicate,
            equal_on=wish.equal_on,
            once=self._once(sender),
            within=session,
        )
        return Made((scheduled.task.id,), 0 if scheduled.existed or scheduled.repeated else 1)

    def _once(self, sender: Sender) -> Once | None:
        if self.idempotency_key is None:
            return None
        said = self.model_dump(mode="json", by_alias=True, exclude={"idempotency_key"}, exclude_none=True)
        name = sender.uri.partition(" ")[0]
        return Once(self.idempotency_key, self.requester, f"{name} {json.dumps(said, sort_keys=True)}")


class EntityJob(TaskJob):
    """A job about a study, or one series or object of it."""

    study_uid: Uid = Field(alias="studyInstanceUID", description="The study.")
    series_uid: Uid | None = Field(default=None, alias="seriesInstanceUID", description="Only this series of it.")
    sop_uid: Uid | None = Field(
        default=None, alias="sopInstanceUID", description="Only this object; needs seriesInstanceUID."
    )

    def at(self, place: Place, kind: str, **values: Any) -> Wish:
        """Return the task about the entity."""
        entity = {"study_uid": self.study_uid, "series_uid": self.series_uid, "sop_uid": self.sop_uid}
        return super().at(place, kind, **entity, **values)

    @model_validator(mode="after")
    def _object_has_a_series(self) -> Self:
        if self.sop_uid is not None and self.series_uid is None:
            raise ValueError("sopInstanceUID without seriesInstanceUID: expected both")
        return self


_JOBS: dict[str, type[Job]] = {}

T = TypeVar("T", bound=type[Job])


def job_of(kind: str) -> Callable[[T], T]:
    """Register what a message may say that asks for a task of this kind; kinds without one cannot be asked for."""

    def register(model: T) -> T:
        _JOBS[kind] = model
        return model

    return register


def known() -> Mapping[str, type[Job]]:
    """Return the models by kind; `tasks.registry.load_kinds()` comes first."""
    return _JOBS


def read(kind: str, said: Mapping[str, Any]) -> Job:
    """Read a message that asks for a task of this kind.

    Raises:
        InvalidError: such tasks cannot be asked for, or a key is unknown, missing or has a wrong value; names it.
    """
    model = _JOBS.get(kind)
    if model is None:
        raise InvalidError(f"tasks of kind {kind} cannot be asked for by a message")
    try:
        return model.model_validate(dict(said))
    except ValidationError as error:
        raise InvalidError(_described(error)) from None


def _described(error: ValidationError) -> str:
    """Return one line for the first thing that is wrong."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    match first["type"]:
        case "missing":
            return f"{place} is missing"
        case "extra_forbidden":
            return f"{place} is unknown"
        case _ if not place:
            return message
    return f"{place}={_shown(first['input'])}: {message}"


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= LONGEST_KEY else f"{text[:LONGEST_KEY]}..."
