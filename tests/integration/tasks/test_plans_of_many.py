"""With 200,000 tasks of all sorts a page, a count and a chunk of a bulk call read few pages of the database.

What is counted are blocks, not time: they are the same on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from archive import db
from benchmarks import crowd
from tasks import batches, causes, history, query, slots, store, taking
from tasks.query import Page, TaskQuery
from tasks.record import Task
from tasks.run import Stop
from tasks.state import Status
from tasks.store import By, Target
from tests import factories
from workers.embedded.postgres import EmbeddedPostgres

NUMBER = 200_000

#: Blocks of 8 KB. All tasks fill about 9,500, the largest index about 3,000.
FOR_A_PAGE = 300
FOR_A_SORTED_PAGE = 3000
FOR_A_COUNT = 3500
ALL = 10_000

NOW = datetime.now(UTC)
A_DAY = (NOW - timedelta(days=50), NOW - timedelta(days=49))
A_MONTH = (NOW - timedelta(days=80), NOW - timedelta(days=50))
FAILED = (Status.FAILED,)

#: What lists and counts are narrowed down by, and how many blocks a page may read.
FILTERS: dict[str, tuple[dict[str, Any], int]] = {
    "none": ({}, FOR_A_PAGE),
    "status": ({"statuses": FAILED}, FOR_A_PAGE),
    "commonest status": ({"statuses": (Status.COMPLETED,)}, FOR_A_PAGE),
    "rare status": ({"statuses": (Status.CANCELED,)}, FOR_A_PAGE),
    "waiting": ({"statuses": (Status.SCHEDULED, Status.SCHEDULED_FOR_RETRY)}, FOR_A_PAGE),
    "two old statuses": ({"statuses": (Status.FAILED, Status.SCHEDULED_FOR_RETRY)}, FOR_A_PAGE),
    "device": ({"devices": ("archive-b",)}, FOR_A_PAGE),
    "rare device": ({"devices": ("archive-c",)}, FOR_A_PAGE),
    "device without tasks": ({"devices": ("archive-x",)}, FOR_A_PAGE),
    "device and status": ({"devices": ("archive-b",), "statuses": FAILED}, FOR_A_PAGE),
    "rare device and status": ({"devices": ("archive-c",), "statuses": FAILED}, FOR_A_PAGE),
    "exporter": ({"exporter_ids": ("Exporter1",)}, FOR_A_PAGE),
    "rare exporter": ({"exporter_ids": ("Rare",)}, FOR_A_PAGE),
    "exporter and status": ({"exporter_ids": ("Exporter2",), "statuses": FAILED}, FOR_A_PAGE),
    "rare exporter and status": ({"exporter_ids": ("Rare",), "statuses": FAILED}, FOR_A_PAGE),
    "device and exporter": ({"devices": ("archive-b",), "exporter_ids": ("Exporter1",)}, FOR_A_PAGE),
    "rare device and exporter": ({"devices": ("archive-c",), "exporter_ids": ("Exporter1",)}, FOR_A_PAGE),
    "batch": ({"batch_id": "batch-100"}, FOR_A_SORTED_PAGE),
    "batch and status": ({"batch_id": "batch-22", "statuses": FAILED}, FOR_A_SORTED_PAGE),
    "study": ({"study_uid": "of a task"}, FOR_A_PAGE),
    "study and status": ({"study_uid": "of a task", "statuses": FAILED}, FOR_A_PAGE),
    "created on a day": ({"created": A_DAY}, FOR_A_SORTED_PAGE),
    "created and status": ({"created": A_MONTH, "statuses": FAILED}, FOR_A_SORTED_PAGE),
    "updated on a day": ({"updated": A_DAY}, FOR_A_PAGE),
    "updated and status": ({"updated": A_MONTH, "statuses": FAILED}, FOR_A_PAGE),
    "updated and device": ({"updated": A_MONTH, "devices": ("archive-b",)}, FOR_A_PAGE),
    "id": ({"ids": (12, 13, 14)}, FOR_A_PAGE),
}


def of_kinds(*kinds: str, **values: Any) -> dict[str, Any]:
    return {"kinds": kinds, **values}


def in_queue(name: str, **values: Any) -> dict[str, Any]:
    return {"kinds": (), "queues": (name,), **values}


#: The same of other kinds and of queues: a frequent value, a rare one, one that no task has.
FILTERS |= {
    "retrieves": (of_kinds("RETRIEVE"), FOR_A_PAGE),
    "local AE": (of_kinds("RETRIEVE", local_aet="ARCHIVE_A"), FOR_A_PAGE),
    "rare local AE": (of_kinds("RETRIEVE", local_aet="ARCFLEET"), FOR_A_PAGE),
    "local AE without tasks": (of_kinds("RETRIEVE", local_aet="X"), FOR_A_PAGE),
    "remote AE": (of_kinds("RETRIEVE", remote_aet="PACS1"), FOR_A_SORTED_PAGE),
    "rare remote AE": (of_kinds("RETRIEVE", remote_aet="RARE"), FOR_A_PAGE),
    "remote AE without tasks": (of_kinds("RETRIEVE", remote_aet="X"), FOR_A_PAGE),
    "remote AE and status": (of_kinds("RETRIEVE", remote_aet="PACS1", statuses=FAILED), FOR_A_SORTED_PAGE),
    "destination AE": (of_kinds("RETRIEVE", destination_aet="ARCHIVE_A"), FOR_A_PAGE),
    "one of many destination AEs": (of_kinds("RETRIEVE", destination_aet="STATION3"), FOR_A_SORTED_PAGE),
    "destination AE without tasks": (of_kinds("RETRIEVE", destination_aet="X"), FOR_A_PAGE),
    "queue of retrieves": (of_kinds("RETRIEVE", queues=("Retrieve",)), FOR_A_PAGE),
    "rare queue of retrieves": (of_kinds("RETRIEVE", queues=("Rare",)), FOR_A_PAGE),
    "two queues of retrieves": (of_kinds("RETRIEVE", queues=("Rare", "X")), FOR_A_PAGE),
    "study of a retrieve": (of_kinds("RETRIEVE", study_uid="1.2.3"), FOR_A_PAGE),
    "verifications": (of_kinds("STGVER"), FOR_A_PAGE),
    "rare local AE of verifications": (of_kinds("STGVER", local_aet="ARCFLEET"), FOR_A_PAGE),
    "failed deletions": (of_kinds("DELETE_STUDY", statuses=FAILED), FOR_A_PAGE),
    "comparisons": (of_kinds("DIFF"), FOR_A_PAGE),
    "rare primary AE": (of_kinds("DIFF", remote_aet="RARE"), FOR_A_PAGE),
    "rare secondary AE": (of_kinds("DIFF", destination_aet="RARE"), FOR_A_PAGE),
    "field compared": (of_kinds("DIFF", params=(("comparefield", "PatientName"),)), FOR_A_PAGE),
    "field that is not compared": (of_kinds("DIFF", params=(("comparefield", "X"),)), FOR_A_PAGE),
    # Of a status that no task has, all that wait are looked at.
    "queue": (in_queue("Export"), FOR_A_SORTED_PAGE),
    "rare queue": (in_queue("Rare"), FOR_A_PAGE),
    "queue without tasks": (in_queue("X"), FOR_A_PAGE),
    "queue and status": (in_queue("Export", statuses=FAILED), FOR_A_PAGE),
    "queue and two statuses": (in_queue("Export", statuses=(*FAILED, Status.WARNING)), FOR_A_PAGE),
    "queue and device": (in_queue("Export", devices=("archive-b",)), FOR_A_SORTED_PAGE),
    "queue and rare device": (in_queue("Export", devices=("archive-c",)), FOR_A_PAGE),
    "queue and remote AE": (in_queue("Retrieve", remote_aet="PACS1"), FOR_A_SORTED_PAGE),
    "queue and remote AE without tasks": (in_queue("Retrieve", remote_aet="X"), FOR_A_PAGE),
    "queue and local AE": (in_queue("Export", local_aet="ARCHIVE_A"), FOR_A_SORTED_PAGE),
    # Exports have no index of their AE title: it would cost each change of them more than it is worth.
    "queue and local AE without tasks": (in_queue("Export", local_aet="X"), ALL + FOR_A_COUNT),
    "queue and study": (in_queue("Export", study_uid="1.2.3"), FOR_A_PAGE),
    "queue and a day of changes": (in_queue("Export", updated=A_DAY), FOR_A_SORTED_PAGE),
    "queue and a day of creation": (in_queue("Export", created=A_DAY), FOR_A_SORTED_PAGE),
}  # fmt: skip

#: True of most comparisons, or of many: for their rows the table is read.
FLAGS = {
    "what is missing": of_kinds("DIFF", params=(("checkMissing", True),)),
    "what is not missing": of_kinds("DIFF", params=(("checkMissing", False),)),
    "what differs": of_kinds("DIFF", params=(("checkDifferent", True),)),
}


@pytest.fixture(scope="module")
def many(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a database with 200,000 tasks; its changes are undone by who makes them."""
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE test_of_many TEMPLATE template_arcfleet STRATEGY file_copy")
    url = postgres.url_of("test_of_many")
    with psycopg.connect(url, autocommit=True) as connection:
        # Else VACUUM does not know yet that all may see the rows, and nothing is read from an index alone.
        connection.execute("SET synchronous_commit = on")
        crowd.mixed(connection, NUMBER)
    yield url
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE test_of_many WITH (FORCE)")


