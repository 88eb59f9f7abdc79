"""What doctor says of PostgreSQL and the broker; the server of the tests is fast and unsafe, and must be told so."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from api.doctor import database as database_checks
from api.doctor.finding import Severity
from archive import schema
from config import settings
from tests import factories
from tests.lab import rabbitmq
from tests.lab.examined import by_command, examine
from workers.embedded.postgres import EmbeddedPostgres
from workers.embedded.valkey import EmbeddedValkey
from workers.queues import INTAKE


def sql(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def set_default(url: str, name: str, value: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET {name} = {value}")


@pytest.mark.parametrize("name", ["fsync", "synchronous_commit", "full_page_writes"])
def test_server_that_may_lose_commits_is_an_error(home: Path, name: str) -> None:
    found = examine().of("database", name)

    assert found.severity is Severity.ERROR
    assert (found.found.partition(":")[0], found.expected) == ("off", "on")
    assert found.do == f"{name} = on in postgresql.conf"


def test_schema_that_is_behind_is_an_error_with_the_command_to_run(home: Path, database: str) -> None:
    sql(database, "UPDATE alembic_version SET version_num = '0001'")

    said = examine()

    found = said.of("database", "schema revision")
    assert (found.severity, found.found, found.expected) == (Severity.ERROR, "0001", schema.head_revision())
    assert found.do == "arcfleet db upgrade"
    assert "the schema of the database is not ours" in said.of("doctor", "not looked at").found
    assert not said.says("beat", "leader")


def test_empty_database_and_one_of_a_newer_version_are_errors(home: Path, database: str) -> None:
    sql(database, "UPDATE alembic_version SET version_num = '9999'")
    newer = examine().of("database", "schema revision")
    sql(database, "DELETE FROM alembic_version")
    empty = examine().of("database", "schema revision")

    assert (newer.found, newer.do) == ("9999", "update arcfleet on this machine")
    assert (empty.found, empty.do) == ("empty", "arcfleet db upgrade")


def test_database_that_only_reads_is_an_error(home: Path, database: str) -> None:
    set_default(database, "default_transaction_read_only", "on")

    found = examine().of("database", "writable")

    assert (found.severity, found.found) == (Severity.ERROR, "default_transaction_read_only is on")


def test_long_transaction_is_named_with_its_process(home: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_checks, "_LONG_S", 0)
    with psycopg.connect(database, application_name="forgotten") as connection:
        connection.execute("SELECT 1")

        found = examine().of("database", "long transaction")

        assert found.severity is Severity.WARNING
        assert f"forgotten (pid {connection.info.backend_pid}) is idle in transaction" in found.found
        assert found.do == f"end it: SELECT pg_terminate_backend({connection.info.backend_pid})"


def test_database_that_does_not_answer_is_an_error_and_the_rest_is_looked_at(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCFLEET_DATABASE_URL", f"postgresql://arcfleet:top-secret-1@/arcfleet?host={tmp_path}")
    settings.reload()

    said = examine()

    found = said.of("database", "connection")
    assert (found.severity, found.expected) == (Severity.ERROR, "an answer")
    assert "top-secret-1" not in said.shown()
    assert said.of("broker", "connection").severity is Severity.OK
    assert said.of("DICOM", "C-ECHO ARCHIVE_A").severity is Severity.ERROR
    assert "no database answers" in said.of("doctor", "not looked at").found


@pytest.fixture
def small_server(servers_folder: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL with fewer connections than the sample cluster may need."""
    server = EmbeddedPostgres(servers_folder / "small", servers_folder / "sm", settings={"max_connections": "30"})
    server.start()
    yield server
    server.kill()


