"""The revisions and the mapped classes give the same database."""

from __future__ import annotations

import importlib
import pkgutil
import re
import warnings
from types import ModuleType
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, Connection, inspect
from sqlalchemy.dialects import postgresql

import archive
import archive.model
import tasks
from archive import db

#: Revisions' own table.
BOOKS = "alembic_version"


def load(package: ModuleType) -> None:
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)


def differences(connection: Connection) -> list[Any]:
    options = {
        "compare_type": True,
        "include_object": lambda thing, name, kind, reflected, other: (kind, name) != ("table", BOOKS),
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Did not recognize type 'xid8'")
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), db.Base.metadata))


def texts(expression: str) -> set[str]:
    return set(re.findall(r"'([^']+)'", expression))


def test_revisions_give_what_the_mapped_classes_say(database: str) -> None:
    load(archive)
    load(archive.model)
    load(tasks)

    with db.engine().connect() as connection:
        assert differences(connection) == []


def test_choices_that_the_database_checks_are_those_of_the_classes(database: str) -> None:
    load(archive.model)
    load(tasks)
    inspector = inspect(db.engine())
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]

    for table in db.Base.metadata.sorted_tables:
        there = [texts(check["sqltext"]) for check in inspector.get_check_constraints(table.name)]
        for constraint in table.constraints:
            if isinstance(constraint, CheckConstraint):
                written = str(constraint.sqltext.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
                assert texts(written) in there, f"{table.name}: {written}"