@pytest.fixture(autouse=True)
def engine(many: str) -> Iterator[None]:
    db.use(db.make_engine(many))
    yield
    db.use(None)


class Blocks:
    """How many blocks each statement of a session reads, and the plans."""

    def __init__(self) -> None:
        self.read = 0
        self.plans: list[str] = []
        self._busy = False

    def explain(
        self, _connection: Any, cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
    ) -> None:
        if self._busy or not statement.lstrip().startswith(("SELECT", "WITH", "UPDATE", "DELETE")):
            return
        self._busy = True
        with cursor.connection.cursor() as other:
            # What it changes is undone, and then really done.
            other.execute("SAVEPOINT explained")
            other.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
            [found] = other.fetchone()[0]
            other.execute("ROLLBACK TO SAVEPOINT explained")
        self.read += found["Plan"]["Shared Hit Blocks"] + found["Plan"]["Shared Read Blocks"]
        self.plans.append(json.dumps(found["Plan"]))
        self._busy = False


@contextmanager
def counted() -> Iterator[Blocks]:
    blocks = Blocks()
    event.listen(db.engine(), "before_cursor_execute", blocks.explain)
    try:
        yield blocks
    finally:
        event.remove(db.engine(), "before_cursor_execute", blocks.explain)


def of(work: Callable[[Session], Any]) -> Blocks:
    """Do it in a transaction that is undone."""
    with Session(db.engine()) as session, counted() as blocks:
        work(session)
        session.rollback()
    return blocks


