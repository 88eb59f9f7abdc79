"""What processes of a nursery do in tests; each test runs one of these in a fresh interpreter, which has no threads."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.lab.member import name_of
from workers.embedded import child
from workers.nursery import Birth, Nursery, NurseryGoneError


def write(number: int, text: str) -> int:
    """Be a process that writes to a descriptor."""
    os.write(number, text.encode())
    return 3


def sleep(_text: str = "") -> None:
    """Be a process that waits to be killed."""
    time.sleep(600)


def say(name: str) -> None:
    """Be a process that says what it has in its environment, and where it stands."""
    print(os.environ.get(name), os.getsid(0) == os.getpid(), len(os.environ))


def fail(_text: str = "") -> None:
    """Be a process with a defect."""
    raise ValueError("a defect")


def opened() -> Nursery:
    made = Nursery.open()
    assert made is not None
    return made


def descriptors_keep_their_numbers() -> None:
    nursery = opened()
    pipes = [os.pipe() for _ in range(5)]
    # In an order in which each one arrives under the number of another.
    given = [write_end for _, write_end in reversed(pipes)]

    for number, (read_end, write_end) in enumerate(pipes):
        pid = nursery.bear(Birth("tests.lab.nursed:write", "writer", (write_end, f"pipe {number}"), descriptors=given))
        assert os.read(read_end, 100) == f"pipe {number}".encode()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


def child_is_ours_and_named() -> None:
    nursery = opened()

    pid = nursery.bear(Birth("tests.lab.nursed:sleep", "sleeper"))

    assert child.await_condition(lambda: name_of(pid) == "sleeper", timeout_s=10)
    assert int(child.stat_fields(pid)[1]) == os.getpid()
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def environment_session_and_log_are_as_told() -> None:
    nursery = opened()
    log = Path(sys.argv[2])

    pid = nursery.bear(
        Birth("tests.lab.nursed:say", "sayer", ("WHAT",), {"WHAT": "this"}, log=str(log), own_session=True)
    )

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert log.read_text() == "this True 1\n"


def defect_ends_the_process_with_its_traceback() -> None:
    nursery = opened()
    log = Path(sys.argv[2])

    pid = nursery.bear(Birth("tests.lab.nursed:fail", "failing", log=str(log)))

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert log.read_text().endswith("ValueError: a defect\n")
    assert os.waitpid(nursery.bear(Birth("tests.lab.nursed:say", "sayer", ("X",), log=str(log))), 0)[1] == 0


def signals_for_a_group_do_not_end_the_nursery() -> None:
    nursery = opened()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(nursery.pid, number)

    pid = nursery.bear(Birth("tests.lab.nursed:sleep", "sleeper"))
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM


def children_outlive_a_nursery_that_is_killed() -> None:
    nursery = opened()
    pid = nursery.bear(Birth("tests.lab.nursed:sleep", "sleeper"))

    os.kill(nursery.pid, signal.SIGKILL)
    os.waitpid(nursery.pid, 0)

    with pytest.raises(NurseryGoneError, match=f"process {nursery.pid}"):
        nursery.bear(Birth("tests.lab.nursed:sleep", "sleeper"))
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)


def all_end_with_the_one_who_asked() -> None:
    """Say the processes, and end without any order."""
    nursery = opened()
    pid = nursery.bear(Birth("tests.lab.nursed:sleep", "sleeper"))
    assert child.await_condition(lambda: name_of(pid) == "sleeper", timeout_s=10)
    print(nursery.pid, pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def nursery_is_refused_behind_a_thread() -> None:
    end = threading.Event()
    threading.Thread(target=end.wait, name="early bird").start()
    try:
        with pytest.raises(RuntimeError, match="early bird"):
            opened()
    finally:
        end.set()


if __name__ == "__main__":
    globals()[sys.argv[1]]()
