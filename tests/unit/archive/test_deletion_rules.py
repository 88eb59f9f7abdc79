"""Each rule of deletion, kept and let go, alone and together."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.deletion import rules
from archive.deletion.rules import Deletable, Facts, Held, Kept, Mark, Pin, Terms, Trigger
from archive.model import FileSystemStatus
from config.device import FileSystemGroup

NOW = datetime(2026, 8, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NEARLINE = "archive-a/NEARLINE_STORAGE"
OTHER = "archive-b/NEARLINE_STORAGE"

#: A study that may go by its age.
FREE = Facts(
    study_uid="1.2.3",
    path="/disk",
    status=FileSystemStatus.CURRENT,
    problem=None,
    now=NOW,
    access_time=NOW - 31 * DAY,
    num_files=10,
    size_bytes=1000,
    held=(Held(frozenset({NEARLINE}), 10),),
)
TERMS = Terms(Trigger.AGE, 30 * DAY, (NEARLINE,), allow_last_copy=False, pin_waiting_for=7 * DAY)
BY_NAME = replace(TERMS, trigger=Trigger.REQUEST)
WAITING = Pin(42, "EXPORT", "SCHEDULED", NOW)


def kept_by(facts: Facts, terms: Terms = TERMS) -> list[str]:
    """Return the names of the rules that keep it."""
    verdict = rules.classify(facts, terms)
    return [] if isinstance(verdict, Deletable) else [reason.rule for reason in verdict.reasons]


def test_study_that_no_rule_keeps_may_go_and_the_rules_are_named() -> None:
    assert rules.classify(FREE, TERMS) == Deletable(tuple(rule.name for rule in rules.RULES))


def test_study_that_is_named_is_asked_neither_its_age_nor_its_groups() -> None:
    verdict = rules.classify(FREE, BY_NAME)

    assert isinstance(verdict, Deletable)
    assert set(rules.classify(FREE, TERMS).rules) - set(verdict.rules) == {"not accessed", "copy in group"}  # type: ignore[union-attr]


@pytest.mark.parametrize("status", [FileSystemStatus.CURRENT, FileSystemStatus.WRITABLE])
def test_writable_file_system_lets_go(status: FileSystemStatus) -> None:
    assert kept_by(replace(FREE, status=status)) == []


# Each rule with facts at which it just keeps, and what its reason must say.
_KEEPING: list[tuple[str, dict[str, Any], str]] = [
    ("file system healthy", {"problem": "no marker in it"}, "no marker in it; it may go when"),
    ("file system writable", {"status": FileSystemStatus.READ_ONLY}, "is RO; it may go when that is RW or RW+"),
    ("file system writable", {"status": FileSystemStatus.PENDING}, "is PENDING"),
    ("not being received", {"receiving": 1}, "1 of its series are being received"),
    ("not protected", {"protected": "ann@host"}, "protected by ann@host"),
    ("not pinned", {"pins": (Pin(42, "EXPORT", "IN PROCESS"),)}, "read by task 42 (EXPORT, IN PROCESS)"),
    ("not pinned", {"pins": (Pin(42, "EXPORT", "SCHEDULED FOR RETRY"),)}, "may go when they are done, canceled or"),
    ("not pinned", {"pins": (replace(WAITING, due=NOW + 9 * DAY),)}, "or at 2026-09-05 12:00:00 UTC"),
    ("not pinned", {"pins": (replace(WAITING, due=NOW - 7 * DAY),)}, "or at 2026-08-20 12:00:00 UTC"),
    ("not marked", {"mark": Mark(7)}, "task 7 deletes it already"),
    ("not accessed", {"access_time": NOW - 30 * DAY + timedelta(seconds=1)}, "not yet 30 days ago; it may go at"),
    ("copy in group", {"held": (Held(frozenset({OTHER}), 10),)}, f"10 of 10 objects in {NEARLINE}"),
]


@pytest.mark.parametrize(("rule", "changes", "said"), _KEEPING)
def test_rule_keeps_the_study_and_says_why_in_one_line(rule: str, changes: dict[str, Any], said: str) -> None:
    verdict = rules.classify(replace(FREE, **changes), TERMS)

    assert isinstance(verdict, Kept)
    assert [reason.rule for reason in verdict.reasons] == [rule]
    [text] = [reason.text for reason in verdict.reasons]
    assert text.startswith(f"Study 1.2.3 on /disk is kept ({rule}): ")
    assert said in text
    assert "it may go" in text
    assert "\n" not in text


_LETTING_GO: list[dict[str, Any]] = [
    {"access_time": NOW - 30 * DAY},
    {"pins": (replace(WAITING, due=NOW - 7 * DAY - timedelta(seconds=1)),)},
    {"held": (Held(frozenset({NEARLINE, OTHER}), 4), Held(frozenset({NEARLINE}), 6))},
    {"held": (), "num_files": 0},
]


@pytest.mark.parametrize("changes", _LETTING_GO)
def test_rule_lets_go_at_its_edge(changes: dict[str, Any]) -> None:
    assert kept_by(replace(FREE, **changes)) == []


def test_last_copy_is_kept_and_its_flag_is_named() -> None:
    facts = replace(FREE, held=(Held(frozenset({NEARLINE}), 7), Held(frozenset(), 3)), missing=("/x: gone",))

    verdict = rules.classify(facts, BY_NAME)

    assert isinstance(verdict, Kept)
    [reason] = verdict.reasons
    assert reason.rule == "not the last copy"
    assert "the only good copy of 3 of 10 objects" in reason.text
    assert "AllowDeletingLastCopy=true" in reason.text
    assert "1 copies do not count: /x: gone" in reason.text


def test_last_copy_may_go_where_the_group_allows_it() -> None:
    facts = replace(FREE, held=(Held(frozenset(), 10),))
    allowing = replace(TERMS, copy_in=(), allow_last_copy=True)

    assert kept_by(facts, allowing) == []
    # The groups that must hold a copy are asked all the same.
    assert kept_by(facts, replace(allowing, copy_in=(NEARLINE,))) == ["copy in group"]
    assert kept_by(facts, replace(allowing, allow_last_copy=False)) == ["not the last copy"]


def test_each_of_several_groups_must_hold_each_object() -> None:
    both = replace(TERMS, copy_in=(NEARLINE, OTHER))

    assert kept_by(FREE, both) == ["copy in group"]
    half = (Held(frozenset({NEARLINE, OTHER}), 9), Held(frozenset({NEARLINE}), 1))
    assert kept_by(replace(FREE, held=half), both) == ["copy in group"]
    assert kept_by(replace(FREE, held=(Held(frozenset({NEARLINE, OTHER}), 10),)), both) == []


def test_nothing_goes_by_age_where_no_age_is_set() -> None:
    assert kept_by(FREE, replace(TERMS, not_accessed_for=None)) == ["not accessed"]


def test_all_reasons_are_given_at_once() -> None:
    facts = replace(FREE, receiving=2, protected="ann", access_time=NOW, held=(Held(frozenset(), 10),))

    assert kept_by(facts) == [
        "not being received", "not protected", "not accessed", "copy in group", "not the last copy",
    ]  # fmt: skip


def test_where_objects_stay_is_counted_by_group() -> None:
    facts = replace(FREE, held=(Held(frozenset({NEARLINE, OTHER}), 4), Held(frozenset({NEARLINE}), 6)))

    assert rules.remaining(facts) == [f"{NEARLINE}: 10", f"{OTHER}: 4"]


def test_terms_come_from_the_group_with_full_names_and_the_longer_age() -> None:
    group = FileSystemGroup(
        "ONLINE_STORAGE",
        delete_if_not_accessed_for=timedelta(hours=1),
        copy_groups=("NEARLINE_STORAGE", "archive-b/NEARLINE_STORAGE", "ONLINE_STORAGE"),
    )

    terms = rules.terms_of(group, "archive-a", Trigger.AGE)

    assert terms.copy_in == (NEARLINE, OTHER)
    assert terms.not_accessed_for == DAY  # DeleteStudyOnlyIfNotAccessedFor
    assert rules.terms_of(FileSystemGroup("X"), "archive-a", Trigger.AGE).not_accessed_for is None


_GROUPS = st.frozensets(st.sampled_from([NEARLINE, OTHER, "archive-a/CACHE"]))
_FACTS = st.builds(
    Facts,
    study_uid=st.just("1.2.3"),
    path=st.just("/disk"),
    status=st.sampled_from(FileSystemStatus),
    problem=st.none() | st.just("gone"),
    now=st.just(NOW),
    access_time=st.sampled_from([NOW, NOW - 40 * DAY]),
    receiving=st.integers(0, 2),
    protected=st.none() | st.just("ann"),
    pins=st.just(()) | st.just((WAITING,)),
    mark=st.none() | st.just(Mark(7)),
    num_files=st.just(10),
    held=st.lists(st.builds(Held, _GROUPS, st.integers(1, 5)), max_size=4).map(tuple),
)
_TERMS = st.builds(
    Terms,
    trigger=st.sampled_from(Trigger),
    not_accessed_for=st.none() | st.just(30 * DAY),
    copy_in=st.lists(st.sampled_from([NEARLINE, OTHER]), unique=True).map(tuple),
    allow_last_copy=st.booleans(),
    pin_waiting_for=st.just(7 * DAY),
)


@given(_FACTS, _TERMS)
def test_object_that_would_be_left_without_a_copy_is_never_deletable(facts: Facts, terms: Terms) -> None:
    alone = any(not held.groups for held in facts.held)

    if alone and not terms.allow_last_copy:
        assert isinstance(rules.classify(facts, terms), Kept)


@given(_FACTS, _TERMS)
def test_deletable_is_what_no_rule_keeps(facts: Facts, terms: Terms) -> None:
    is_by_age = terms.trigger is Trigger.AGE
    keeps = [
        facts.problem is not None,
        facts.status not in (FileSystemStatus.CURRENT, FileSystemStatus.WRITABLE),
        facts.receiving > 0,
        facts.protected is not None,
        bool(facts.pins),
        facts.mark is not None,
        is_by_age and (terms.not_accessed_for is None or facts.access_time == NOW),
        is_by_age and any(group not in held.groups for group in terms.copy_in for held in facts.held),
        not terms.allow_last_copy and any(not held.groups for held in facts.held),
    ]

    assert isinstance(rules.classify(facts, terms), Deletable) == (not any(keeps))
    assert len(kept_by(facts, terms)) == sum(keeps)
