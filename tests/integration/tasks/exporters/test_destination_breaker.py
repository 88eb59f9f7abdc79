"""A node that fails is left alone, tried by one run, then by more and more; its tasks keep their retries meanwhile."""

from __future__ import annotations

from datetime import timedelta

import pytest

from archive import db
from tasks import breaker, circumstances, destinations
from tasks.admission import Why, destination_refusals
from tasks.control import Destination
from tasks.destinations import Hold
from tasks.errors import DestinationError
from tasks.slots import database_time
from tasks.state import Event
from tests import factories
from tests.integration.tasks.exporters.sending import DESTINATION, Sending, next_attempt, start
from tests.lab.acts import Abort, Answer, Close, Reject
from tests.lab.misbehaving import Misbehaving
from tests.lab.nobody import Nobody
from tests.stored_study import OBJECTS


def row() -> Destination | None:
    with db.transaction() as session:
        return session.get(Destination, DESTINATION)


def fail(sending: Sending, times: int = 1) -> None:
    """Let so many tasks try a node where nobody listens, and fail for good."""
    with Nobody() as peer:
        sending.send_to(peer)
        for _ in range(times):
            run = start()
            sending.attempt(run)
            factories.report(run, Event.FAIL)


def pass_the_pause() -> None:
    """Let the time be over for which the node is left alone."""
    factories.sql("UPDATE destination SET open_until = clock_timestamp()")


def waiting(number: int) -> None:
    """Insert tasks for the node."""
    factories.insert(number, exporter_id="ToPacs", destination=DESTINATION)


def test_third_failure_in_a_row_leaves_the_node_alone_with_its_last_words(sending: Sending) -> None:
    fail(sending, 2)
    before = row()
    fail(sending)
    after = row()

    assert before is not None
    assert after is not None
    assert (before.failures, before.open_until) == (2, None)
    assert (after.failures, after.gentle_cap) == (3, 1)
    assert after.open_until is not None
    assert after.failed_at is not None
    assert after.open_until - after.failed_at == breaker.FIRST_PAUSE
    assert after.last_failure is not None
    assert after.last_failure.endswith("Connection refused")


def test_waiting_tasks_of_a_node_that_fails_are_left_as_they_are(sending: Sending) -> None:
    fail(sending, 3)
    waiting(2)
    [other] = factories.insert(destination="dicom:OTHER")

    assert [r.task_id for r in factories.reserve()] == [other.id]
    assert factories.sql("SELECT DISTINCT failures FROM task WHERE status = 'SCHEDULED'") == [0]


def test_explanation_names_failures_cause_and_end_of_the_pause(sending: Sending) -> None:
    fail(sending, 3)

    with db.transaction() as session:
        state = circumstances.destination_of(session, DESTINATION)
        assert state is not None
        [refusal] = destination_refusals(state, database_time(session))

    assert refusal.why is Why.BREAKER_OPEN
    assert refusal.text.startswith(f"Destination {DESTINATION} is left alone after 3 failures in a row: PACS at 127.0")
    assert refusal.text.endswith("Connection refused")
    assert refusal.until is not None


def test_after_the_pause_one_task_tries_and_its_failure_doubles_the_pause(sending: Sending) -> None:
    fail(sending, 3)
    pass_the_pause()
    waiting(4)

    assert len(factories.reserve()) == 1
    factories.sql("DELETE FROM run WHERE ended_at IS NULL")
    factories.sql("DELETE FROM task WHERE status = 'SCHEDULED'")
    fail(sending)

    after = row()
    assert after is not None
    assert after.open_until is not None
    assert after.failed_at is not None
    assert after.open_until - after.failed_at == 2 * breaker.FIRST_PAUSE


def test_success_lets_twice_as_many_go_and_the_next_ones_more(sending: Sending) -> None:
    fail(sending, 3)
    pass_the_pause()
    with Misbehaving() as peer:
        sending.send_to(peer.peer)
        run = start()
        sending.attempt(run)
        factories.report(run, Event.SUCCEED)
    waiting(8)

    assert len(factories.reserve()) == 2
    for expected in (3, 4):
        destinations.answered(DESTINATION)
        found = row()
        assert found is not None
        assert (found.failures, found.gentle_cap, found.last_failure) == (0, expected, None)
    assert len(factories.reserve()) == 2


