"""What retries a task has whose end a client waits for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from config.device import Queue
from tasks import waited
from tests import factories

QUEUE = Queue("Retrieve", max_retries=10)


def test_task_is_not_tried_again_while_a_client_waits_and_like_others_after_that() -> None:
    new = waited.waited_for(factories.new_task(params={"policy": "OBJECT_SIZE"}), 60)
    now = datetime.now(UTC)

    assert waited.policy(QUEUE, new.params, now) == replace(QUEUE, max_retries=0)
    assert waited.policy(QUEUE, new.params, now + timedelta(seconds=61)) == QUEUE
    assert waited.policy(QUEUE, {}, now) == QUEUE
    assert waited.what(new.params) == {"policy": "OBJECT_SIZE"}


def test_client_that_does_not_wait_leaves_the_task_as_it_is() -> None:
    new = factories.new_task()

    assert waited.waited_for(new, 0) == new
