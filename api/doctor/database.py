"""PostgreSQL: whether it answers, has our schema, loses nothing, and is not held up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, event, text
from sqlalchemy.exc import SQLAlchemyError

from api.doctor.case import Case
from api.doctor.finding import Finding, Subject
from api.words import span
from archive import db, schema
from archive.schema import SchemaError, SchemaTooNewError
from config.errors import ConfigError

SAY = Subject("database")

#: Seconds for one statement; a server that is frozen does not keep us longer.
ANSWER_S = 5.0

#: The oldest version whose SQL we use; all tests run on the newest one.
_OLDEST, _TESTED = 14, 18
#: Seconds by which clocks may differ before somebody should look.
MOST_SKEW_S = 2.0
#: Seconds after which a transaction, or waiting for a lock, is too long.
_LONG_S, _LONG_WAIT_S = 300, 30

_SERVER = text(
    """
    SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int / 10000 AS major,
           current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS is_standby,
           current_setting('default_transaction_read_only') = 'on' AS reads_only
    """
)
_SETTINGS = text("SELECT name, setting FROM pg_settings WHERE name = ANY(:names)")

#: Setting -> what it must be, and what happens otherwise.
_KEEPING = {
    "fsync": ("on", "a power cut destroys the database"),
    "full_page_writes": ("on", "a power cut leaves torn pages"),
    "synchronous_commit": ("on", "a power cut takes back what was told to be committed"),
}
#: Those of synchronous_commit that wait for the disk of this server at least.
_SAFE_COMMITS = ("on", "local", "remote_write", "remote_apply")

_LONG = text(
    """
    SELECT pid, application_name, state, extract(epoch FROM clock_timestamp() - xact_start)::float AS age_s
    FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
      AND xact_start < clock_timestamp() - make_interval(secs => :long_s)
    ORDER BY xact_start LIMIT 5
    """
)
_WAITING = text(
    """
    SELECT pid, application_name, pg_blocking_pids(pid) AS blockers,
           extract(epoch FROM clock_timestamp() - state_change)::float AS age_s
    FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND state_change < clock_timestamp() - make_interval(secs => :long_s)
    ORDER BY state_change LIMIT 5
    """
)
_PREPARED = text(
    """
    SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::float AS age_s FROM pg_prepared_xacts
    WHERE prepared < clock_timestamp() - make_interval(secs => :long_s) ORDER BY prepared LIMIT 5
    """
)


def answers(case: Case) -> Iterator[Finding]:
    """Connect, for reading only, and look at the version; what comes behind uses this connection."""
    try:
        url = case.given.database()
    except ConfigError:
        return  # `home.runs` has said so
    engine = _read_only(url)
    shown = engine.url.set(drivername="postgresql").render_as_string(hide_password=True)
    db.use(engine)
    try:
        row = _rows(_SERVER)[0]
    except (*db.OUTAGES, SQLAlchemyError) as error:
        found = f"{shown}: {db.first_line(error)}"
        yield SAY.error("connection", found, "an answer", "start it, or mend ARCFLEET_DATABASE_URL and who may connect")
        return
    case.has_database = True
    yield SAY.ok("connection", shown)
    yield from _version(row)
    if row.encoding != "UTF8":
        yield SAY.error("encoding", row.encoding, "UTF8", "make the database anew with ENCODING 'UTF8'")
    if row.is_standby or row.reads_only:
        found = "a standby" if row.is_standby else "default_transaction_read_only is on"
        yield SAY.error("writable", found, "a server that takes changes", "point ARCFLEET_DATABASE_URL to the primary")


def schema_fits(case: Case) -> Iterator[Finding]:
    """Compare the schema's revision with ours."""
    with db.engine().connect() as connection:
        revision = schema.revision_of(connection)
    try:
        schema.require(revision)
    except SchemaError as error:
        is_newer = isinstance(error, SchemaTooNewError)
        do = "update arcfleet on this machine" if is_newer else "arcfleet db upgrade"
        yield SAY.error("schema revision", revision or "empty", str(schema.head_revision()), do)
        return
    case.has_schema = True
    yield SAY.ok("schema revision", str(revision))


