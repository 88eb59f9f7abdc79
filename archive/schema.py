"""The database's schema: which revision it has, which one we need, and the way from one to the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from archive import db
from archive.errors import ArchiveError

_MIGRATIONS = "archive:migrations"  # a folder of the package, also in an installed wheel
_LOCK_ID = 4_731_902_001  # any number, the same in each process that upgrades


class SchemaError(ArchiveError):
    """The database cannot be reached, or its schema is not the one that this version needs."""


class SchemaTooOldError(SchemaError):
    """The schema is older than this version: `arcfleet db upgrade` mends it."""


class SchemaTooNewError(SchemaError):
    """The schema was made by a newer version: only a newer version can use it."""


def head_revision() -> str | None:
    """Return the newest revision that this version knows; None: it knows none."""
    return _scripts().get_current_head()


def current_revision(url: str) -> str | None:
    """Return the revision of the database; None: no schema yet.

    Raises:
        SchemaError: the database cannot be reached.
    """
    with _connection(url) as connection:
        return revision_of(connection)


def upgrade(url: str) -> str | None:
    """Bring the schema to the newest revision, in one transaction, and return that revision.

    Raises:
        SchemaTooNewError: the schema was made by a newer version; nothing is changed.
    """
    with _connection(url) as connection, connection.begin():
        connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": _LOCK_ID})
        _refuse_newer(revision_of(connection))
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return head_revision()


def check(url: str) -> None:
    """See that the schema is the one that this version needs.

    Raises:
        SchemaTooOldError: it has to be upgraded first.
        SchemaTooNewError: it was made by a newer version.
    """
    require(current_revision(url))


def require(revision: str | None) -> None:
    """See that a revision is the one that this version needs. Raises as `check` does."""
    _refuse_newer(revision)
    if revision != head_revision():
        found = f"is at revision {revision}" if revision else "is empty"
        raise SchemaTooOldError(f"the database {found}, expected revision {head_revision()}: run `arcfleet db upgrade`")


def _refuse_newer(revision: str | None) -> None:
    known = {script.revision for script in _scripts().walk_revisions()}
    if revision is not None and revision not in known:
        raise SchemaTooNewError(
            f"the database is at revision {revision}, made by a newer arcfleet; "
            f"expected at most revision {head_revision()}: run the newer version"
        )


def revision_of(connection: Connection) -> str | None:
    """Return the revision of the database at the other end; None: no schema yet."""
    return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", _MIGRATIONS)
    config.set_main_option("path_separator", "os")
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


@contextmanager
def _connection(url: str) -> Iterator[Connection]:
    engine = db.make_engine(url, pool_size=1, application_name="arcfleet-schema")
    try:
        with engine.connect() as connection:
            yield connection
    except OperationalError as error:
        shown = engine.url.render_as_string(hide_password=True)
        raise SchemaError(f"the database {shown} cannot be used: {_first_line(error)}") from error
    finally:
        engine.dispose()


def _first_line(error: OperationalError) -> str:
    return str(error.orig).strip().splitlines()[0]