def test_full_node_counts_as_failing_and_a_refused_object_does_not(sending: Sending) -> None:
    with Misbehaving(objects=lambda n: Answer(0xA700 if n == 1 else 0xC000)) as peer:
        sending.send_to(peer.peer)
        for expected in (1, 0):
            run = start()
            sending.attempt(run)
            factories.report(run, Event.FAIL)

            found = row()
            assert found is not None
            assert found.failures == expected


def test_rejected_association_counts(sending: Sending) -> None:
    with Misbehaving(associations=lambda _: Reject(1, 1, 7)) as peer:
        sending.send_to(peer.peer)

        sending.attempt(start())

    found = row()
    assert found is not None
    assert found.failures == 1


def test_object_at_which_the_node_aborts_each_time_does_not_keep_others_from_it(sending: Sending) -> None:
    run = start()
    with Misbehaving(by_uid={OBJECTS[0]: Abort()}) as peer:
        sending.send_to(peer.peer)
        endings = [sending.attempt(run)]
        for _ in range(3):  # with the others, and then alone
            run = next_attempt(run)
            endings.append(sending.attempt(run))

    assert all(isinstance(ending, DestinationError) for ending in endings)
    assert row() is None


def test_node_that_is_gone_in_the_middle_counts(sending: Sending) -> None:
    with Misbehaving(
        objects=lambda n: Answer() if n == 1 else Close(),
        associations=lambda n: Answer() if n == 1 else Reject(2, 3, 1),
    ) as peer:
        sending.send_to(peer.peer)

        sending.attempt(start())

    found = row()
    assert found is not None
    assert found.failures == 1


def test_objects_that_we_cannot_read_say_nothing_about_the_node(sending: Sending) -> None:
    fail(sending)
    for uid in OBJECTS:
        sending.archive.source(uid).unlink()
    with Misbehaving() as peer:
        sending.send_to(peer.peer)

        sending.attempt(start())

    found = row()
    assert found is not None
    assert found.failures == 1


def test_runs_that_began_before_the_pause_do_not_make_it_longer(sending: Sending) -> None:
    late = start()
    fail(sending, 3)
    opened = row()

    destinations.failed(DESTINATION, late.run_id, "PACS at 127.0.0.1:1: late")

    found = row()
    assert found is not None
    assert opened is not None
    assert (found.failures, found.open_until) == (3, opened.open_until)


def test_two_runs_that_fail_at_once_are_both_counted(sending: Sending) -> None:
    first, second = start(), start()
    for run in (first, second):
        destinations.failed(DESTINATION, run.run_id, "PACS at 127.0.0.1:1: no")

    found = row()
    assert found is not None
    assert found.failures == 2


def test_release_by_hand_tries_at_once_and_gently(sending: Sending) -> None:
    fail(sending, 3)
    waiting(4)
    with db.transaction() as session:
        destinations.hold(session, DESTINATION, Hold("anna", "moves"))

    with db.transaction() as session:
        was_held = destinations.release(session, DESTINATION)
        woken = session.info["wake"]

    assert was_held
    assert woken == {"archive-a"}
    assert len(factories.reserve()) == 1


def test_cap_is_counted_with_the_gentle_one(sending: Sending) -> None:
    waiting(6)
    with db.transaction() as session:
        destinations.cap(session, DESTINATION, 3)
    assert len(factories.reserve(number=6)) == 3

    with db.transaction() as session:
        destinations.cap(session, DESTINATION, None)
    assert len(factories.reserve(number=6)) == 3


@pytest.mark.parametrize("until", [None, timedelta(hours=1)])
def test_hold_says_who_why_and_until(sending: Sending, until: timedelta | None) -> None:
    with db.transaction() as session:
        now = database_time(session)
        destinations.hold(session, DESTINATION, Hold("anna", "is upgraded", until and now + until))
    with db.transaction() as session:
        state = circumstances.destination_of(session, DESTINATION)
        assert state is not None
        [refusal] = destination_refusals(state, now)

    assert refusal.text == f"Destination {DESTINATION} is held by anna: is upgraded"
    assert refusal.until == (until and now + until)
