"""Cancel, run again, move or delete tasks: first what it would touch, then, when confirmed, the change itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from urllib.parse import urlencode

from api import steering
from api.answers import BadRequest
from api.console import choice, look
from api.console.choice import Choice, Offer
from api.console.page import Page, Said
from api.rest import changes, filters
from api.rest.parameters import Given, Parameter
from api.security import Caller
from archive.accounts import Role
from tasks import operations
from tasks.bulk import BulkResult
from tasks.moving import Change
from tasks.query import TaskQuery

_ACTION = Parameter("action", "cancel, reschedule or delete.")
_WHICH = Parameter("which", "selected: those that are ticked; all: all that match.")
_SELECTED = Parameter("selected", "Id of a task that is ticked.", repeatable=True)
_NEW_EXPORTER = Parameter("newExporterID", "Exporter instead of the task's own.")
_BACK = Parameter("back", "Where to go when it is done: `task` goes to the page of the task.")
_KNOWN = (_ACTION, _WHICH, _SELECTED, _NEW_EXPORTER, _BACK, filters.ALL, *changes.RESCHEDULE)

#: As browsers send a date with a time.
_LOCAL_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d)(?::(\d\d))?", re.ASCII)


class Action(StrEnum):
    """What can be done to tasks."""

    CANCEL = "cancel"
    RESCHEDULE = "reschedule"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Words:
    """How an action is called on the page and in the audit, and who may do it."""

    button: str
    done: str
    audit: str
    role: Role


_WORDS = MappingProxyType(
    {
        Action.CANCEL: Words("Cancel", "canceled", "CancelTasks", Role.SUBMITTER),
        Action.RESCHEDULE: Words("Run again", "scheduled anew", "RescheduleTasks", Role.OPERATOR),
        Action.DELETE: Words("Delete", "deleted", "DeleteTasks", Role.OPERATOR),
    }
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What shall be done, and to which tasks."""

    action: Action
    query: TaskQuery
    choice: Choice
    given: Given

    @property
    def words(self) -> Words:
        """What the action is called."""
        return _WORDS[self.action]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """All that was given, for the form that confirms it."""
        return [(name, value) for name, values in self.given.values.items() for value in values]

    def value(self, name: str) -> str:
        """Return what a field of the form holds."""
        return self.given.one(name) or ""

    @property
    def is_about_all(self) -> bool:
        """Whether no filter narrows it down."""
        return self.query.is_unfiltered

    def way_back(self) -> str:
        """Return where the browser goes when it is done."""
        if self.given.one(_BACK.name) == "task" and len(self.query.ids) == 1 and self.action is not Action.DELETE:
            return f"/archive/tasks/{self.query.ids[0]}"
        return self.choice.link()


class ChangeTasks(Page):
    """`/archive/tasks/change`."""

    roles = MappingProxyType({"GET": Role.SUBMITTER, "POST": Role.SUBMITTER})

    async def get(self) -> None:
        """Show what the change would do; nothing is changed."""
        wish = self._wish()
        result, offer = await self.work.run(partial(_previewed, wish, self.caller))
        self.show("change", wish=wish, result=result, offer=offer, is_done=False)

    async def post(self) -> None:
        """Make the change, and say what it did."""
        wish = self._wish()
        filters.refuse_all(wish.query, wish.given, choice.FILTERS)
        run = partial(_done, wish, self.caller)
        what = f"{self.request.path}?{urlencode(wish.pairs)}"
        result = await self.work.run(partial(steering.recorded, self.caller, wish.words.audit, what, run))
        if result.failed:
            offer = await self.work.run(choice.offered)
            self.show("change", wish=wish, result=result, offer=offer, is_done=True)
            return
        self.say(Said(f"{look.of(result.count, 'task')} {wish.words.done}", "success" if result.count else "warning"))
        self.redirect(wish.way_back(), status=303)

    def _wish(self) -> Wish:
        given = choice.read([_plain(*item) for item in self.items()], _KNOWN, changing=self.request.method != "GET")
        action = given.one(_ACTION.name)
        if action not in set(Action):
            raise BadRequest(f"action={action}: expected one of {', '.join(Action)}")
        self.caller.must_be(_WORDS[Action(action)].role)
        chosen = choice.of(given)
        ticked = given.one(_WHICH.name) != "all"
        query = TaskQuery(ids=choice.ids(given, _SELECTED.name)) if ticked else chosen.query
        return Wish(Action(action), query, chosen, given)


def _previewed(wish: Wish, caller: Caller) -> tuple[BulkResult, Offer]:
    return _run(wish, caller, dry_run=True), choice.offered()


def _done(wish: Wish, caller: Caller) -> BulkResult:
    return _run(wish, caller, dry_run=False)


def _run(wish: Wish, caller: Caller, *, dry_run: bool) -> BulkResult:
    match wish.action:
        case Action.CANCEL:
            able = steering.cancelable(wish.query, caller)
            # Of tasks that were ticked it is told which are done; of all that match the others are meant.
            query = TaskQuery(ids=able.ids, requester_user=able.requester_user) if able.ids else able
            return operations.cancel(query, caller.by, dry_run=dry_run)
        case Action.RESCHEDULE:
            return operations.reschedule(wish.query, _change(wish), caller.by, dry_run=dry_run)
        case Action.DELETE:
            return operations.delete(wish.query, caller.by, dry_run=dry_run)


def _change(wish: Wish) -> Change:
    return changes.change(wish.given, wish.given.one(_NEW_EXPORTER.name))


def _plain(name: str, value: str) -> tuple[str, str]:
    """Return a time as REST takes it, whether the browser has a field for times or not."""
    found = _LOCAL_TIME.fullmatch(value) if name == changes.SCHEDULED_TIME.name else None
    return name, value if found is None else "".join(part or "00" for part in found.groups())
