"""The supervisor with real processes."""

from __future__ import annotations

from pathlib import Path

from workers import supervise
from workers.embedded import child


def command(name: str, script: str, folder: Path) -> supervise.Command:
    return supervise.Command(name, ["/bin/sh", "-c", script], folder / f"{name}.log")


def test_child_that_ends_is_started_again_and_named(tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = supervise.Supervisor(said.append, first_delay_s=0.01)
    runs = tmp_path / "runs"
    supervisor.start(command("worker archive-a", f"echo x >> {runs}; echo no memory; exit 3", tmp_path))

    def ran_three_times() -> bool:
        supervisor.check()
        return runs.exists() and len(runs.read_text().split()) >= 3

    assert child.await_condition(ran_three_times, timeout_s=10)
    assert said[0].startswith("worker archive-a ended (exit code 3), starts again in 0.01 s: no memory")
    supervisor.stop(timeout_s=1)


def test_child_that_ignores_the_request_is_killed_in_time_with_what_it_started(tmp_path: Path) -> None:
    supervisor = supervise.Supervisor(lambda _line: None)
    deaf = command("deaf", "trap '' TERM; sleep 1000 & while :; do wait; done", tmp_path)
    supervisor.start(deaf)
    assert deaf.pid is not None
    assert child.await_condition(lambda: bool(child.descendants(deaf.pid or 0)), timeout_s=5)
    family = [deaf.pid, *child.descendants(deaf.pid)]

    # It would sleep for longer than any test may take.
    supervisor.stop(timeout_s=0.5)

    assert not [pid for pid in family if child.is_alive(pid)]
