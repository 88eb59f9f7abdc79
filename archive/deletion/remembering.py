"""What looks for studies to delete have found before, so that what may not go is not judged in full each time.

A look remembers of a study that rules keep it, how long at most that holds, and under which premise: the terms of its
group, and which disks counted. It only leaves such studies out; who deletes asks all rules again. What is
only kept by tasks that read it is judged each time. The others are judged anew when

* something happened to them: triggers of the database forget what was found when copies come, change or go, when a
  series is no longer received, when a protection is lifted, when they are used, when a mark comes or goes;
* the premise does not hold any more: other terms, or a disk counts that did not count then (fewer copies free no study,
  so that one that falls out changes nothing);
* the task of their mark has ended: whoever looks asks for that, see `forget_marked`;
* a week is over: so long what nobody has thought of can keep a study.

What happens while a look judges is not lost: both hold an advisory lock of the study, see `lock`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, cast

from sqlalchemy import ColumnElement, CursorResult, and_, delete, func, insert, select, text, tuple_, update
from sqlalchemy.orm import Session

from archive import db, model
from archive.deletion import gathering
from archive.deletion.gathering import Disks, Place
from archive.deletion.rules import Terms

#: Rows that are forgotten in one transaction.
_CHUNK = 10_000
#: Studies that are counted at most: each look does so.
MOST_COUNTED = 10_000
#: After so long nothing rests on a premise any more.
_PREMISE_KEPT_FOR = timedelta(days=14)
#: First key of the advisory locks; that of revision 0003.
_LOCK = 0x6172_6366


@dataclass(frozen=True, slots=True)
class Premise:
    """What a verdict of a look rests on, besides the study itself."""

    device: str
    group_id: str
    terms: str
    #: Disks whose copies count, as `number:device/group`.
    counting: tuple[str, ...]
    #: Those of them whose copies count without being verified lately.
    mounted: tuple[str, ...]


class Found(NamedTuple):
    """A study on a file system that rules keep."""

    place: Place
    #: How long that holds if no trigger tells of a change.
    holds_for: timedelta
    #: Names of the rules.
    because: tuple[str, ...]


def premise_of(device: str, group_id: str, terms: Terms, systems: Sequence[model.FileSystem], disks: Disks) -> Premise:
    """Return what verdicts on a group rest on that are found with these disks."""
    names = {one.id: f"{one.id}:{one.owner_device}/{one.group_id}" for one in gathering.counting(systems, disks)}
    asked = json.dumps([sorted(terms.copy_in), terms.allow_last_copy])
    mounted = sorted(name for number, name in names.items() if number not in disks.unmounted)
    return Premise(device, group_id, asked, tuple(sorted(names.values())), tuple(mounted))


def number_of(session: Session, premise: Premise) -> int:
    """Return the number of a premise, which is written if it is new. One look at a group at a time does so."""
    table = model.DeletionPremise
    same = (
        table.device == premise.device,
        table.group_id == premise.group_id,
        table.terms == premise.terms,
        table.counting == list(premise.counting),
        table.mounted == list(premise.mounted),
    )
    found = session.scalar(update(table).where(*same).values(used_at=func.now()).returning(table.id))
    if found is None:
        values = {
            "device": premise.device, "group_id": premise.group_id, "terms": premise.terms,
            "counting": list(premise.counting), "mounted": list(premise.mounted),
        }  # fmt: skip
        found = session.scalars(insert(table).values(values).returning(table.id)).one()
    return found


_FORGET = """
    UPDATE study_on_file_system SET kept_premise = 0, kept_until = NULL, kept_because = NULL
    WHERE (study_id, file_system_id) IN (
        SELECT study_id, file_system_id FROM study_on_file_system
        WHERE kept_premise <> 0 AND file_system_id = ANY(:systems) AND {which}
        LIMIT :chunk FOR NO KEY UPDATE SKIP LOCKED)
"""
_FORGET_PREMISES = text(_FORGET.format(which="kept_premise = ANY(:premises)"))
_FORGET_OVERDUE = text(_FORGET.format(which="kept_until <= now()"))


def forget(premise: Premise, file_system_ids: Collection[int]) -> None:
    """Forget what was found on these file systems of the premise's group and does not hold any more."""
    table = model.DeletionPremise
    of_group = (table.device == premise.device, table.group_id == premise.group_id)
    holds = and_(
        table.terms == premise.terms,
        table.counting.contains(list(premise.counting)),
        table.mounted.contains(list(premise.mounted)),
    )
    with db.transaction() as session:
        # Nothing is remembered for so long: all that rested on them is overdue.
        session.execute(delete(table).where(*of_group, table.used_at < func.now() - _PREMISE_KEPT_FOR))
        broken = list(session.scalars(select(table.id).where(~and_(*of_group, holds))))
    systems = sorted(file_system_ids)
    _repeat(_FORGET_OVERDUE, systems=systems)
    if broken:
        _repeat(_FORGET_PREMISES, systems=systems, premises=broken)


