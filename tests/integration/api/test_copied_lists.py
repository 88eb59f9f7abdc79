"""CSV that the database writes is byte by byte what Python would write."""

from __future__ import annotations

import json
from datetime import UTC, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from api.rest import copied, listing
from api.rest import shape as shapes
from api.rest.shape import Shape
from archive import db
from tasks import query as queries
from tasks.query import Page, TaskQuery
from tasks.state import Status
from tests import factories
from tests.integration.api.wire import EXPORTS, Wire

WRITTEN = [shape for shape in shapes.shapes().values() if copied.can_write(shape, UTC)]

NASTY = (
    None,
    "",
    " ",
    '"',
    '""',
    ",",
    ";",
    "\n",
    "\r\n",
    "a\\b",
    "\\.",
    "\\N",
    "NULL",
    "Müller 日本",
    "%s %(a)s",
    ":x",
)
TIMES = (
    "2026-01-20 12:05:10.0005+00", "2026-07-20 12:05:10.9999+00", "1969-12-31 23:59:59.999999+00",
    "2026-03-29 01:00:00+00", "2026-10-25 00:59:59.5+00",
)  # fmt: skip
PROGRESS: tuple[dict[str, Any], ...] = (
    {}, {"numInstances": 7}, {"numInstances": 0, "modalities": []}, {"modalities": ["CT"]},
    {"modalities": ["CT", "S,R", '"'], "numInstances": 12345678901}, {"numInstances": None, "modalities": None},
)  # fmt: skip


def fill(shape: Shape) -> None:
    own = {"fileSystemID": 3, "fileSystem": 'a "b"', "group": "ONLINE", "trigger": "rest", "bytes": 10**12}
    for number, (text, at) in enumerate(zip(NASTY, TIMES * 4, strict=False)):
        [task] = factories.insert(
            kind=shape.kind, batch_id=text, exporter_id=text, local_aet=text, study_uid=text, series_uid=text,
            sop_uid=text, params=own if number % 2 else {},
        )  # fmt: skip
        factories.sql(
            "UPDATE task SET created_time = :at, updated_time = :at, scheduled_time = :at, started_time = :at,"
            " ended_time = CASE WHEN id % 2 = 0 THEN CAST(:at AS timestamptz) END, failures = id % 3,"
            " error_message = :text, outcome_message = :text, progress = CAST(:progress AS jsonb) WHERE id = :id",
            at=at, text=text, id=task.id, progress=json.dumps(PROGRESS[number % len(PROGRESS)]),
        )  # fmt: skip


def by_python(shape: Shape, zone: tzinfo, delimiter: str, page: Page) -> bytes:
    with db.transaction() as session:
        tasks = queries.find(session, TaskQuery(kinds=(shape.kind,)), page)
        return "".join(listing.as_csv(tasks, shape, zone, delimiter)).encode()


def by_database(shape: Shape, zone: tzinfo, delimiter: str, page: Page) -> bytes:
    with db.transaction() as session:
        return b"".join(copied.parts(session, TaskQuery(kinds=(shape.kind,)), page, shape, zone, delimiter))


@pytest.fixture(params=WRITTEN, ids=lambda shape: shape.slug)
def shape(request: pytest.FixtureRequest, cluster: None) -> Shape:
    chosen: Shape = request.param
    fill(chosen)
    return chosen


def test_database_writes_exports_and_deletions() -> None:
    assert {"export", "deletion"} <= {shape.slug for shape in WRITTEN}


@pytest.mark.parametrize(
    "zone", [UTC, ZoneInfo("Europe/Vienna"), ZoneInfo("Asia/Kolkata"), ZoneInfo("America/St_Johns")]
)
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_both_write_the_same(shape: Shape, zone: tzinfo, delimiter: str) -> None:
    written = by_database(shape, zone, delimiter, Page(order="createdTime"))

    assert written == by_python(shape, zone, delimiter, Page(order="createdTime"))
    assert written.count(b"\r\n") > len(NASTY)


@pytest.mark.parametrize(
    "page", [Page(limit=3), Page(offset=2, limit=5), Page(offset=100), Page(order="-scheduledTime")]
)
def test_both_write_the_same_page(shape: Shape, page: Page) -> None:
    assert by_database(shape, UTC, ",", page) == by_python(shape, UTC, ",", page)


def test_every_filter_can_be_copied(cluster: None) -> None:
    fill(shapes.shapes()["export"])
    wanted = TaskQuery(
        ids=tuple(factories.sql("SELECT id FROM task")), kinds=("EXPORT",), devices=("archive-a", "archive-b"),
        statuses=(Status.SCHEDULED, Status.FAILED), exporter_ids=("a\\b", "%s %(a)s", ":x"),
        created=(factories.sql("SELECT min(created_time) FROM task")[0], None), requester_user=None,
    )  # fmt: skip

    with db.transaction() as session:
        parts = copied.parts(session, wanted, Page(), shapes.shapes()["export"], UTC, ",")
        assert b"".join(parts).count(b"\r\n") == 1 + 3


def test_zone_without_a_name_is_left_to_python(wire: Wire) -> None:
    factories.insert()

    lines = wire.get(EXPORTS, accept="text/csv").content.split(b"\r\n")

    assert len(lines) == 3
    assert not copied.can_write(shapes.shapes()["export"], _Odd())


class _Odd(tzinfo):
    pass


def test_zone_of_the_session_is_that_of_the_server_again_afterwards(cluster: None) -> None:
    by_database(shapes.shapes()["export"], ZoneInfo("Asia/Tokyo"), ",", Page())

    assert factories.sql("SHOW timezone") == ["UTC"]


def test_connection_can_be_used_again_after_a_client_that_went_away(
    cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copied, "_CHUNK", 1)
    factories.insert(2000)

    with db.transaction() as session:
        parts = copied.parts(session, TaskQuery(), Page(), shapes.shapes()["export"], UTC, ",")
        next(parts)
        next(parts)
        parts.close()

    assert factories.sql("SELECT count(*) FROM task") == [2000]
