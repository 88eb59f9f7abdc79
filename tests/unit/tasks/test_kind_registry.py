"""Kinds of task are found in their folder; one that is double or lacks something is refused by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

from tasks import kinds, registry
from tasks.errors import InvalidError, UnknownKindError


@pytest.fixture(autouse=True)
def _registry_as_before() -> Iterator[None]:
    registry.load_kinds()
    before = dict(registry._KINDS)
    yield
    registry._KINDS.clear()
    registry._KINDS.update(before)


def kind_class(*, without: str | None = None, doc: str | None = "Do something.", slug: str = "other") -> Any:
    """Return a class with all that a kind needs but one member."""
    members: dict[str, Any] = {
        "__doc__": doc,
        "slug": slug,
        "reads_files": False,
        "is_housekeeping": False,
        "queue": "Other",
        "validate": lambda self, new, device: new,
        "target_on": lambda self, device, task, exporter_id, queue: None,
        "process": lambda self, task, work: None,
    }
    return type("Other", (), {name: value for name, value in members.items() if name != without})


def test_every_file_of_the_folder_registers_one_kind() -> None:
    files = {module.name for module in pkgutil.iter_modules(kinds.__path__)}

    owners = {type(kind).__module__.rpartition(".")[2] for kind in registry.load_kinds().values()}

    assert owners == files
    assert len(registry.load_kinds()) == len(files)
    assert importlib.import_module("tasks.kinds.export").Export.name == "EXPORT"


def test_complete_kind_is_registered_under_its_name() -> None:
    made = registry.task_kind("OTHER")(kind_class())

    assert registry.kind_of("OTHER").name == "OTHER"
    assert isinstance(registry.kind_of("OTHER"), made)


def test_second_kind_of_a_name_is_refused_and_the_first_stays() -> None:
    with pytest.raises(TypeError, match="two kinds of task are called EXPORT: Export and Other"):
        registry.task_kind("EXPORT")(kind_class())

    assert type(registry.kind_of("EXPORT")).__name__ == "Export"


def test_second_kind_of_a_slug_is_refused() -> None:
    with pytest.raises(TypeError, match=r"kinds EXPORT and OTHER \(Other\) both have the slug export"):
        registry.task_kind("OTHER")(kind_class(slug="export"))

    with pytest.raises(UnknownKindError):
        registry.kind_of("OTHER")


@pytest.mark.parametrize(
    "member", ["slug", "reads_files", "is_housekeeping", "queue", "validate", "target_on", "process"]
)
def test_kind_that_lacks_a_member_is_refused_and_the_member_named(member: str) -> None:
    with pytest.raises(TypeError, match=rf"kind OTHER \(Other\) lacks {member}$"):
        registry.task_kind("OTHER")(kind_class(without=member))


def test_kind_without_a_docstring_is_refused() -> None:
    with pytest.raises(TypeError, match=r"kind OTHER \(Other\) has no docstring"):
        registry.task_kind("OTHER")(kind_class(doc=None))


def test_unknown_kind_is_named_with_the_known_ones() -> None:
    with pytest.raises(
        UnknownKindError, match="no kind of task is called 'IMPORT'; known are DELETE_STUDY, DIFF, EXPORT"
    ) as refused:
        registry.kind_of("IMPORT")

    assert isinstance(refused.value, InvalidError)