def forget_marked(session: Session, file_system_ids: Collection[int], counts: ColumnElement[bool]) -> None:
    """Forget what was found of marked studies on these file systems whose mark does not count any more.

    Args:
        session: the transaction.
        file_system_ids: of one group.
        counts: whether the mark of a ledger row counts.
    """
    ledger = model.StudyOnFileSystem
    key = (ledger.study_id, ledger.file_system_id)
    ended = select(*key).where(
        ledger.file_system_id.in_(file_system_ids), ledger.kept_premise != 0, ledger.mark_task_id.is_not(None), ~counts
    )
    free = ended.with_for_update(key_share=True, skip_locked=True)
    session.execute(
        update(ledger)
        .where(tuple_(*key).in_(free))
        .values(kept_premise=0, kept_until=None, kept_because=None)
        .execution_options(synchronize_session=False)
    )


def _repeat(statement: Any, **values: object) -> None:
    while True:
        with db.transaction() as session:
            done = cast("CursorResult[Any]", session.execute(statement, {**values, "chunk": _CHUNK}))
        if done.rowcount < _CHUNK:
            return


_LOCK_STUDIES = text(
    """
    SELECT id FROM unnest(CAST(:studies AS bigint[])) AS asked (id)
    WHERE pg_try_advisory_xact_lock(:lock, CAST(id % 2147483647 AS int))
    """
)


def lock(session: Session, study_ids: Collection[int]) -> set[int]:
    """Keep triggers from forgetting these studies to the end of the transaction; return those that could be had.

    Whoever changes something of another one has not committed yet, and what is read of it now is out of date then:
    nothing must be remembered of it. To be called before anything of them is read.
    """
    rows = session.scalars(_LOCK_STUDIES, {"studies": sorted(set(study_ids)), "lock": _LOCK})
    return set(rows)


_REMEMBER = text(
    """
    WITH found AS (
        SELECT * FROM unnest(CAST(:studies AS bigint[]), CAST(:systems AS bigint[]), CAST(:spans AS interval[]),
                             CAST(:reasons AS text[])) AS found (study_id, file_system_id, span, because)
    ), free AS (
        SELECT ledger.study_id, ledger.file_system_id, found.span, found.because
        FROM study_on_file_system AS ledger JOIN found USING (study_id, file_system_id)
        FOR NO KEY UPDATE OF ledger SKIP LOCKED
    )
    UPDATE study_on_file_system AS ledger
    SET kept_premise = :premise, kept_until = now() + free.span, kept_because = free.because
    FROM free WHERE ledger.study_id = free.study_id AND ledger.file_system_id = free.file_system_id
    """
)


def remember(session: Session, premise: int, found: Collection[Found]) -> None:
    """Write down what was found of studies that `lock` got; rows that others hold just now are left as they are."""
    lasting = [one for one in found if one.holds_for > timedelta(0)]
    if not lasting:
        return
    values = {
        "studies": [one.place.study_id for one in lasting],
        "systems": [one.place.file_system_id for one in lasting],
        "spans": [one.holds_for for one in lasting],
        "reasons": [",".join(one.because) for one in lasting],
        "premise": premise,
    }
    session.execute(_REMEMBER, values)


_COUNT = text(
    """
    SELECT kept_because, count(*) FROM (
        SELECT kept_because FROM study_on_file_system
        WHERE file_system_id = ANY(:systems) AND kept_premise <> 0 LIMIT :most) AS kept
    GROUP BY kept_because ORDER BY count(*) DESC
    """
)


def count(session: Session, file_system_ids: Collection[int]) -> dict[tuple[str, ...], int]:
    """Return by the rules that keep them how many studies are remembered there; `MOST_COUNTED` in all at most."""
    rows = session.execute(_COUNT, {"systems": sorted(file_system_ids), "most": MOST_COUNTED})
    return {tuple(because.split(",")): number for because, number in rows}
