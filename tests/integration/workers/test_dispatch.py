"""The dispatcher against a real broker: it holds what may run now, and nothing is reserved without it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from celery import Celery

from config.device import Queue
from tasks import operations
from tasks.query import TaskQuery
from tasks.run import Ending
from tasks.state import Event, Status
from tasks.store import Target
from tests import factories
from tests.lab.waiting import wait_until
from workers import dispatch, execute
from workers.broker import Broker, BrokerError
from workers.dispatch import Dispatcher
from workers.execute import Node
from workers.queues import RunMessage

SLOTS = factories.EXPORT.max_tasks_parallel
NODE = Node(1, "archive-a.1@host")


@pytest.fixture
def dispatcher(cluster: object, app: Celery) -> Iterator[Dispatcher]:
    """The dispatcher of this process, woken by commits; a worker of each device was seen just now."""
    factories.seen_worker("archive-a")
    factories.seen_worker("archive-b")
    yield dispatch.start(app)
    dispatch.stop()


@pytest.fixture
def valkey_client(broker: str) -> Iterator[redis.Redis]:
    path = broker.removeprefix("redis+socket://").partition("?")[0]
    with redis.Redis(unix_socket_path=path) as client:
        yield client


def messages(client: redis.Redis, channel: str = "archive-a") -> list[dict[str, Any]]:
    """Return what waits in a channel, the next one first."""
    found: Any = client.lrange(channel, 0, -1)
    return [json.loads(one) for one in reversed(found)]


def depth(client: redis.Redis, channel: str = "archive-a") -> int:
    return int(client.llen(channel))


def take(client: redis.Redis, channel: str = "archive-a") -> RunMessage:
    """Take the next message as a worker does."""
    raw: Any = client.rpop(channel)
    return RunMessage.of(tuple(body_of(json.loads(raw))[0]))


def body_of(message: dict[str, Any]) -> list[Any]:
    found: list[Any] = json.loads(base64.b64decode(message["body"]))
    return found


def unclaimed() -> int:
    [number] = factories.sql("SELECT count(*) FROM run WHERE ended_at IS NULL AND claimed_at IS NULL")
    return int(number)


def until_sent(client: redis.Redis, number: int, channel: str = "archive-a") -> None:
    wait_until(lambda: depth(client, channel) == number, f"{number} messages wait in {channel}", timeout_s=30)


def running(dispatcher: Dispatcher) -> Dispatcher:
    """Return the dispatcher of this process, which `settle` has started anew."""
    return dispatch.start(dispatcher._broker._app)


def settle(dispatcher: Dispatcher) -> None:
    """Wait until the dispatcher has done all that it was woken for: it is started anew."""
    thread = running(dispatcher)._thread
    dispatch.stop()
    assert thread is not None
    thread.join(30)
    running(dispatcher)


def test_commit_sends_what_may_run_and_names_task_run_and_token(
    dispatcher: Dispatcher, valkey_client: redis.Redis
) -> None:
    [task] = factories.insert()
    until_sent(valkey_client, 1)

    [message] = messages(valkey_client)

    headers = message["headers"]
    [run_id, token] = [factories.sql(f"SELECT {column}::text FROM run")[0] for column in ("id", "token")]
    assert (headers["task"], headers["id"]) == ("run.export", f"{task.id}.{run_id}")
    assert headers["argsrepr"] == f"task {task.id}, archive-a, study 1.2.3"
    assert body_of(message)[0] == [1, task.id, int(run_id), token]


def test_no_more_is_sent_than_may_run_and_the_next_when_one_ends(
    dispatcher: Dispatcher, valkey_client: redis.Redis
) -> None:
    factories.insert(50)
    until_sent(valkey_client, SLOTS)
    for _ in range(3):
        running(dispatcher).wake({"archive-a"})
        settle(dispatcher)
    assert depth(valkey_client) == unclaimed() == SLOTS

    for done in range(1, 6):
        execute.run_task(take(valkey_client), NODE)
        until_sent(valkey_client, SLOTS)
        assert sum(task.status is Status.COMPLETED for task in factories.views()) == done


def test_task_that_is_moved_is_sent_to_its_new_device(dispatcher: Dispatcher, valkey_client: redis.Redis) -> None:
    [task] = factories.insert()
    until_sent(valkey_client, 1)

    factories.change(Event.RESCHEDULE, task.id, Target("archive-b", "Export", "Noop"))
    until_sent(valkey_client, 1, "archive-b")

    execute.run_task(take(valkey_client, "archive-b"), NODE)
    execute.run_task(take(valkey_client), NODE)
    [moved] = factories.views()
    assert (moved.status, moved.device) == (Status.COMPLETED, "archive-b")
    assert len([event for _, event, _ in factories.arrows_of(task.id) if event == Event.CLAIM]) == 1


def test_stale_messages_of_cancelled_tasks_do_not_pile_up(dispatcher: Dispatcher, valkey_client: redis.Redis) -> None:
    for _ in range(6):
        factories.insert(20)
        settle(dispatcher)
        operations.cancel(TaskQuery(), factories.BY)
        settle(dispatcher)

    assert depth(valkey_client) <= 2 * SLOTS
    while depth(valkey_client):
        execute.run_task(take(valkey_client), NODE)
    assert {task.status for task in factories.views()} == {Status.CANCELED}
    factories.insert()
    until_sent(valkey_client, 1)


def test_messages_that_nobody_takes_are_not_sent_again_and_again(
    dispatcher: Dispatcher, valkey_client: redis.Redis
) -> None:
    factories.insert(20)
    until_sent(valkey_client, SLOTS)
    for _ in range(10):
        factories.sql("UPDATE run SET sent_at = now() - interval '1 min'")
        running(dispatcher).look_again("archive-a", all_of_them=True)
        settle(dispatcher)

    assert depth(valkey_client) <= 2 * SLOTS


def test_without_a_worker_that_lives_nothing_new_is_sent(dispatcher: Dispatcher, valkey_client: redis.Redis) -> None:
    factories.sql("UPDATE worker_node SET seen_at = now() - interval '16 s'")
    factories.insert(5)
    settle(dispatcher)

    assert depth(valkey_client) == unclaimed() == 0


def test_message_that_the_broker_lost_is_sent_again_with_a_new_token(
    dispatcher: Dispatcher, valkey_client: redis.Redis
) -> None:
    factories.insert()
    until_sent(valkey_client, 1)
    old = take(valkey_client)
    factories.sql("UPDATE run SET sent_at = now() - interval '3 s'")

    running(dispatcher).look_again("archive-a")
    until_sent(valkey_client, 1)

    execute.run_task(old, NODE)
    assert factories.views()[0].status is Status.SCHEDULED
    execute.run_task(take(valkey_client), NODE)
    assert factories.views()[0].status is Status.COMPLETED


def test_young_message_is_not_sent_again_unless_a_worker_starts(
    dispatcher: Dispatcher, valkey_client: redis.Redis
) -> None:
    factories.insert()
    until_sent(valkey_client, 1)
    take(valkey_client)

    running(dispatcher).look_again("archive-a")
    settle(dispatcher)
    assert depth(valkey_client) == 0
    running(dispatcher).look_again("archive-a", all_of_them=True)
    until_sent(valkey_client, 1)


def test_closed_queue_sends_nothing(dispatcher: Dispatcher, valkey_client: redis.Redis) -> None:
    factories.sql("INSERT INTO pause (device, who) VALUES ('archive-a', 'anna')")
    factories.insert()
    settle(dispatcher)
    assert depth(valkey_client) == 0

    factories.sql("DELETE FROM pause")
    running(dispatcher).wake({"archive-a"})
    until_sent(valkey_client, 1)


def test_foreign_and_unknown_devices_get_nothing(dispatcher: Dispatcher, valkey_client: redis.Redis) -> None:
    factories.use_cluster(factories.device(is_ours=False))
    factories.insert()
    factories.insert(device="archive-x")
    settle(dispatcher)

    assert depth(valkey_client) == depth(valkey_client, "archive-x") == unclaimed() == 0


def test_queues_of_a_device_share_its_channel(dispatcher: Dispatcher, valkey_client: redis.Redis) -> None:
    queues = {"Export": factories.EXPORT, "Retrieve": Queue("Retrieve", max_tasks_parallel=2)}
    factories.use_cluster(factories.device(queues=queues))
    factories.insert(10)
    factories.insert(10, queue="Retrieve")

    until_sent(valkey_client, SLOTS + 2)


def test_nothing_is_reserved_while_the_broker_is_away(cluster: object, app: Celery) -> None:
    factories.seen_worker()
    app.conf.broker_url = "redis://127.0.0.1:1/0"
    dispatch.start(app)
    factories.insert(3)
    dispatch.stop()

    assert factories.sql("SELECT count(*) FROM run") == [0]


def test_message_that_could_not_be_sent_gives_its_slot_back(cluster: object, app: Celery) -> None:
    factories.insert(3)
    reserved = factories.reserve()
    app.conf.broker_url = "redis://127.0.0.1:1/0"

    with pytest.raises(BrokerError):
        Dispatcher(Broker(app))._send(reserved)

    assert unclaimed() == 0
    assert set(factories.sql("SELECT ending FROM run")) == {Ending.UNSENT}


def test_housekeeping_channel_that_nobody_serves_stays_short_and_holds_up_no_run(
    dispatcher: Dispatcher, valkey_client: redis.Redis
) -> None:
    for _ in range(100):
        dispatcher.send_job("archive-a.housekeeping", ["archive-a", "", "purge_tasks"])
    factories.insert(10)
    until_sent(valkey_client, SLOTS)

    assert 0 < depth(valkey_client, "archive-a.housekeeping") <= 50


def test_fewer_slots_take_effect_without_a_restart(dispatcher: Dispatcher, valkey_client: redis.Redis) -> None:
    factories.use_cluster(factories.device(queues={"Export": replace(factories.EXPORT, max_tasks_parallel=1)}))
    factories.insert(10)
    settle(dispatcher)

    assert depth(valkey_client) == 1
