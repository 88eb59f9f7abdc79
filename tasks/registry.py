"""Which kinds of task there are: found in `tasks/kinds/`, one file each; a bad or double one is refused."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, Protocol, TypeVar

from config.device import Device
from tasks import kinds
from tasks.errors import UnknownKindError
from tasks.outcome import Outcome
from tasks.record import NewTask, TaskView
from tasks.store import Target
from tasks.work import Work


class Kind(Protocol):
    """What a file in `tasks/kinds/` offers."""

    #: `EXPORT`, as on the wire.
    name: ClassVar[str]
    #: Behind `run.` in the name of the Celery task, and behind `/monitor/`.
    slug: ClassVar[str]
    #: It reads files of its study: they are pinned, and a target must reach them.
    reads_files: ClassVar[bool]
    #: It runs on the housekeeping channel of its device.
    is_housekeeping: ClassVar[bool]
    #: dcmQueueName of its tasks where neither an exporter nor the request names another.
    queue: ClassVar[str]

    def validate(self, new: NewTask, device: Device) -> NewTask:
        """Check a new task against its device and fill in what follows from the configuration.

        Raises:
            InvalidError: names parameter, value and what was expected.
        """

    def target_on(
        self, device: Device, task: Mapping[str, Any], *, exporter_id: str | None, queue: str | None
    ) -> Target:
        """Return where a task would run on that device.

        Raises:
            ConflictError: the device lacks what the task needs; the text names it.
        """

    def process(self, task: TaskView, work: Work) -> Outcome:
        """Run one attempt; call `work.check_stop()` between sub-operations; safe to run twice."""


_KINDS: dict[str, Kind] = {}

#: What a kind must have besides its name.
_MEMBERS = ("slug", "reads_files", "is_housekeeping", "queue", "validate", "target_on", "process")

T = TypeVar("T", bound=type[Kind])


def task_kind(name: str) -> Callable[[T], T]:
    """Register a class as the kind with this name."""

    def register(cls: T) -> T:
        if name in _KINDS:
            raise TypeError(f"two kinds of task are called {name}: {type(_KINDS[name]).__name__} and {cls.__name__}")
        cls.name = name
        missing = [member for member in _MEMBERS if not hasattr(cls, member)]
        if missing:
            raise TypeError(f"kind {name} ({cls.__name__}) lacks {', '.join(missing)}")
        if not cls.__doc__:
            raise TypeError(f"kind {name} ({cls.__name__}) has no docstring")
        same = next((other.name for other in _KINDS.values() if other.slug == cls.slug), None)
        if same is not None:
            raise TypeError(f"kinds {same} and {name} ({cls.__name__}) both have the slug {cls.slug}")
        _KINDS[name] = cls()
        return cls

    return register


@cache
def load_kinds() -> Mapping[str, Kind]:
    """Import every file of `tasks/kinds/`, once, and return the kinds by name."""
    for module in pkgutil.iter_modules(kinds.__path__):
        importlib.import_module(f"{kinds.__name__}.{module.name}")
    return _KINDS


def reading_kinds() -> list[str]:
    """Return the names of the kinds whose tasks read files of studies."""
    return [name for name, kind in load_kinds().items() if kind.reads_files]


def kind_of(name: str) -> Kind:
    """Return the kind with this name.

    Raises:
        UnknownKindError: there is none.
    """
    known = load_kinds()
    if name not in known:
        raise UnknownKindError(f"no kind of task is called {name!r}; known are {', '.join(sorted(known))}")
    return known[name]