def wanted(values: dict[str, Any]) -> TaskQuery:
    if values.get("study_uid") == "of a task":
        [study_uid] = factories.sql("SELECT study_uid FROM task WHERE id = (SELECT max(id) / 2 FROM task)")
        values = {**values, "study_uid": study_uid}
    return TaskQuery(**{"kinds": ("EXPORT",), **values})


def test_scan_of_all_tasks_is_recognized() -> None:
    blocks = of(lambda session: query.count(session, TaskQuery(requester_user="anna")))

    assert blocks.read > 2 * FOR_A_COUNT
    assert "Seq Scan" in blocks.plans[0]


@pytest.mark.parametrize("name", list(FILTERS))
def test_page_reads_little(name: str) -> None:
    values, most = FILTERS[name]
    chosen = wanted(values)

    blocks = of(lambda session: list(query.find(session, chosen, Page(limit=20))))

    assert blocks.read <= most, blocks.plans


@pytest.mark.parametrize("name", list(FILTERS))
def test_count_reads_an_index(name: str) -> None:
    chosen = wanted(FILTERS[name][0])

    blocks = of(lambda session: query.count(session, chosen))

    assert blocks.read <= FOR_A_COUNT, blocks.plans
    assert "Seq Scan" not in blocks.plans[0]


@pytest.mark.parametrize("name", FLAGS)
def test_flags_of_comparisons_read_the_table_once_at_most(name: str) -> None:
    chosen = wanted(FLAGS[name])

    page = of(lambda session: list(query.find(session, chosen, Page(limit=20))))
    count = of(lambda session: query.count(session, chosen))

    assert page.read <= FOR_A_SORTED_PAGE, page.plans
    assert count.read <= ALL, count.plans


