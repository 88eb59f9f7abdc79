"""A message makes one task, however often and by however many it is delivered; a refusal is kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from archive import db
from tasks import intake
from tasks.errors import InvalidError
from tasks.intake import Message
from tasks.state import Status
from tests import factories
from workers.embedded.postgres import EmbeddedPostgres

SAID = {"version": 1, "requester": "ris", "aet": "ARCHIVE_A", "exporterID": "Noop", "studyInstanceUID": "1.2.3"}


@pytest.fixture(autouse=True)
def _cluster(cluster: object) -> None:
    factories.sql("DELETE FROM audit")


def message(id_: str = "m-1", *, kind: str = "EXPORT", **changes: Any) -> Message:
    return Message(id_, "schedule.export", kind, {**SAID, **changes}, "ris-1")


def test_message_makes_the_task_that_it_asks_for() -> None:
    answer = intake.accept(
        message(batchID="b", priority=7, scheduledTime="2030-01-02T03:04:05+01:00", seriesInstanceUID="1.2.3.4")
    )

    [task] = factories.views()
    assert (answer.task_ids, answer.refused, answer.repeated) == ((task.id,), None, False)
    assert (task.kind, task.device, task.queue, task.status) == ("EXPORT", "archive-a", "Export", Status.SCHEDULED)
    assert (task.batch_id, task.priority, task.exporter_id, task.local_aet) == ("b", 7, "Noop", "ARCHIVE_A")
    assert (task.study_uid, task.series_uid, task.sop_uid) == ("1.2.3", "1.2.3.4", None)
    assert task.scheduled_time.isoformat() == "2030-01-02T02:04:05+00:00"
    assert (task.requester_user, task.requester_host) == ("ris", "ris-1")
    assert task.request_uri == "schedule.export m-1"


def test_requester_is_audited() -> None:
    intake.accept(message())

    assert factories.sql(
        'SELECT ROW("user", host, action, what, count, outcome)::text FROM audit'
    ) == ['(ris,ris-1,ExportTask,"schedule.export m-1",1,)']  # fmt: skip


def test_second_delivery_gets_the_answer_of_the_first() -> None:
    first = intake.accept(message())

    second = intake.accept(message())

    assert (second.task_ids, second.repeated) == (first.task_ids, True)
    assert len(factories.views()) == 1


def test_second_delivery_makes_no_task_after_the_first_was_deleted() -> None:
    factories.change(factories.Event.DELETE, intake.accept(message()).task_ids[0])

    intake.accept(message())

    assert factories.views() == []


def test_deliveries_at_the_same_time_make_one_task() -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda number: intake.accept(message(f"m-{number % 5}", allowDuplicate=True)), range(40))
        )

    assert len(factories.views()) == 5
    assert sum(not answer.repeated for answer in answers) == 5


def test_equal_task_that_waits_is_the_answer() -> None:
    first = intake.accept(message("m-1"))

    second = intake.accept(message("m-2"))
    third = intake.accept(message("m-3", allowDuplicate=True))

    assert second.task_ids == first.task_ids
    assert third.task_ids != first.task_ids


def test_idempotency_key_counts_across_messages() -> None:
    first = intake.accept(message("m-1", idempotencyKey="k", allowDuplicate=True))

    second = intake.accept(message("m-2", idempotencyKey="k", allowDuplicate=True))
    other = intake.accept(message("m-3", idempotencyKey="k", allowDuplicate=True, requester="pacs"))
    wrong = intake.accept(message("m-4", idempotencyKey="k", studyInstanceUID="1.2.4"))

    assert second.task_ids == first.task_ids
    assert other.task_ids != first.task_ids
    assert "used for another request" in str(wrong.refused)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exporterID": "Nothing"}, "No Exporter configured with ID:Nothing, expected one of Noop"),
        ({"aet": "NOBODY"}, "No such Application Entity: NOBODY, expected one of ARCHIVE_A, ARCHIVE_B"),
        ({"dicomDeviceName": "elsewhere"}, "Unknown Device: elsewhere, expected one of archive-a, archive-b"),
        ({"colour": "red"}, "colour is unknown"),
    ],
)
def test_refusal_is_kept_with_its_reason_and_final(changes: dict[str, Any], reason: str) -> None:
    answer = intake.accept(message(**changes))

    again = intake.accept(message())

    assert (answer.refused, answer.task_ids) == (reason, ())
    assert (again.refused, again.repeated) == (reason, True)
    assert factories.views() == []
    assert factories.sql("SELECT count(*) FROM audit") == [0]
    kept = intake.answer_to("m-1")
    assert kept is not None
    assert kept.refused == reason


def test_kind_that_cannot_be_asked_for_is_refused() -> None:
    answer = intake.accept(message(kind="GUESS"))

    assert answer.refused == "tasks of kind GUESS cannot be asked for by a message"


def test_last_refusals_come_newest_first() -> None:
    for number in range(3):
        intake.refuse(f"m-{number}", "no")
    intake.accept(message("good"))

    assert [one.message_id for one in intake.last_refused(2)] == ["m-2", "m-1"]


def test_unknown_message_has_no_answer() -> None:
    assert intake.answer_to("m-1") is None


@pytest.mark.parametrize("message_id", [None, 7, "", "x" * 256, "a\x00b", "a\nb", "\ud800"])
def test_id_that_cannot_be_kept_is_said(message_id: object) -> None:
    with pytest.raises(InvalidError, match=r"^message id .*: expected 1 to 255 printable characters$"):
        intake.check_id(message_id)


def test_database_outage_is_no_refusal(database: str, postgres: EmbeddedPostgres) -> None:
    db.use(db.make_engine(postgres.url_of("nowhere")))

    with pytest.raises(OperationalError):
        intake.accept(message())

    db.use(db.make_engine(database))
    assert intake.answer_to("m-1") is None
    assert intake.accept(message()).refused is None
