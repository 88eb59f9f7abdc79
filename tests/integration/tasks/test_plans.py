"""With 50,000 tasks the statements of each run go by indexes; and the migrations make what the classes say."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import event, text
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.orm import Session

import archive
import tasks
from archive import db
from tasks import due, history, query, slots, store, taking
from tasks.run import Ending, Stop
from tasks.slots import Reservation
from tasks.state import Event
from tests import factories


@pytest.fixture
def many(database: str) -> str:
    """50,000 tasks of two devices and queues: most wait until tonight, or are done; 2,000 are due."""
    factories.sql(
        """
        INSERT INTO task (kind, device, queue, status, priority, scheduled_time, exporter_id, study_uid, destination)
        SELECT 'EXPORT', CASE WHEN n % 2 = 0 THEN 'archive-a' ELSE 'archive-b' END,
               CASE WHEN n % 3 = 0 THEN 'Retrieve' ELSE 'Export' END,
               (ARRAY['SCHEDULED', 'SCHEDULED', 'COMPLETED', 'COMPLETED', 'FAILED'])[1 + n % 5], n % 10,
               CASE WHEN n % 25 = 0 THEN now() - interval '1 min' ELSE now() + interval '1 day' END,
               'Noop', '1.2.' || n % 1000, 'dicom:' || n % 7
        FROM generate_series(1, 50000) AS n
        """
    )
    factories.sql(
        """
        INSERT INTO run (task_id, kind, device, queue, slot, token, came_from, lease_until, claimed_at, ended_at)
        SELECT id, kind, device, queue, 1, gen_random_uuid(), 'SCHEDULED', now(), now(), now() FROM task
        """
    )
    factories.sql("ANALYZE")
    return database


@contextmanager
def plans() -> Iterator[list[str]]:
    """Collect the plan of each statement that is run meanwhile, as the database would run it again."""
    found: list[str] = []
    busy = False

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        nonlocal busy
        if busy or statement.startswith("EXPLAIN") or many:
            return
        busy = True
        with cursor.connection.cursor() as other:
            other.execute("EXPLAIN " + statement, parameters)
            found.append("\n".join(line for (line,) in other.fetchall()))
        busy = False

    event.listen(db.engine(), "before_cursor_execute", explain)
    try:
        yield found
    finally:
        event.remove(db.engine(), "before_cursor_execute", explain)


def reserving(session: Session) -> list[Reservation]:
    return slots.reserve(session, "archive-a", "Export", 4)


def of(work: Callable[[Session], Any]) -> str:
    with db.transaction() as session:
        session.execute(text("SELECT 1"))
        with plans() as found:
            work(session)
    return "\n".join(found)


def test_plan_of_a_sequential_scan_is_recognized(many: str) -> None:
    plan = of(lambda session: session.execute(text("SELECT * FROM task WHERE failures = 7")))

    assert "Seq Scan on task" in plan


def test_reservation_goes_by_the_index_of_due_tasks(many: str) -> None:
    plan = of(reserving)

    assert "Index Scan using ix_task_due" in plan
    assert "Seq Scan on task" not in plan
    assert "Seq Scan on run" not in plan


def test_reservation_beside_full_and_held_destinations_goes_by_the_index(many: str) -> None:
    factories.sql("INSERT INTO destination (name, cap) VALUES ('dicom:1', 1), ('dicom:2', 0)")
    factories.sql("INSERT INTO destination (name, held_by) VALUES ('dicom:3', 'anna')")

    plan = of(reserving)

    assert "Index Scan using ix_task_due" in plan
    assert "Seq Scan on task" not in plan
    assert "Seq Scan on run" not in plan


def test_what_is_due_is_found_by_the_index_of_due_tasks(many: str) -> None:
    factories.seen_worker()
    pairs = [(device, name) for device in ("archive-a", "archive-b") for name in ("Export", "Retrieve", "Empty")]

    plan = of(lambda session: due.glance(session, pairs, factories.LEASE))

    assert "ix_task_due" in plan
    assert "Seq Scan on task" not in plan


def test_claim_report_and_rescue_go_by_keys(many: str) -> None:
    [reservation, *_] = factories.reserve()

    def work(session: Session) -> None:
        claimed = store.claim(
            session, reservation.task_id, reservation.run_id, reservation.token, node=factories.NODE,
            lease=factories.LEASE,
        )  # fmt: skip
        assert claimed is not None
        store.lose(session, reservation.task_id, reservation.run_id, {}, factories.BY)

    plan = of(work)

    assert plan.count("pk_task") >= 4
    assert "Seq Scan" not in plan


def test_sweep_heartbeat_and_stop_requests_look_at_open_runs_only(many: str) -> None:
    reservations = factories.reserve()
    run_ids = [one.run_id for one in reservations]

    def work(session: Session) -> None:
        slots.open_runs(session)
        slots.renew_reservations(session, "archive-a", ["EXPORT"])
        due.look(session, "archive-a", ["Export"], ["EXPORT"])
        slots.renew_leases(session, run_ids, factories.LEASE)
        session.scalars(text(slots.UNNAMED), {"id": 1, "named": run_ids, "grace": factories.LEASE})
        slots.ask_to_stop(session, [one.task_id for one in reservations], Stop.CANCEL)
        slots.release(session, run_ids, Ending.UNSENT)

    assert "Seq Scan on run" not in of(work)


def test_single_task_and_its_history_are_found_by_indexes(many: str) -> None:
    [task] = factories.insert()
    factories.change(Event.CANCEL, task.id)

    def work(session: Session) -> None:
        wanted = query.TaskQuery(ids=(task.id,), kinds=("EXPORT",))
        assert len(taking.take(session, wanted.conditions(), 0, 1)) == 1
        assert len(history.of_task(session, task.id)) == 2

    assert "Seq Scan on task" not in of(work)


def differences(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what the classes describe and the database lacks, or has otherwise."""
    monkeypatch.setitem(ischema_names, "xid8", history.Xid8)
    for package in (archive, tasks):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" not in module.name:
                importlib.import_module(module.name)
    with db.engine().connect() as connection:
        opts = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=opts), db.Base.metadata))


def test_migrations_make_the_database_that_the_classes_describe(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert differences(monkeypatch) == []


@pytest.mark.parametrize(
    "change",
    [
        "DROP INDEX ix_task_due",
        "ALTER TABLE run DROP COLUMN token",
        "ALTER TABLE task ALTER priority SET DEFAULT 5",
        "ALTER TABLE task ALTER batch_id SET NOT NULL",
        "CREATE TABLE other (id int)",
    ],
)
def test_database_that_is_not_as_described_is_recognized(
    database: str, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    factories.sql(change)

    assert differences(monkeypatch) != []