def test_too_few_connections_are_an_error_that_counts_them(
    home: Path, small_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema.upgrade(small_server.url)
    monkeypatch.setenv("ARCFLEET_DATABASE_URL", small_server.url)
    settings.reload()

    said = examine()

    found = said.of("database", "connections")
    assert found.severity is Severity.ERROR
    assert "27 of 30 are not reserved" in found.found
    possible = int(found.found.split()[0])
    assert possible > 27
    assert found.expected == f"max_connections of at least {possible + 3}"
    assert said.of("database", "fsync").severity is Severity.OK


def test_frozen_database_does_not_stop_the_command(
    home: Path, small_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCFLEET_DATABASE_URL", small_server.url)
    small_server.freeze()

    said = by_command()

    assert said.code == 1
    assert said.of("database", "connection").severity is Severity.ERROR
    assert said.of("broker", "version").severity is Severity.OK


@pytest.fixture
def own_valkey(servers_folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedValkey]:
    """A broker that a test may change."""
    server = EmbeddedValkey(servers_folder / "own-valkey", servers_folder / "ov")
    server.start()
    monkeypatch.setenv("ARCFLEET_BROKER_URL", server.url)
    settings.reload()
    yield server
    server.kill()


def test_frozen_broker_does_not_stop_the_command(own_valkey: EmbeddedValkey) -> None:
    own_valkey.freeze()

    said = by_command()

    found = said.of("broker", "connection")
    assert said.code == 1
    assert (found.severity, found.expected) == (Severity.ERROR, "an answer")
    assert str(own_valkey.socket) in found.found
    assert said.of("database", "schema revision").severity is Severity.OK
    assert not said.says("broker", "channels")


def test_broker_that_throws_messages_away_is_an_error(own_valkey: EmbeddedValkey) -> None:
    with own_valkey.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")

    found = examine().of("broker", "maxmemory-policy")

    assert (found.severity, found.expected) == (Severity.ERROR, "noeviction")
    assert found.found.startswith("allkeys-lru")


def test_broker_without_persistence_is_a_note_and_with_jobs_of_others_a_warning(own_valkey: EmbeddedValkey) -> None:
    with own_valkey.client() as client:
        client.config_set("appendonly", "no")
        without_jobs = examine().of("broker", "appendonly")
        client.lpush(INTAKE, "{}")
        with_jobs = examine().of("broker", "appendonly")

    assert (without_jobs.severity, without_jobs.expected) == (Severity.NOTE, "yes")
    assert (with_jobs.severity, with_jobs.expected) == (Severity.WARNING, "yes")


def test_nearly_full_broker_is_a_warning(own_valkey: EmbeddedValkey) -> None:
    with own_valkey.client() as client:
        client.config_set("maxmemory", str(int(client.info("memory")["used_memory"])))

    assert examine().of("broker", "memory").severity is Severity.WARNING


def test_rabbitmq_is_known_by_name_and_a_wrong_password_is_told_without_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="arcfleet-rabbit-") as name, rabbitmq.running(Path(name)) as server:
        monkeypatch.setenv("ARCFLEET_BROKER_URL", server.url)
        settings.reload()
        said = examine(remote=False)
        monkeypatch.setenv("ARCFLEET_BROKER_URL", server.url.replace("guest@", "wrong-1@"))
        settings.reload()
        refused = examine(remote=False)

    assert said.of("broker", "version").found.startswith("RabbitMQ ")
    assert said.of("broker", "channels").severity is Severity.OK
    assert "guest:***@127.0.0.1" in said.of("broker", "connection").found
    assert refused.of("broker", "connection").severity is Severity.ERROR
    assert "wrong-1" not in refused.shown()


def test_messages_that_nobody_takes_are_a_warning_that_names_the_worker_to_start(
    home: Path, valkey: EmbeddedValkey
) -> None:
    with valkey.client() as client:
        client.lpush("archive-b", "{}", "{}")

    found = examine().of("broker", "channel archive-b")

    assert (found.severity, found.device) == (Severity.WARNING, "archive-b")
    assert found.found == "2 messages, and no worker takes them"
    assert found.do == "arcfleet worker --device archive-b"


def test_long_channel_is_a_warning_with_what_is_usual(home: Path, valkey: EmbeddedValkey) -> None:
    factories.seen_worker("archive-a")
    with valkey.client() as client:
        client.lpush("archive-a", *(["{}"] * 200))

    found = examine().of("broker", "channel archive-a")

    assert (found.severity, found.found, found.expected) == (Severity.WARNING, "200 messages", "at most about 62")


def test_channel_of_a_device_that_is_gone_is_looked_at_too(home: Path, valkey: EmbeddedValkey) -> None:
    factories.seen_worker("archive-z")
    factories.sql("UPDATE worker_node SET stopped_at = clock_timestamp()")
    with valkey.client() as client:
        client.lpush("archive-z", "{}")

    assert examine().of("broker", "channel archive-z").severity is Severity.WARNING