@pytest.mark.parametrize("order", ["-updatedTime", "createdTime"])
@pytest.mark.parametrize(
    ("values", "most"),
    [
        ({}, 2 * ALL),
        ({"statuses": FAILED}, ALL // 2),
        (of_kinds("RETRIEVE", remote_aet="RARE"), FOR_A_PAGE),
        (of_kinds("RETRIEVE"), 2 * ALL),
        (of_kinds("DIFF", params=(("comparefield", "X"),)), FOR_A_PAGE),
        (in_queue("Rare"), FOR_A_PAGE),
    ],
    ids=str,
)
def test_csv_of_all_matches_reads_each_row_once(values: dict[str, Any], most: int, order: str) -> None:
    rows = query.ordered(select(Task.__table__), wanted(values), Page(order=order))

    blocks = of(lambda session: session.execute(rows).all())

    assert blocks.read <= most, blocks.plans


@pytest.mark.parametrize("values", [{}, {"statuses": FAILED}, {"batch_id": "batch-22"}, of_kinds("RETRIEVE")], ids=str)
def test_batches_read_each_row_once(values: dict[str, Any]) -> None:
    blocks = of(lambda session: batches.find(session, wanted(values), Page(limit=20), ("exporter_id",)))

    assert blocks.read <= (FOR_A_PAGE if "batch_id" in values else ALL), blocks.plans


@pytest.mark.parametrize(
    ("values", "most"),
    [({}, ALL), ({"statuses": FAILED}, ALL), ({"devices": ("archive-c",)}, FOR_A_PAGE), (in_queue("Rare"), FOR_A_PAGE)],
    ids=str,
)
def test_failures_by_cause_read_what_went_wrong(values: dict[str, Any], most: int) -> None:
    blocks = of(lambda session: causes.find(session, wanted(values), 100))

    assert blocks.read <= most, blocks.plans


@pytest.mark.parametrize("lock", [False, True])
@pytest.mark.parametrize("values", [{}, {"statuses": (Status.COMPLETED,)}, {"devices": ("archive-b",)}], ids=str)
def test_next_tasks_of_a_bulk_call_are_found_from_the_last_one_on(values: dict[str, Any], lock: bool) -> None:
    conditions = wanted(values).conditions()

    blocks = of(lambda session: taking.take_alike(session, conditions, NUMBER // 2, 1000, lock=lock))

    # About three matching tasks of four, about 22 tasks in a block, each looked up by the index.
    assert blocks.read < 9000, blocks.plans
    assert "Seq Scan" not in blocks.plans[0]


def test_change_of_a_chunk_goes_by_the_ids_of_its_tasks() -> None:
    conditions = wanted({"statuses": (Status.COMPLETED,)}).conditions()

    def change(session: Session) -> None:
        groups = taking.take_alike(session, conditions, 0, 1000, lock=False)
        target = Target("archive-b", "Export", "Noop")
        by = By("me", operation_id="an-operation")
        assert store.reschedule_alike(session, [(group, target) for group in groups], by, {}) == 1000
        history.of_operation(session, "an-operation")
        history.last_of_operation(session, "an-operation")

    plans = of(change).plans

    assert not [plan for plan in plans if '"Seq Scan"' in plan and '"Relation Name": "task"' in plan]
    assert [plan for plan in plans if '"Index Name": "pk_task"' in plan and '"Operation": "Update"' in plan]


def test_open_runs_of_many_tasks_are_found_among_the_open_ones() -> None:
    ids = list(range(1, 10_001))

    blocks = of(lambda session: slots.ask_to_stop(session, ids, Stop.CANCEL))

    assert blocks.read < 10, blocks.plans


def test_pages_are_those_that_all_tasks_in_order_would_give() -> None:
    """However a page is found, it is the same."""
    with db.transaction() as session:
        some = ("remote AE and status", "queue and status", "queue and local AE", "queue and remote AE", "rare queue")
        for name in ("waiting", "created on a day", "two old statuses", "status", "batch", *some):
            chosen = wanted(FILTERS[name][0])
            for order in ("-updatedTime", "updatedTime", "createdTime", "-scheduledTime"):
                whole = [task.id for task in query.find(session, chosen, Page(order=order))]
                page = [task.id for task in query.find(session, chosen, Page(5, 20, order))]
                assert page == whole[5:25], (name, order)
