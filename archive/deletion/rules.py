"""Pure: may this study go from this file system? Rules are named predicates; each that keeps it says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from archive.model import FileSystemStatus
from config.device import FileSystemGroup

#: Name of the rule that keeps all studies of a file system at once.
HEALTHY = "file system healthy"


class Trigger(StrEnum):
    """Why a study is looked at."""

    #: Nobody used it for so long. Source: manual of dcm4chee 2, attribute of this name.
    AGE = "DeleteStudyIfNotAccessedFor"
    #: Somebody named it. Source: manual of dcm4chee 2, operation of this name.
    REQUEST = "scheduleStudyForDeletion"


@dataclass(frozen=True, slots=True)
class Pin:
    """A task that reads the study."""

    task_id: int
    kind: str
    status: str
    #: Of a task that never ran: when it may start; it pins for a limited time from then. None: it pins until done.
    due: datetime | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A task that shall delete the study already."""

    task_id: int


@dataclass(frozen=True, slots=True)
class Held:
    """Objects that have good copies in the same groups."""

    #: `DEVICE/GROUP` of each good copy on another file system; empty: there is none.
    groups: frozenset[str]
    num_objects: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one study on one file system at one moment."""

    study_uid: str
    path: str
    status: FileSystemStatus
    #: Why the file system is not healthy; None: it is.
    problem: str | None
    now: datetime
    access_time: datetime
    #: Series of the study that are being received.
    receiving: int = 0
    #: Who protects it and why; None: nobody.
    protected: str | None = None
    pins: tuple[Pin, ...] = ()
    mark: Mark | None = None
    num_files: int = 0
    size_bytes: int = 0
    #: Its objects here by where else they are; copies on file systems that do not count are left out.
    held: tuple[Held, ...] = ()
    #: Why copies elsewhere that the index has do not count; they are not in `held`.
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """What a file-system group asks for, with names of groups as `DEVICE/GROUP`."""

    trigger: Trigger
    #: None: nothing goes by its age.
    not_accessed_for: timedelta | None
    copy_in: tuple[str, ...]
    allow_last_copy: bool
    pin_waiting_for: timedelta


@dataclass(frozen=True, slots=True)
class Reason:
    """One rule that keeps a study, in one line that says what would free it."""

    rule: str
    text: str


@dataclass(frozen=True, slots=True)
class Deletable:
    """No rule keeps the study."""

    #: Names of the rules that were asked.
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """At least one rule keeps the study."""

    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A named predicate."""

    name: str
    #: Returns what it finds and what would free the study; None: it lets it go.
    finding: Callable[[Facts, Terms], str | None]
    #: Asked also for a study that somebody names.
    always: bool = True
    #: How long it keeps a study that it keeps now, unless a trigger of the database tells that something happened to
    #: that, or the premise of the look does not hold any more; see `remembering`.
    holds_for: timedelta = timedelta(0)


def terms_of(group: FileSystemGroup, device_name: str, trigger: Trigger) -> Terms:
    """Return what the configuration of a group asks for."""
    age = group.delete_if_not_accessed_for
    return Terms(
        trigger=trigger,
        not_accessed_for=None if age is None else max(age, group.delete_only_if_not_accessed_for),
        copy_in=tuple(_full_name(name, device_name) for name in group.delete_only_if_copy_in),
        allow_last_copy=group.allow_deleting_last_copy,
        pin_waiting_for=group.pin_waiting_for,
    )


def classify(facts: Facts, terms: Terms) -> Deletable | Kept:
    """Ask every rule; all of them must let the study go."""
    asked = [rule for rule in RULES if rule.always or terms.trigger is Trigger.AGE]
    found = [(rule.name, rule.finding(facts, terms)) for rule in asked]
    kept_by = tuple(
        Reason(name, f"Study {facts.study_uid} on {facts.path} is kept ({name}): {finding}")
        for name, finding in found
        if finding is not None
    )
    return Kept(kept_by) if kept_by else Deletable(tuple(rule.name for rule in asked))


def holds_for(kept: Kept) -> timedelta:
    """Return how long a study surely stays kept: one rule that keeps it is enough."""
    keeping = {reason.rule for reason in kept.reasons}
    return max(rule.holds_for for rule in RULES if rule.name in keeping)


