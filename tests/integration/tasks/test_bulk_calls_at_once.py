"""Bulk calls beside others that want the same tasks, cut off in the middle, watched and stopped."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from archive import db
from tasks import bulk, operations, store, taking
from tasks.bulk import BulkResult, Watch
from tasks.errors import ConflictError
from tasks.moving import Change
from tasks.query import TaskQuery
from tasks.state import Status
from tasks.taking import Alike
from tests import factories

pytestmark = pytest.mark.usefixtures("cluster")

ALL = TaskQuery()
BY = factories.BY
NAMED = replace(BY, operation_id="the-call")
TO_B = Change(devices=("archive-b",))


def changes() -> Counter[int]:
    """Return how often each task was cancelled, rescheduled or deleted, as the history has it."""
    return Counter(
        factories.sql(
            "SELECT unnest(coalesce(task_ids, ARRAY[first_id])) FROM history"
            " WHERE event IN ('cancel', 'reschedule', 'delete')"
        )
    )


class Meanwhile:
    """Does something else right after a bulk call has looked at the tasks of a chunk for the first time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
        self.locks: list[bool] = []
        self._act = act
        self._take = taking.take_alike
        monkeypatch.setattr(taking, "take_alike", self)

    def __call__(self, session: Session, *args: object, lock: bool) -> list[Alike]:
        found: list[Alike] = self._take(session, *args, lock=lock)  # type: ignore[arg-type]
        self.locks.append(lock)
        if len(self.locks) == 1:
            with ThreadPoolExecutor(1) as other:
                other.submit(self._act).result(timeout=30)
        return found


