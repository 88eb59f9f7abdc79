"""All checks in their order, each within a time, and no secret in what they say."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import Flag, auto

import structlog

from api.doctor import (
    beat,
    broker,
    configured,
    connections,
    database,
    deletions,
    destinations,
    dicom,
    disks,
    file_systems,
    home,
    machine,
    nodes,
    packages,
    waiting,
    web,
)  # fmt: skip
from api.doctor.case import Case, NoSuchDevice, Wishes
from api.doctor.finding import Finding, Subject
from api.doctor.limits import NoAnswer, within
from api.doctor.secrets import Secrets
from archive import configuration, db

_log = structlog.get_logger()

#: Seconds that one check may take; what it asks has shorter limits of its own.
LIMIT_S = 25.0

_SELF = Subject("doctor")

Check = Callable[[Case], Iterator[Finding]]


class Needs(Flag):
    """What must be there for a check to make sense; its name is how its absence is told."""

    NOTHING = 0
    SETTINGS = auto()
    #: The database answers.
    DATABASE = auto()
    #: Its schema is ours.
    SCHEMA = auto()
    CONFIGURATION = auto()


_CLUSTER = Needs.SETTINGS | Needs.CONFIGURATION | Needs.DATABASE | Needs.SCHEMA

#: Those that find out what there is come before those that need it.
CHECKS: Sequence[tuple[Check, Needs]] = (
    (machine.python, Needs.NOTHING),
    (packages.installed, Needs.NOTHING),
    (machine.texts, Needs.NOTHING),
    (machine.descriptors, Needs.NOTHING),
    (machine.clock, Needs.NOTHING),
    (home.settings_are_read, Needs.NOTHING),
    (home.writable, Needs.SETTINGS),
    (home.space, Needs.SETTINGS),
    (home.runs, Needs.SETTINGS),
    (database.answers, Needs.SETTINGS),
    (database.schema_fits, Needs.DATABASE),
    (configured.readable, Needs.SETTINGS),
    (configured.same_everywhere, _CLUSTER),
    (configured.zones, Needs.SETTINGS | Needs.CONFIGURATION),
    (database.clock, Needs.DATABASE),
    (database.loses_nothing, Needs.DATABASE),
    (database.held_up, Needs.DATABASE),
    (connections.suffice, _CLUSTER),
    (broker.answers, Needs.SETTINGS),
    (broker.channels, _CLUSTER),
    (nodes.alive, _CLUSTER),
    (nodes.alike, _CLUSTER),
    (nodes.clocks, _CLUSTER),
    (nodes.pauses, _CLUSTER),
    (nodes.queues, Needs.CONFIGURATION),
    (beat.leads, _CLUSTER),
    (beat.jobs, _CLUSTER),
    (file_systems.groups, _CLUSTER),
    (file_systems.reported, _CLUSTER),
    (disks.seen_here, _CLUSTER),
    (dicom.own, Needs.SETTINGS | Needs.CONFIGURATION),
    (dicom.others, Needs.SETTINGS | Needs.CONFIGURATION),
    (web.devices, Needs.SETTINGS | Needs.CONFIGURATION),
    (web.pages, Needs.SETTINGS),
    (waiting.tasks, _CLUSTER),
    (waiting.runs, _CLUSTER),
    (waiting.alarms, _CLUSTER),
    (destinations.states, _CLUSTER),
    (deletions.marks, _CLUSTER),
    (deletions.unfinished, _CLUSTER),
    (deletions.unlink_list, _CLUSTER),
)


def examine(wishes: Wishes) -> list[Finding]:
    """Make all checks that can be made, and return what they found; changes nothing and never hangs.

    Raises:
        NoSuchDevice: the device that is asked for is not one of ours.
    """
    case = Case(wishes)
    found: list[Finding] = []
    skipped: dict[str, str] = {}
    try:
        for check, needs in CHECKS:
            missing = needs & ~_there(case)
            if missing:
                skipped.setdefault(_subject(check), _why(missing, case))
            else:
                found += _made(check, case)
    finally:
        db.use(None)
        configuration.reset()
    found += _not_made(skipped)
    secrets = Secrets(case.settings, case.up)
    return [_masked(one, secrets) for one in found if case.is_meant(one.device)]


def _made(check: Check, case: Case) -> list[Finding]:
    """Make one check; what it said before it failed counts too."""
    found: list[Finding] = []
    say, name = Subject(_subject(check)), check.__name__.replace("_", " ")
    try:
        within(LIMIT_S, lambda: found.extend(check(case)))
    except NoSuchDevice:
        raise
    except NoAnswer as error:
        found.append(say.error(name, str(error), "an answer"))
    except db.OUTAGES as error:
        # Whoever comes next would wait as long.
        case.has_database = case.has_schema = False
        found.append(say.error(name, f"the database went away: {db.first_line(error)}", "an answer"))
    except Exception as error:  # noqa: BLE001 - a defect of one check must not hide what the others find
        _log.exception("check failed", check=check.__name__)
        do = "report it, with the lines on standard error"
        found.append(say.error(name, f"the check itself failed: {type(error).__name__}: {error}", "", do))
    return found


def _there(case: Case) -> Needs:
    there = {
        Needs.SETTINGS: case.settings is not None,
        Needs.DATABASE: case.has_database,
        Needs.SCHEMA: case.has_schema,
        Needs.CONFIGURATION: case.cluster is not None,
    }
    return Needs(sum(need.value for need, is_there in there.items() if is_there))


def _not_made(skipped: Mapping[str, str]) -> Iterator[Finding]:
    """Say of which subjects something was not looked at, and why."""
    for why in dict.fromkeys(skipped.values()):
        subjects = ", ".join(subject for subject, reason in skipped.items() if reason == why)
        yield _SELF.note("not looked at", f"{subjects}: {why}")


def _why(missing: Needs, case: Case) -> str:
    """Return why a check was not made: the first thing that is missing, the others follow from it."""
    if case.settings is None:
        missing |= Needs.SETTINGS
    said = {
        Needs.SETTINGS: "the settings cannot be read",
        Needs.DATABASE: "no database answers",
        Needs.SCHEMA: "the schema of the database is not ours",
        Needs.CONFIGURATION: "there is no configuration",
    }
    return next(text for need, text in said.items() if need in missing)


def _subject(check: Check) -> str:
    say = sys.modules[check.__module__].SAY
    assert isinstance(say, Subject)  # noqa: S101  # each module has one
    return say.name


def _masked(one: Finding, secrets: Secrets) -> Finding:
    return replace(
        one,
        what=secrets.masked(one.what),
        found=secrets.masked(one.found),
        expected=secrets.masked(one.expected),
        do=secrets.masked(one.do),
    )