def remaining(facts: Facts) -> list[str]:
    """Return where its objects stay, as `DEVICE/GROUP: number`, sorted."""
    groups = sorted({group for held in facts.held for group in held.groups})
    return [f"{group}: {sum(h.num_objects for h in facts.held if group in h.groups)}" for group in groups]


def _full_name(group: str, device_name: str) -> str:
    return group if "/" in group else f"{device_name}/{group}"


def _unhealthy(facts: Facts, _terms: Terms) -> str | None:
    if facts.problem is None:
        return None
    return f"{facts.problem}; it may go when the file system is healthy"


def _not_writable(facts: Facts, _terms: Terms) -> str | None:
    if facts.status in (FileSystemStatus.CURRENT, FileSystemStatus.WRITABLE):
        return None
    return f"the file system is {facts.status}; it may go when that is RW or RW+"


def _receiving(facts: Facts, _terms: Terms) -> str | None:
    if not facts.receiving:
        return None
    return f"{facts.receiving} of its series are being received; it may go when their senders have been silent for 60 s"


def _protected(facts: Facts, _terms: Terms) -> str | None:
    return None if facts.protected is None else f"protected by {facts.protected}; it may go when that is lifted"


def _pinned(facts: Facts, terms: Terms) -> str | None:
    pins = [pin for pin in facts.pins if pin.due is None or facts.now <= pin.due + terms.pin_waiting_for]
    if not pins:
        return None
    tasks = ", ".join(f"{pin.task_id} ({pin.kind}, {pin.status})" for pin in pins)
    ends = [None if pin.due is None else pin.due + terms.pin_waiting_for for pin in pins]
    last = max((end for end in ends if end is not None), default=None)
    until = f", or at {_written(last)}" if last is not None and None not in ends else ""
    return f"read by task {tasks}; it may go when they are done, canceled or deleted{until}"


def _marked(facts: Facts, _terms: Terms) -> str | None:
    if facts.mark is None:
        return None
    return f"task {facts.mark.task_id} deletes it already; it may go again when that task is done"


def _accessed(facts: Facts, terms: Terms) -> str | None:
    if terms.not_accessed_for is None:
        return "DeleteStudyIfNotAccessedFor of the group is not set; it may go when it is"
    free_at = facts.access_time + terms.not_accessed_for
    if facts.now >= free_at:
        return None
    return (
        f"last used {_written(facts.access_time)}, not yet {_span(terms.not_accessed_for)} ago; "
        f"it may go at {_written(free_at)} unless it is used again"
    )


def _copy_missing(facts: Facts, terms: Terms) -> str | None:
    lacking = {
        name: number
        for name in terms.copy_in
        if (number := sum(held.num_objects for held in facts.held if name not in held.groups))
    }
    if not lacking:
        return None
    listed = ", ".join(f"{number} of {facts.num_files} objects in {name}" for name, number in lacking.items())
    return f"no good copy of {listed}{_not_counted(facts)}; it may go when they are copied there"


def _last_copy(facts: Facts, terms: Terms) -> str | None:
    alone = sum(held.num_objects for held in facts.held if not held.groups)
    if not alone or terms.allow_last_copy:
        return None
    return (
        f"the only good copy of {alone} of {facts.num_files} objects{_not_counted(facts)}; "
        "it may go when they are copied elsewhere, or with AllowDeletingLastCopy=true of the group"
    )


def _not_counted(facts: Facts) -> str:
    if not facts.missing:
        return ""
    return f" ({len(facts.missing)} copies do not count: {facts.missing[0]})"


def _written(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S %Z}".rstrip()


def _span(span: timedelta) -> str:
    return str(span).removesuffix(", 0:00:00")


#: Of what the database tells each change of: so long what nobody has thought of can do harm.
LONG = timedelta(days=7)

#: In the order in which reasons are listed; a new rule is one line here.
RULES: tuple[Rule, ...] = (
    Rule(HEALTHY, _unhealthy),
    Rule("file system writable", _not_writable),
    Rule("not being received", _receiving, holds_for=LONG),
    Rule("not protected", _protected, holds_for=LONG),
    Rule("not pinned", _pinned),
    Rule("not marked", _marked, holds_for=LONG),
    Rule("not accessed", _accessed, always=False),
    Rule("copy in group", _copy_missing, always=False, holds_for=LONG),
    Rule("not the last copy", _last_copy, holds_for=LONG),
)
