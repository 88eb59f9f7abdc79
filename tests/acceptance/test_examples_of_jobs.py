"""The examples of docs/jobs.md that speak REST: curl, and a follower of the events feed that is killed again and again.

Those that send messages are in `test_intake`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks import events, operations
from tasks.query import TaskQuery
from tests.lab import ldif, peers
from tests.lab.cluster import BY, Lab, cluster
from tests.lab.member import Member
from tests.lab.waiting import wait_until

PAGE = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()

#: Far ahead: it does not run.
LATER = datetime(2090, 1, 1, tzinfo=UTC)

#: A transition as a follower and the history have it: number of the task, what happened, from and to which status.
Seen = tuple[int, str, str | None, str | None]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with cluster(ldif.exporter("Noop", uri="noop:", duration=0.01, operations=2)) as made:
        yield made


def example(language: str, about: str) -> str:
    """Return the first example in that language under the heading that begins so."""
    section = PAGE.partition(f"\n## {about}")[2].partition("\n## ")[0]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found, f"no example in {language} under {about}"
    return found[1]


def plain(base: str) -> dict[str, str]:
    """Return an environment that has nothing of ours but a URL."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ARCFLEET_", "PYTHON")) and not name.lower().endswith("_proxy")
    }
    return kept | {"ARCFLEET_URL": base}


def answers(base: str) -> bool:
    return (
        subprocess.run(["curl", "-fsS", f"{base}/health/ready"], env=plain(base), capture_output=True).returncode == 0
    )


def api(lab: Lab) -> tuple[Member, str]:
    member, base = lab.api()
    wait_until(lambda: answers(base), "REST answers", say=member.tail)
    return member, base


def test_commands_with_curl_make_one_task_and_show_it(lab: Lab) -> None:
    peers.need("curl", "curl")
    _, base = api(lab)
    commands = example("sh", "With curl")

    once, again = (
        subprocess.run(["sh", "-e"], input=commands, env=plain(base), capture_output=True, text=True, check=False)
        for _ in range(2)
    )

    assert (once.returncode, again.returncode) == (0, 0), once.stderr + again.stderr
    [task] = lab.ask(lambda session: [one.task_id for one in events.read(session, None).transitions])
    for said in (once.stdout, again.stdout):
        assert said.count(f'"taskID":"{task}"') >= 2
        assert '{"count":1}' in said.replace(" ", "")


def told(kept: Path) -> list[Seen]:
    """Return what a follower has kept; a line that is being written is left out."""
    if not kept.exists():
        return []
    whole = [line for line in kept.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    return [
        (one["taskID"], one["event"], one.get("from"), one.get("to"))
        for line in whole
        for one in json.loads(line)["events"]
    ]


def happened(lab: Lab) -> list[Seen]:
    """Return the same out of the database, in the order of commits."""
    found: list[Seen] = []
    after = None
    while True:
        page = lab.ask(lambda session, after=after: events.read(session, after))
        if not page.transitions:
            return found
        found += [(one.task_id, one.event, one.from_status, one.to_status) for one in page.transitions]
        after = page.cursor


def test_follower_misses_nothing_while_it_and_the_server_are_killed(lab: Lab, tmp_path: Path) -> None:
    peers.need("curl", "curl")
    server, base = api(lab)
    lab.beat()
    worker = lab.worker("archive-a")
    lab.ready(worker)
    (tmp_path / "follower.py").write_text(example("python", "A follower"))
    command = [peers.need("env", "coreutils"), "-C", str(tmp_path), sys.executable, "follower.py"]
    follower = Member("follower", command, tmp_path / "follower.log", plain(base)).start()
    lab.members.append(follower)
    kept = tmp_path / "transitions.jsonl"

    for step in range(6):
        before = len(told(kept))
        lab.schedule(40)
        # A page is cut within what one chunk changed.
        lab.schedule(1500, exporter="Noop", batch_id=f"b{step}", scheduled_time=LATER)
        operations.cancel(TaskQuery(batch_id=f"b{step}"), BY)
        wait_until(lambda least=before + 1500: len(told(kept)) >= least, "the follower is at it", say=follower.tail)
        for victim in (follower, server) if step % 2 else (server, follower):
            victim.kill()
            lab.schedule(20)
            victim.start()
    lab.await_done(at_least=6 * 80)
    lab.await_idle()

    expected = happened(lab)
    wait_until(lambda: len(told(kept)) >= len(expected), "the follower has all", say=follower.tail)
    follower.kill()
    assert told(kept) == expected
