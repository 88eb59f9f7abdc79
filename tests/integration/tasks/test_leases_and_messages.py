"""A message that is not the newest is stale; leases are renewed of what really runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from archive import db
from tasks import due, slots, store
from tasks.run import Ending, Stop
from tasks.state import Event
from tests import factories

pytestmark = pytest.mark.usefixtures("cluster")

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_newer_message_makes_the_older_one_stale() -> None:
    factories.insert()
    [old] = factories.reserve()

    with db.transaction() as session:
        [new] = slots.renew_reservations(session, "archive-a", ["EXPORT"])

    assert (new.run_id, new.task_id) == (old.run_id, old.task_id)
    assert new.token != old.token
    assert factories.claim(old) is None
    assert factories.claim(new) is not None
    assert factories.claim(new) is None


def test_only_old_unclaimed_reservations_of_the_device_and_its_kinds_are_renewed() -> None:
    factories.insert(3)
    factories.insert(device="archive-b")
    young, old, claimed = factories.reserve(number=3)
    factories.reserve("archive-b")
    assert factories.claim(claimed) is not None
    factories.sql("UPDATE run SET sent_at = now() - interval '11 s' WHERE id <> :young", young=young.run_id)

    with db.transaction() as session:
        found = slots.renew_reservations(session, "archive-a", ["EXPORT"], older_than=slots.RESERVATION_LEASE)
        none = slots.renew_reservations(session, "archive-a", ["RETRIEVE"])

    assert [one.run_id for one in found] == [old.run_id]
    assert none == []
    assert factories.sql("SELECT sent_at > now() - interval '5 s' FROM run WHERE id = :id", id=old.run_id) == [True]


@pytest.mark.parametrize("wrong", ["token", "task", "run"])
def test_message_that_names_something_else_claims_nothing(wrong: str) -> None:
    factories.insert(2)
    one, other = factories.reserve()
    with db.transaction() as session:
        found = store.claim(
            session,
            other.task_id if wrong == "task" else one.task_id,
            other.run_id if wrong == "run" else one.run_id,
            other.token if wrong == "token" else one.token,
            node=factories.NODE,
            lease=factories.LEASE,
        )

    assert found is None
    assert factories.claim(one) is not None


def test_released_reservation_is_not_claimed_and_a_claimed_one_not_released() -> None:
    factories.insert(2)
    first, second = factories.reserve()
    assert factories.claim(second) is not None

    with db.transaction() as session:
        assert slots.release(session, [first.run_id, second.run_id], Ending.UNSENT) == 1

    assert factories.claim(first) is None
    assert factories.run_row(second.run_id)["ended_at"] is None


def test_unclaimed_reservations_are_counted_by_kind() -> None:
    factories.insert(3)
    first, *_ = factories.reserve(number=3)
    factories.claim(first)

    with db.transaction() as session:
        assert due.look(session, "archive-a", ["Export"], ["EXPORT"]).unclaimed == 2
        assert due.look(session, "archive-a", ["Export"], ["RETRIEVE"]).unclaimed == 0
        assert due.look(session, "archive-b", ["Export"], ["EXPORT"]).unclaimed == 0


def test_claim_begins_the_lease_of_the_device() -> None:
    run = factories.running(lease=timedelta(seconds=3))

    with db.transaction() as session:
        [lease] = slots.leases(session, [run.run_id])

    assert 0 < lease.remaining_s <= 3
    assert (lease.has_ended, lease.stop_reason, lease.stop_asked_for_s) == (False, None, None)


def test_leases_are_renewed_of_claimed_runs_that_have_not_ended() -> None:
    claimed, ended = factories.running(), factories.running()
    factories.report(ended, Event.SUCCEED)
    factories.insert()
    [unclaimed] = factories.reserve(number=2)
    ids = [claimed.run_id, ended.run_id, unclaimed.run_id]
    factories.sql("UPDATE run SET lease_until = now() - interval '1 s'")

    with db.transaction() as session:
        slots.renew_leases(session, ids, MINUTE)
        found = {lease.run_id: lease.remaining_s > 0 for lease in slots.leases(session, ids)}

    assert found == {claimed.run_id: True, ended.run_id: False, unclaimed.run_id: False}


def test_renewal_and_stop_requests_pass_over_runs_that_somebody_holds() -> None:
    held, free = factories.running(), factories.running()
    with db.transaction() as session:
        slots.end(session, held.run_id, Ending.COMPLETED)

        with db.transaction() as heartbeat:
            slots.renew_leases(heartbeat, [held.run_id, free.run_id], timedelta(hours=1))
            slots.ask_runs_to_stop(heartbeat, [held.run_id, free.run_id], Stop.SHUTDOWN)

        with db.transaction() as look:
            found = {one.run_id: one for one in slots.leases(look, [held.run_id, free.run_id])}
        assert found[free.run_id].remaining_s > 3000
        assert found[held.run_id].remaining_s < 3000
        assert [found[run.run_id].stop_reason for run in (free, held)] == [Stop.SHUTDOWN, None]


def test_runs_that_their_worker_does_not_name_are_found_after_a_grace() -> None:
    named, other, young = (factories.running() for _ in range(3))
    factories.sql("UPDATE run SET claimed_at = now() - interval '1 min' WHERE id <> :id", id=young.run_id)

    grace = timedelta(seconds=10)

    def unnamed(node_id: int, *run_ids: int) -> set[int]:
        with db.transaction() as session:
            return set(session.scalars(text(slots.UNNAMED), {"id": node_id, "named": list(run_ids), "grace": grace}))

    assert unnamed(factories.NODE[0], named.run_id) == {other.run_id}
    assert unnamed(factories.NODE[0], named.run_id, other.run_id) == set()
    assert unnamed(factories.NODE[0]) == {named.run_id, other.run_id}
    assert unnamed(99) == set()


def test_open_runs_tell_what_sweep_rescue_and_watchdog_look_at() -> None:
    run = factories.running()
    factories.sql(
        "UPDATE run SET sent_at = now() - interval '40 s', claimed_at = now() - interval '30 s',"
        " progress_at = now() - interval '20 s', lease_until = now() - interval '10 s'"
    )

    with db.transaction() as session:
        [found] = slots.open_runs(session)

    assert (found.run_id, found.task_id, found.device, found.queue) == (run.run_id, run.task.id, "archive-a", "Export")
    ages = (found.sent_ago_s, found.claimed_ago_s, found.progress_ago_s, -found.lease_left_s)
    assert [round(age or 0, -1) for age in ages] == [40, 30, 20, 10]
    assert not found.stop_asked
