"""The parts of doctor that need no server: limits, secrets, severities, lock files, the order of checks."""

from __future__ import annotations

import threading

import pytest

from api import words
from api.doctor import examination, limits
from api.doctor.examination import CHECKS, Needs
from api.doctor.finding import Finding, Severity, Subject, counted, worst
from api.doctor.limits import NoAnswer
from api.doctor.packages import wanted_by
from api.doctor.secrets import Secrets, shown
from config.running import Up

SAY = Subject("x")


def test_question_that_is_not_answered_ends_at_its_limit() -> None:
    never = threading.Event()
    try:
        with pytest.raises(NoAnswer, match=r"no answer within 0\.05 s"):
            limits.within(0.05, never.wait)
    finally:
        never.set()


def test_answer_and_error_reach_whoever_asked() -> None:
    def fail() -> None:
        raise ValueError("bad")

    assert limits.within(10, lambda: 42) == 42
    with pytest.raises(ValueError, match="bad"):
        limits.within(10, fail)


def test_things_are_asked_at_once_and_told_in_their_order() -> None:
    both = threading.Barrier(2)

    found = limits.each(10, [1, 2], lambda thing: (both.wait(10), thing * 10)[1])

    assert found == [(1, 10), (2, 20)]


def test_one_that_hangs_keeps_no_other_from_its_answer() -> None:
    never = threading.Event()
    try:
        (_, first), (_, second) = limits.each(
            0.2, ["hangs", "answers"], lambda thing: thing == "answers" or never.wait()
        )
    finally:
        never.set()

    assert isinstance(first, NoAnswer)
    assert second is True


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://arc:pa%40ss@host/db", "postgresql://arc:***@host/db"),
        ("redis://:word@host:6379/0", "redis://:***@host:6379/0"),
        ("amqp://user:p@ss@host//", "amqp://user:***@host//"),
        ("postgresql://arc@/db?host=/run&sslpassword=x1", "postgresql://arc@/db?host=/run&sslpassword=***"),
        ("redis+socket:///run/valkey.sock", "redis+socket:///run/valkey.sock"),
        ("dicom://ARCHIVE_A@127.0.0.1:11112", "dicom://ARCHIVE_A@127.0.0.1:11112"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, expected: str) -> None:
    assert shown(url) == expected


def test_password_is_masked_wherever_it_stands_but_no_plain_word() -> None:
    secrets = Secrets(None, Up(1, "postgresql://a:p%40ss-1@h/d", "redis://:arcfleet@h"))

    assert secrets.masked("found p@ss-1 and p%40ss-1: run `arcfleet up`") == "found *** and ***: run `arcfleet up`"


def test_worst_finding_counts() -> None:
    found = [SAY.ok("a", "1"), SAY.error("b", "2", "3"), SAY.note("c", "4"), SAY.warning("d", "5", "6")]

    assert worst(found) is Severity.ERROR
    assert worst([]) is Severity.OK
    assert counted(found) == dict.fromkeys(Severity, 1)
    assert found[1] == Finding(Severity.ERROR, "x", "b", "2", "3")


def test_lock_file_is_read_with_markers() -> None:
    lines = [
        "# comment", "celery==5.7.0 \\", "    --hash=sha256:18 \\", "async-timeout==5.0.1 ; python_version < '3.11' \\",
        "celery[redis]>=5.7", "pytest>=9; extra == 'dev'",
    ]  # fmt: skip

    assert [(one.name, one.version, one.has_marker) for one in wanted_by(lines)] == [
        ("celery", "5.7.0", False), ("async-timeout", "5.0.1", True), ("celery", None, False), ("pytest", None, True),
    ]  # fmt: skip


def test_each_check_comes_once_is_described_and_has_a_subject() -> None:
    checks = [check for check, _ in CHECKS]

    assert len(checks) == len(set(checks))
    for check in checks:
        assert check.__doc__, check
        assert examination._subject(check)


def test_checks_that_need_the_schema_come_after_those_that_look_for_it() -> None:
    names = [(check.__module__.rpartition(".")[2], check.__name__) for check, _ in CHECKS]
    first = next(number for number, (_, needs) in enumerate(CHECKS) if Needs.SCHEMA in needs)

    assert names.index(("database", "schema_fits")) < names.index(("configured", "readable")) < first


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (119, "119 s"), (600, "10 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_spans_are_short(seconds: float, text: str) -> None:
    assert words.span(seconds) == text


def test_sizes_and_many_names_are_short() -> None:
    assert [words.size(number) for number in (None, 0, 1500, 83_400_000_000)] == ["", "0 B", "1.5 kB", "83.4 GB"]
    assert words.some(range(7)) == "0, 1, 2, 3, 4 and 2 more"