def test_task_that_somebody_changes_in_between_is_judged_by_what_it_is_then(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [task.id for task in factories.insert(5)]
    meanwhile = Meanwhile(monkeypatch, lambda: operations.reschedule_one(ids[2], ALL, TO_B, BY))

    result = operations.cancel(TaskQuery(devices=("archive-a",)), BY)

    assert meanwhile.locks == [False, True]
    assert result.count == 4
    assert {task.id for task in factories.views() if task.status is Status.CANCELED} == {*ids} - {ids[2]}
    assert changes() == Counter(ids)


def test_task_that_is_claimed_in_between_is_moved_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.insert(3)
    meanwhile = Meanwhile(monkeypatch, lambda: factories.claim(factories.reserve()[0]))

    result = operations.reschedule(ALL, TO_B, BY)

    assert meanwhile.locks == [False, True]
    assert (result.count, result.by_status) == (3, {Status.SCHEDULED: 2, Status.IN_PROCESS: 1})
    assert {(task.status, task.device) for task in factories.views()} == {(Status.SCHEDULED, "archive-b")}
    assert factories.sql("SELECT stop_reason FROM run WHERE claimed_at IS NOT NULL") == ["reschedule"]


def test_task_that_is_deleted_in_between_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [task.id for task in factories.insert(3)]
    Meanwhile(monkeypatch, lambda: operations.delete_one(ids[0], ALL, BY))

    result = operations.delete(ALL, BY)

    assert result.count == 2
    assert changes() == Counter(ids)


def test_reservation_made_in_between_is_withdrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.insert(3)
    meanwhile = Meanwhile(monkeypatch, lambda: factories.reserve(number=1))

    operations.cancel(ALL, BY)

    assert meanwhile.locks == [False]
    assert factories.sql("SELECT ending FROM run") == ["withdrawn"]


def test_deadlock_is_overcome(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (task.id for task in factories.insert(2))
    locked, waits = threading.Event(), threading.Event()

    def other() -> None:
        with db.transaction() as session:
            session.execute(text("SELECT FROM task WHERE id = :id FOR UPDATE"), {"id": second})
            locked.set()
            assert waits.wait(30)
            # The call has the first one and waits for the second: the database ends one of both.
            session.execute(text("SET LOCAL deadlock_timeout = '60s'"))
            session.execute(text("SELECT FROM task WHERE id = :id FOR UPDATE"), {"id": first})

    def slowly(session: Session, groups: list[Alike], by: store.By, before: BulkResult) -> BulkResult:
        result = BulkResult()
        for group in groups:
            for task_id in group.ids:
                store.cancel_alike(session, [group.only([task_id])], by)
                result.change(group.only([task_id]), group.sort.device)
                waits.set()
        return result

    with ThreadPoolExecutor(1) as pool:
        ends = pool.submit(other)
        assert locked.wait(30)
        result = bulk.in_chunks(ALL, BY, slowly, lock=True)
        ends.result(timeout=30)

    assert result.count == 2
    assert changes() == Counter([first, second])


@dataclass
class Looking(Watch):
    """Notes what it is told, and stops after so many chunks."""

    stop_after: int = 1000
    told: list[int] = field(default_factory=list)

    def wants_stop(self) -> bool:
        return len(self.told) >= self.stop_after

    def note(self, session: Session, result: BulkResult) -> None:
        self.told.append(result.count)


def test_watch_is_told_of_each_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.small_chunks(monkeypatch, 4)
    factories.insert(10)
    looking = Looking()

    operations.cancel(ALL, BY, watch=looking)

    assert looking.told == [4, 8, 10]


def test_call_stops_between_two_chunks_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.small_chunks(monkeypatch, 4)
    ids = [task.id for task in factories.insert(10)]

    result = operations.delete(ALL, BY, watch=Looking(stop_after=2))

    assert (result.count, result.was_stopped) == (8, True)
    assert [task.id for task in factories.views()] == ids[8:]
    assert not operations.delete(ALL, BY).was_stopped


def test_chunk_that_its_watch_fails_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.insert(3)

    class Failing(Watch):
        def note(self, session: Session, result: BulkResult) -> None:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        operations.cancel(ALL, BY, watch=Failing())

    assert not changes()


@pytest.mark.parametrize("name", ["cancel", "reschedule", "delete"])
def test_call_that_was_cut_off_goes_on_behind_its_last_task(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: dict[str, Callable[[Watch], BulkResult]] = {
        "cancel": lambda watch: operations.cancel(TaskQuery(statuses=(Status.SCHEDULED,)), NAMED, watch=watch),
        "reschedule": lambda watch: operations.reschedule(ALL, TO_B, NAMED, watch=watch),
        "delete": lambda watch: operations.delete(ALL, NAMED, watch=watch),
    }
    factories.small_chunks(monkeypatch, 4)
    ids = [task.id for task in factories.insert(10)]
    calls[name](Looking(stop_after=2))
    later = factories.insert()[0].id

    result = calls[name](Watch())

    assert changes() == Counter(ids)
    assert later not in changes()
    assert (result.count, result.by_status) == (10, {Status.SCHEDULED: 10})
    assert result.by_device == {"archive-b" if name == "reschedule" else "archive-a": 10}
    assert calls[name](Watch()).count == 10
    assert changes() == Counter(ids)


def test_same_operation_is_not_done_by_two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.small_chunks(monkeypatch, 2)
    ids = [task.id for task in factories.insert(6)]

    class Twice(Looking):
        def wants_stop(self) -> bool:
            if len(self.told) == 1:
                self.told.append(0)
                operations.reschedule(ALL, TO_B, NAMED)
            return False

    with pytest.raises(ConflictError, match="operation the-call is being done by another process"):
        operations.reschedule(ALL, TO_B, NAMED, watch=Twice())

    assert changes() == Counter(ids)


def test_eight_calls_and_schedulers_at_once_count_what_the_history_says(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.small_chunks(monkeypatch, 7)
    for number in range(120):
        factories.insert(1 + number % 3, batch_id=f"b{number % 5}", device=("archive-a", "archive-b")[number % 2])
    stop = threading.Event()

    def schedule() -> int:
        made = 0
        while not stop.is_set():
            made += len(factories.insert(2, batch_id=f"b{made % 5}"))
        return made

    calls: list[Callable[[], BulkResult]] = [
        lambda: operations.reschedule(ALL, TO_B, BY),
        lambda: operations.reschedule(TaskQuery(batch_id="b1"), Change(devices=("archive-a",)), BY),
        lambda: operations.reschedule(
            TaskQuery(devices=("archive-b",)), Change(devices=("archive-a", "archive-b")), BY
        ),
        lambda: operations.cancel(TaskQuery(statuses=(Status.SCHEDULED,)), BY),
        lambda: operations.cancel(TaskQuery(batch_id="b2"), BY),
        lambda: operations.reschedule(TaskQuery(statuses=(Status.CANCELED,)), Change(), BY),
        lambda: operations.delete(TaskQuery(batch_id="b3"), BY),
        lambda: operations.delete(TaskQuery(statuses=(Status.CANCELED,), batch_id="b4"), BY),
    ]
    with ThreadPoolExecutor(10) as pool:
        schedulers = [pool.submit(schedule) for _ in range(2)]
        results = [done.result(timeout=120) for done in [pool.submit(call) for call in calls]]
        stop.set()
        made = sum(done.result(timeout=30) for done in schedulers)

    for result in results:
        recorded = factories.sql(
            "SELECT coalesce(sum(coalesce(cardinality(task_ids), 1)), 0) FROM history WHERE operation_id = :id",
            id=result.operation_id,
        )
        assert recorded == [result.count]
        assert result.count == sum(result.by_device.values()) == sum(result.by_status.values())
        assert result.failed == sum(result.refusals.values())
    assert (
        made + 240
        == len(factories.views())
        + factories.sql(
            "SELECT coalesce(sum(coalesce(cardinality(task_ids), 1)), 0) FROM history WHERE event = 'delete'"
        )[0]
    )
    for task in factories.views():
        assert factories.arrows_of(task.id)[-1][2] == task.status
