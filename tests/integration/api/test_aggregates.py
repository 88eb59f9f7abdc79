"""Batches, failures by cause, and pages that go on behind the last task."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest

from tasks.state import Status
from tests import factories
from tests.integration.api.test_kinds_on_the_wire import DIFF, RETRIEVE, STGVER, insert
from tests.integration.api.wire import BASE, EXPORTS, Wire, error_of

NOON = "2026-08-20T14:05:09.123+0200"


def test_batch_with_all_that_its_tasks_have(wire: Wire) -> None:
    insert(RETRIEVE, batch_id="b")
    insert({**RETRIEVE, "queue": "Other", "device": "archive-b", "remote_aet": "PACS2"}, batch_id="b")
    insert(RETRIEVE, batch_id=None)

    [batch] = wire.get(f"{BASE}/monitor/retrieve/batch").json()

    assert list(batch.items()) == [
        ("batchID", "b"),
        ("tasks", {"scheduled": "2"}),
        ("dicomDeviceName", ["archive-a", "archive-b"]),
        ("dcmQueueName", ["Other", "Retrieve"]),
        ("LocalAET", ["ARCHIVE_A"]),
        ("RemoteAET", ["PACS", "PACS2"]),
        ("DestinationAET", ["ARCHIVE_B"]),
        ("createdTimeRange", [NOON, NOON]),
        ("updatedTimeRange", ["2026-08-20T14:06:00.000+0200"] * 2),
        ("scheduledTimeRange", ["2026-08-20T14:05:09.900+0200"] * 2),
    ]


def test_batch_counts_every_status_and_status_only_chooses_the_batch(wire: Wire) -> None:
    for status in Status:
        # A queue each: what is placed later must not run what was placed before.
        factories.placed(status, batch_id="all", queue=f"Queue of {status}")
    factories.insert(batch_id="waiting")

    [batch] = wire.get(f"{EXPORTS}/batch?status=FAILED").json()

    assert batch["batchID"] == "all"
    assert list(batch["tasks"].items()) == [
        (name, "1")
        for name in ("scheduled", "scheduled-for-retry", "in-process", "warning", "failed", "canceled", "completed")
    ]
    assert batch["ExporterID"] == ["Noop"]
    assert len(batch["processingStartTimeRange"]) == 2
    assert [one["batchID"] for one in wire.get(f"{EXPORTS}/batch?status=waiting&orderby=createdTime").json()] == [
        "all", "waiting",
    ]  # fmt: skip


def test_batch_of_comparisons_adds_up_what_they_found(wire: Wire) -> None:
    insert(DIFF, {"matches": 3, "missing": 1}, batch_id="b")
    insert({**DIFF, "params": {"comparefield": "study"}}, {"matches": 4, "missing": "?"}, batch_id="b")

    [batch] = wire.get(f"{BASE}/monitor/diff/batch").json()

    assert (batch["matches"], batch["missing"], "different" in batch) == (7, 1, False)
    assert (batch["checkMissing"], batch["comparefield"]) == (["false", "true"], ["study"])


@pytest.mark.parametrize(
    ("path", "ids"),
    [
        ("export/batch?ExporterID=OnlyB,Other", ["e2"]),
        ("export/batch?dicomDeviceName=archive-b", ["e2"]),
        ("export/batch?batchID=e1", ["e1"]),
        ("export/batch?createdTime=2020", []),
        ("export/batch?orderby=-createdTime&limit=1", ["e2"]),
        ("export/batch?orderby=createdTime&offset=1", ["e2"]),
        ("retrieve/batch?localAET=ARCHIVE_A&remoteAET=PACS&destinationAET=ARCHIVE_B&dcmQueueName=Retrieve", ["r"]),
        ("retrieve/batch?LocalAET=PACS", []),
        ("stgver/batch?localAET=ARCHIVE_A", ["s"]),
        ("diff/batch?checkMissing=true&PrimaryAET=PACS", ["d"]),
        ("diff/batch?checkMissing=false", []),
        ("deletion/batch", []),
    ],
)
def test_filter_of_batches(wire: Wire, path: str, ids: list[str]) -> None:
    factories.insert(batch_id="e1")
    factories.insert(batch_id="e2", exporter_id="OnlyB", device="archive-b")
    factories.insert(batch_id=None)
    insert(RETRIEVE, batch_id="r")
    insert(STGVER, batch_id="s")
    insert(DIFF, batch_id="d")
    factories.sql("UPDATE task SET created_time = '2026-08-21' WHERE batch_id = 'e2'")

    assert [one["batchID"] for one in wire.get(f"{BASE}/monitor/{path}").json()] == ids


def wrong(
    status: Status, error: str | None, outcome: str | None = None, destination: str = "dicom:PACS", study: str = "1.2.3"
) -> int:
    task_id = factories.placed(status, queue=f"Queue of {status}", study_uid=study).task_id
    factories.sql(
        "UPDATE task SET error_message = :error, outcome_message = :outcome, destination = :destination WHERE id = :id",
        error=error, outcome=outcome, destination=destination, id=task_id,
    )  # fmt: skip
    return task_id


def test_failures_are_counted_by_cause_and_not_by_study(wire: Wire) -> None:
    for number in range(3):
        last = wrong(
            Status.FAILED,
            f"Export Study[uid=1.2.{number}] to PACS - completed:{number}, failed:2",
            study=f"1.2.{number}",
        )
    wrong(Status.SCHEDULED_FOR_RETRY, "PACS at 127.0.0.1:11112: connection refused")
    wrong(Status.FAILED, "PACS at 127.0.0.1:11112: connection refused", destination="dicom:OTHER")
    wrong(Status.WARNING, None, "Could not find Study[uid=1.2.3]")
    wrong(Status.COMPLETED, "an old one")

    found = wire.get(f"{EXPORTS}/failures").json()

    assert [(one["message"], one["destination"], one["status"], one["count"]) for one in found] == [
        ("Export Study[uid=*] to PACS - completed:*, failed:*", "dicom:PACS", "FAILED", 3),
        ("Could not find Study[uid=*]", "dicom:PACS", "WARNING", 1),
        ("PACS at 127.0.0.1:11112: connection refused", "dicom:OTHER", "FAILED", 1),
        ("PACS at 127.0.0.1:11112: connection refused", "dicom:PACS", "SCHEDULED FOR RETRY", 1),
    ]
    assert found[0]["newestTaskID"] == last


def test_failures_take_the_filters_of_the_list(wire: Wire) -> None:
    wrong(Status.FAILED, "one")
    wrong(Status.WARNING, "two")

    assert [one["message"] for one in wire.get(f"{EXPORTS}/failures?status=WARNING").json()] == ["two"]
    assert wire.get(f"{BASE}/queue/Queue%20of%20FAILED/failures?limit=1").json()[0]["count"] == 1
    assert wire.get(f"{EXPORTS}/failures?dicomDeviceName=archive-b").content == b"[]"


@pytest.mark.parametrize("order", ["createdTime", "-createdTime", "updatedTime", "-updatedTime", "-scheduledTime"])
def test_pages_follow_each_other_by_their_links(wire: Wire, order: str) -> None:
    ids = [task.id for task in factories.insert(7)]
    # Equal times: the id decides.
    factories.sql("UPDATE task SET created_time = date_trunc('hour', now()), scheduled_time = date_trunc('day', now())")
    path: str | None = f"{EXPORTS}?orderby={order}&limit=3&status=waiting"
    pages = []

    while path is not None:
        answer = wire.get(path)
        pages.append([int(one["taskID"]) for one in answer.json()])
        path = next_of(answer.headers.get("link"))

    assert [len(page) for page in pages] == [3, 3, 1]
    assert [number for page in pages for number in page] == sorted(ids, reverse=order.startswith("-"))


def next_of(link: str | None) -> str | None:
    if link is None:
        return None
    found = re.fullmatch(r'<([^>]+)>; rel="next"', link)
    assert found is not None
    return found[1]


def test_page_goes_on_where_it_ended_though_tasks_went_and_came(wire: Wire) -> None:
    first, second, third = (task.id for task in factories.insert(3))
    link = next_of(wire.get(f"{EXPORTS}?orderby=createdTime&limit=2").headers["link"])
    assert link is not None

    wire.delete(f"{EXPORTS}/{first}")
    wire.delete(f"{EXPORTS}/{second}")
    [newest] = factories.insert()

    assert [one["taskID"] for one in wire.get(link).json()] == [str(third), str(newest.id)]


def test_link_carries_no_offset(wire: Wire) -> None:
    factories.insert(4)

    link = next_of(wire.get(f"{EXPORTS}?limit=1&offset=1&status=waiting").headers["link"])

    assert link is not None
    assert set(parse_qs(urlsplit(link).query)) == {"limit", "status", "after"}


def test_last_page_has_no_link(wire: Wire) -> None:
    factories.insert(2)

    assert "link" not in wire.get(f"{EXPORTS}?limit=2").headers
    assert "link" not in wire.get(EXPORTS).headers


@pytest.mark.parametrize("query", ["after=1", "after=-updatedTime.1.2&offset=1", "after=createdTime.1.2"])
def test_place_that_cannot_be_is_refused(wire: Wire, query: str) -> None:
    answer = wire.get(f"{EXPORTS}?{query}")

    assert (answer.status_code, "after=" in error_of(answer)) == (400, True)