def clock(_case: Case) -> Iterator[Finding]:
    """Compare the clock of the database with that of this machine."""
    with db.engine().connect() as connection:
        before = time.time()
        there = float(connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())")) or 0)
        after = time.time()
    ahead_s = (before + after) / 2 - there
    at = datetime.fromtimestamp(there, UTC)
    yield skew("clock", ahead_s, f"this machine, database at {at:%Y-%m-%d %H:%M:%S %Z}", SAY)


def loses_nothing(_case: Case) -> Iterator[Finding]:
    """See that what is committed survives a power cut."""
    names = [*_KEEPING, "autovacuum"]
    held = {row.name: row.setting for row in _rows(_SETTINGS, names=names)}
    for name, (wanted, otherwise) in _KEEPING.items():
        is_safe = held.get(name) in (_SAFE_COMMITS if name == "synchronous_commit" else (wanted,))
        if is_safe:
            yield SAY.ok(name, held[name])
        else:
            yield SAY.error(name, f"{held.get(name)}: {otherwise}", wanted, f"{name} = {wanted} in postgresql.conf")
    if held.get("autovacuum") != "on":
        yield SAY.warning("autovacuum", f"{held.get('autovacuum')}: tables grow without end", "on", "switch it on")


def held_up(_case: Case) -> Iterator[Finding]:
    """Look for transactions that keep others waiting, or old rows from being cleared."""
    is_clear = True
    for row in _rows(_LONG, long_s=_LONG_S):
        is_clear = False
        found = f"{row.application_name or 'unnamed'} (pid {row.pid}) is {row.state} since {span(row.age_s)}"
        do = f"end it: SELECT pg_terminate_backend({row.pid})"
        yield SAY.warning("long transaction", found, f"less than {span(_LONG_S)}", do)
    for row in _rows(_WAITING, long_s=_LONG_WAIT_S):
        is_clear = False
        found = f"{row.application_name or 'unnamed'} (pid {row.pid}) waits since {span(row.age_s)}"
        by = ", ".join(map(str, row.blockers)) or "nobody"
        yield SAY.warning("lock", f"{found} for pid {by}", f"less than {span(_LONG_WAIT_S)}", "look what these do")
    for row in _rows(_PREPARED, long_s=_LONG_S):
        is_clear = False
        found, do = f"{row.gid} is prepared since {span(row.age_s)}", f"ROLLBACK PREPARED '{row.gid}'"
        yield SAY.warning("prepared transaction", found, "none: arcfleet makes none", do)
    if is_clear:
        yield SAY.ok("transactions", f"none is older than {span(_LONG_S)}")


def skew(what: str, ahead_s: float, of: str, say: Subject, *, device: str | None = None) -> Finding:
    """Judge by how much a clock differs from the database's.

    Args:
        what: the clock.
        ahead_s: seconds by which it is ahead.
        of: whose it is.
        say: the subject.
        device: that it concerns.
    """
    found = f"{abs(ahead_s):.1f} s {'ahead of' if ahead_s >= 0 else 'behind'} the database's: {of}"
    if abs(ahead_s) <= MOST_SKEW_S:
        return say.ok(what, found, device=device)
    do = "synchronize both clocks; tasks go by the database's, logs by each machine's own"
    return say.warning(what, found, f"at most {MOST_SKEW_S:g} s", do, device=device)


def _version(row: Any) -> Iterator[Finding]:
    found = f"PostgreSQL {row.version}"
    if row.major < _OLDEST:
        yield SAY.error("version", found, f"{_OLDEST} or newer, {_TESTED} is what is tested", "update it")
    elif row.major < _TESTED:
        yield SAY.note("version", found, f"{_TESTED}, which is what is tested")
    else:
        yield SAY.ok("version", found)


def _read_only(url: str) -> Engine:
    engine = db.make_engine(url, pool_size=1, application_name="arcfleet doctor", answer_s=ANSWER_S)

    @event.listens_for(engine, "connect")
    def _only_read(connection: Any, _record: Any) -> None:
        connection.read_only = True

    return engine


def _rows(statement: Any, **parameters: object) -> list[Any]:
    with db.engine().connect() as connection:
        return list(connection.execute(statement, parameters))
