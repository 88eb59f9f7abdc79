"""The broker as compose.yaml starts it, and the account of another service as docs/jobs.md makes it."""

from __future__ import annotations

import re
import secrets
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
import yaml
from amqp.exceptions import AccessRefused
from kombu import Connection
from redis.exceptions import NoPermissionError

from tests.lab import other_service, rabbitmq
from tests.lab.cluster import free_port
from tests.lab.waiting import wait_until
from workers.embedded import binaries, child

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "jobs.md").read_text()
PASSWORD = secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Broker:
    port: int
    folder: Path

    def client(self, user: str = "default", password: str = PASSWORD) -> redis.Redis:
        return redis.Redis(port=self.port, username=user, password=password, decode_responses=True)


def start(broker: Broker) -> child.Child:
    """Run the command of compose.yaml, with its paths in the folder and its port on loopback."""
    command = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]["valkey"]["command"]
    assert command[0] == "valkey-server"
    here = {"/run/secrets/valkey_conf": str(broker.folder / "valkey_conf"), "/data": str(broker.folder)}
    arguments = [here.get(one, one) for one in command[1:]]
    arguments += ["--bind", "127.0.0.1", "--port", str(broker.port)]
    program = child.Program([str(binaries.valkey_server()), *arguments], broker.folder / "log", folder=broker.folder)
    running = child.start(program)

    def answers() -> bool:
        try:
            return bool(broker.client().ping())
        except (redis.ConnectionError, redis.BusyLoadingError):
            return False

    wait_until(answers, "the broker answers", say=lambda: child.last_line(program.log))
    return running


@pytest.fixture
def broker() -> Iterator[Broker]:
    with tempfile.TemporaryDirectory(prefix="arcfleet-broker-") as name:
        made = Broker(free_port(), Path(name))
        (made.folder / "valkey_conf").write_text(f"requirepass {PASSWORD}\n")
        running = start(made)
        yield made
        running.kill()


def sending_examples() -> list[str]:
    """Return the programs of the page that send by the broker; the others ask REST."""
    return [one for one in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "BROKER_URL" in one]


def test_message_survives_a_kill_of_the_broker_and_nobody_comes_in_without_a_password(broker: Broker) -> None:
    with tempfile.TemporaryDirectory() as name:
        again = Broker(free_port(), Path(name))
        (again.folder / "valkey_conf").write_text(f"requirepass {PASSWORD}\n")
        running = start(again)
        other_service.send(f"redis://:{PASSWORD}@127.0.0.1:{again.port}/0", 3)
        again.client().execute_command("WAITAOF", 1, 0, 5000)
        running.kill()

        running = start(again)

        assert again.client().llen("arcfleet.intake") == 3
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=again.port).ping()
        running.kill()


def test_account_of_the_page_can_send_jobs_and_nothing_else(broker: Broker) -> None:
    [rule] = re.findall(r"^ACL SETUSER (.*)$", PAGE, re.MULTILINE)
    broker.client().execute_command("ACL", "SETUSER", *rule.replace("SECRET", "s3cret").split())
    url = f"redis://ris:s3cret@127.0.0.1:{broker.port}/0"

    for example in sending_examples():
        other_service.run(example, url)

    assert broker.client().llen("arcfleet.intake") == 2
    other = broker.client("ris", "s3cret")
    for forbidden in (
        lambda: other.lpush("archive-a", "x"), lambda: other.rpop("arcfleet.intake"), lambda: other.flushall(),
        lambda: other.publish("/0.celery.pidbox", "x"), lambda: other.lrange("arcfleet.intake", 0, -1),
    ):  # fmt: skip
        with pytest.raises(NoPermissionError):
            forbidden()


def test_account_of_the_page_can_send_jobs_by_rabbitmq_and_not_take_them() -> None:
    [rule] = re.findall(r"`rabbitmqctl (set_permissions ris .*?)`", PAGE)
    with tempfile.TemporaryDirectory(prefix="arcfleet-rabbit-") as name, rabbitmq.running(Path(name)) as broker:
        broker.control("add_user", "ris", "s3cret")
        broker.control(*shlex.split(rule))
        url = broker.url_of("ris", "s3cret")

        for example in sending_examples():
            other_service.run(example, url)

        with Connection(broker.url) as ours:
            assert ours.SimpleQueue("arcfleet.intake").qsize() == 2
        for forbidden in (
            lambda channel: channel.basic_get("arcfleet.intake"),
            lambda channel: channel.queue_purge("arcfleet.intake"),
            lambda channel: channel.queue_declare("archive-a"),
            lambda channel: channel.exchange_declare("celery.pidbox", "fanout"),
        ):
            with Connection(url) as theirs, pytest.raises(AccessRefused):
                forbidden(theirs.default_channel)
