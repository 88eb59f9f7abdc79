"""Rules that no linter keeps: who writes a status, who reads the environment, who imports whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("config", "archive", "tasks", "workers", "api")

SOURCES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8"))
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def nodes(*, without: str) -> Iterator[tuple[str, ast.AST]]:
    for name, tree in SOURCES.items():
        if name != without:
            yield from ((f"{name}:{getattr(node, 'lineno', 0)}", node) for node in ast.walk(tree))


def writes_a_status(node: ast.AST) -> bool:
    """Tell whether this assigns `.status`, passes `status=` to `values`, or updates it in SQL of ours."""
    match node:
        case ast.Attribute(attr="status", ctx=ast.Store()):
            return True
        case ast.Call(func=ast.Attribute(attr="values"), keywords=keywords):
            return any(keyword.arg == "status" for keyword in keywords)
        case ast.Constant(value=str(text)):
            words = text.upper().split()
            return "UPDATE TASK SET" in " ".join(words) or "INSERT INTO TASK " in " ".join([*words, ""])
    return False


def touches_the_task_table(node: ast.AST) -> bool:
    """Tell whether this is `update(Task)`, `insert(Task)` or `delete(Task)`."""
    match node:
        case ast.Call(func=ast.Name(id="update" | "insert" | "delete"), args=[ast.Name(id="Task"), *_]):
            return True
        case ast.Call(func=ast.Attribute(attr="add" | "delete" | "merge"), args=[ast.Call(func=ast.Name(id="Task"))]):
            return True
    return False


@pytest.mark.parametrize(
    "source",
    ["task.status = 'FAILED'", "update(Task).values(status='X')", "text('UPDATE task SET status = 1')"],
)
def test_writing_a_status_is_recognized(source: str) -> None:
    assert any(writes_a_status(node) for node in ast.walk(ast.parse(source)))


@pytest.mark.parametrize("source", ["update(Task)", "insert(Task).values(x)", "delete(Task)", "session.add(Task())"])
def test_change_of_the_task_table_is_recognized(source: str) -> None:
    assert any(touches_the_task_table(node) for node in ast.walk(ast.parse(source)))


def test_only_the_store_changes_the_task_table() -> None:
    assert [place for place, node in nodes(without="tasks/store.py") if touches_the_task_table(node)] == []
    assert any(touches_the_task_table(node) for node in ast.walk(SOURCES["tasks/store.py"]))


def test_only_the_store_writes_the_status_of_a_task() -> None:
    # Rows of the archive have a status too; they are not tasks.
    found = [
        place
        for place, node in nodes(without="tasks/store.py")
        if writes_a_status(node) and not place.startswith(("archive/", "config/"))
    ]

    assert found == []


def reads_the_environment(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "environb" | "getenv" | "putenv"):
            return True
        case ast.ImportFrom(module="os", names=names):
            return any(name.name in {"environ", "environb", "getenv", "putenv"} for name in names)
    return False


@pytest.mark.parametrize("source", ["os.environ['X']", "os.getenv('X')", "from os import environ"])
def test_reading_the_environment_is_recognized(source: str) -> None:
    assert any(reads_the_environment(node) for node in ast.walk(ast.parse(source)))


def test_only_the_settings_read_the_environment() -> None:
    assert [place for place, node in nodes(without="config/settings.py") if reads_the_environment(node)] == []
    assert any(reads_the_environment(node) for node in ast.walk(SOURCES["config/settings.py"]))


def imported(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [name.name for name in names]
        case ast.ImportFrom(module=str(module), names=names, level=0):
            return [module, *(f"{module}.{name.name}" for name in names)]
    return []


@pytest.mark.parametrize("package", PACKAGES)
def test_package_imports_none_above_it(package: str) -> None:
    above = set(PACKAGES[PACKAGES.index(package) + 1 :])

    wrong = [
        f"{place} imports {module}"
        for place, node in nodes(without="")
        if place.startswith(f"{package}/")
        for module in imported(node)
        if module.partition(".")[0] in above
    ]

    assert wrong == []


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [("config", {"sqlalchemy", "psycopg", "celery", "kombu"}), ("archive", {"celery", "kombu"}),
     ("tasks", {"celery", "kombu"}), ("workers", {"fastapi", "starlette", "uvicorn"})],
)  # fmt: skip
def test_package_does_not_know_what_is_not_its_own(package: str, forbidden: set[str]) -> None:
    wrong = [
        f"{place} imports {module}"
        for place, node in nodes(without="")
        if place.startswith(f"{package}/")
        for module in imported(node)
        if module.partition(".")[0] in forbidden
    ]

    assert wrong == []


def test_kinds_do_not_know_each_other() -> None:
    kinds = [name for name in SOURCES if name.startswith("tasks/kinds/")]
    wrong = [
        f"{name} imports {module}"
        for name in kinds
        for node in ast.walk(SOURCES[name])
        for module in imported(node)
        if module.startswith("tasks.kinds.")
    ]

    assert wrong == []


def test_errors_are_caught_broadly_in_named_places_only() -> None:
    def is_broad(node: ast.AST) -> bool:
        match node:
            case ast.ExceptHandler(type=None | ast.Name(id="Exception" | "BaseException")):
                return True
        return False

    found = [place.partition(":")[0] for place, node in nodes(without="") if is_broad(node)]

    # api/ has an edge of its own towards callers, the embedded servers one towards what they started.
    engine = [p for p in found if p.startswith(("tasks/", "workers/")) and not p.startswith("workers/embedded/")]
    # Two threads go on after a defect, and log it: without them all sending, and all leases, would end. Intake
    # refuses the message that met one, so that it does not hold up all others. A fork of the nursery must end.
    assert engine == [
        "workers/dispatch.py", "workers/execute.py", "workers/heartbeat.py", "workers/intake.py",
        "workers/nursery.py",
    ]  # fmt: skip
