"""The schema of a real database against the revisions that this version knows."""

from __future__ import annotations

import threading

import psycopg
import pytest

from archive import schema
from workers.embedded.postgres import EmbeddedPostgres


@pytest.fixture
def empty_database(postgres: EmbeddedPostgres) -> str:
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS empty")
        connection.execute("CREATE DATABASE empty")
    return postgres.url_of("empty")


def test_upgraded_database_is_as_expected_and_stays_so(empty_database: str) -> None:
    assert schema.upgrade(empty_database) == schema.head_revision()
    assert schema.upgrade(empty_database) == schema.head_revision()

    schema.check(empty_database)


def test_two_upgrades_at_once_do_not_disturb_each_other(empty_database: str) -> None:
    ended = []
    upgrades = [threading.Thread(target=lambda: ended.append(schema.upgrade(empty_database))) for _ in range(2)]

    for upgrade in upgrades:
        upgrade.start()
    for upgrade in upgrades:
        upgrade.join()

    assert ended == [schema.head_revision()] * 2


def test_empty_database_is_refused_with_the_command_to_run(empty_database: str) -> None:
    with pytest.raises(schema.SchemaTooOldError, match=r"the database is empty, .*run `arcfleet db upgrade`"):
        schema.check(empty_database)


def test_schema_of_a_newer_version_is_refused_and_left_alone(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num varchar(32) NOT NULL)")
        connection.execute("DELETE FROM alembic_version")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")

    for use in (schema.check, schema.upgrade):
        with pytest.raises(schema.SchemaTooNewError, match=r"at revision 9999, made by a newer arcfleet"):
            use(database)

    assert schema.current_revision(database) == "9999"


def test_database_that_cannot_be_reached_is_named_without_its_password() -> None:
    with pytest.raises(schema.SchemaError, match=r"127\.0\.0\.1:1/x cannot be used") as refused:
        schema.check("postgresql://someone:secret@127.0.0.1:1/x")

    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)
