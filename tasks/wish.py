"""What a change of many tasks asks for, as one value: it can be kept, and carried out by another process."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from pydantic import TypeAdapter

from archive import configuration
from tasks import operations
from tasks.bulk import NOBODY, BulkResult, Watch
from tasks.errors import InvalidError
from tasks.moving import Change, Mover
from tasks.query import TaskQuery
from tasks.state import Event, may
from tasks.store import By


class Action(StrEnum):
    """What is done to the tasks; the names are those of the audit."""

    CANCEL = "CancelTasks"
    RESCHEDULE = "RescheduleTasks"
    DELETE = "DeleteTasks"


@dataclass(frozen=True, slots=True)
class Wish:
    """A change of all tasks that match."""

    action: Action
    wanted: TaskQuery
    #: Of a reschedule.
    change: Change = field(default_factory=Change)

    def to_json(self) -> str:
        """Return it as JSON."""
        return _AS_JSON.dump_json(self).decode()

    @classmethod
    def of_json(cls, written: str) -> Wish:
        """Read what `to_json` wrote."""
        return _AS_JSON.validate_json(written)


_AS_JSON = TypeAdapter(Wish)


def check(wish: Wish) -> None:
    """See that a wish can be carried out, before it is.

    Raises:
        InvalidError: a status, a device, an exporter or a queue cannot be meant.
        ConflictError: a device is not one of the cluster.
    """
    match wish.action:
        case Action.CANCEL:
            for status in wish.wanted.statuses:
                if not may(status, Event.CANCEL):
                    raise InvalidError(f"Cannot cancel tasks with status: {status}")
        case Action.RESCHEDULE:
            Mover(configuration.current(), wish.change)
        case Action.DELETE:
            pass
        case _:
            assert_never(wish.action)


def carry_out(wish: Wish, by: By, *, dry_run: bool = False, watch: Watch = NOBODY) -> BulkResult:
    """Change all tasks that are meant, or say what would be changed.

    Raises:
        InvalidError: as `check` says.
        ConflictError: as `check` says.
    """
    match wish.action:
        case Action.CANCEL:
            return operations.cancel(wish.wanted, by, dry_run=dry_run, watch=watch)
        case Action.RESCHEDULE:
            return operations.reschedule(wish.wanted, wish.change, by, dry_run=dry_run, watch=watch)
        case Action.DELETE:
            return operations.delete(wish.wanted, by, dry_run=dry_run, watch=watch)
        case _:
            assert_never(wish.action)
