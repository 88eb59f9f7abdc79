"""A look leaves out what an earlier one found to be kept, and never what may go: after any change it is judged anew."""

from __future__ import annotations

import random
import threading
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from archive import db, model
from archive.deletion import gathering, remembering, rules
from archive.deletion.gathering import Place
from archive.deletion.rules import Deletable, Trigger
from tasks import aging, deletions, judging
from tasks.deletions import Asked
from tasks.pins import TaskSide
from tests import factories
from tests.factories import sql
from tests.lab.deletable import NEARLINE, ONLINE, House
from tests.lab.waiting import wait_until

STUDY = "1.2.3"


def look(house: House) -> str:
    """Look for studies by what the owners of the disks have reported."""
    return deletions.schedule_studies(house.device, house.group, Asked(factories.BY))


def remembered() -> int:
    return int(sql("SELECT count(*) FROM study_on_file_system WHERE kept_premise <> 0")[0])


def kept_study(house: House) -> None:
    """Store an old study without a copy, and let a look find that it is kept."""
    house.store(STUDY)
    house.age(STUDY)
    assert house.look() == "0 studies scheduled (0 bytes), 1 kept: 1 copy in group, 1 not the last copy"
    assert remembered() == 1


def judged(house: House, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many studies a look judges in full."""
    seen: list[int] = []
    judge = judging.judge

    def count(session: object, order: object, chosen: list[object], *rest: object) -> object:
        seen.append(len(chosen))
        return judge(session, order, chosen, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(judging, "judge", count)
        look(house)
    return sum(seen)


def test_study_that_is_kept_is_not_judged_twice_but_counted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_study(house)

    assert judged(house, monkeypatch) == 0
    assert look(house) == "0 studies scheduled (0 bytes), 1 kept: 1 copy in group, 1 not the last copy"


def test_more_are_kept_than_are_counted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        house.store(f"1.2.{number}", 1)
        house.age(f"1.2.{number}")
    monkeypatch.setattr(remembering, "MOST_COUNTED", 2)
    house.look()

    assert look(house).startswith("0 studies scheduled (0 bytes), more than 2 kept: ")


def test_copy_that_comes_later_frees_the_study(house: House) -> None:
    kept_study(house)

    house.copy(STUDY)

    assert look(house).startswith("1 studies scheduled")


def test_last_object_that_is_copied_frees_the_study(house: House) -> None:
    house.store(STUDY, 2)
    house.age(STUDY)
    house.copy(STUDY)
    house.files(STUDY, NEARLINE)[-1].unlink()
    sql("DELETE FROM file WHERE file_system_id = :id AND path = (SELECT max(path) FROM file)",
        id=house.file_system(NEARLINE).id)  # fmt: skip
    assert house.look().startswith("0 studies scheduled")
    assert remembered() == 1

    house.copy(STUDY)

    assert look(house).startswith("1 studies scheduled")


def test_protection_that_is_lifted_frees_the_study(house: House) -> None:
    house.deletable(STUDY)
    sql("INSERT INTO study_protection (study_id, who) SELECT id, 'ann' FROM study")
    assert house.look() == "0 studies scheduled (0 bytes), 1 kept: 1 not protected"
    assert remembered() == 1

    sql("DELETE FROM study_protection")

    assert look(house).startswith("1 studies scheduled")


def test_series_that_is_stored_frees_the_study(house: House) -> None:
    house.store(STUDY, close=False)
    house.copy(STUDY)
    house.age(STUDY)
    assert house.look() == "0 studies scheduled (0 bytes), 1 kept: 1 not being received"
    assert remembered() == 1

    sql("UPDATE series SET state = 'STORED'")

    assert look(house).startswith("1 studies scheduled")


def test_task_that_read_the_study_and_is_done_frees_it(house: House) -> None:
    house.deletable(STUDY)
    [task] = factories.insert(study_uid=STUDY)
    assert house.look() == "0 studies scheduled (0 bytes), 1 kept: 1 not pinned"

    factories.change(factories.Event.CANCEL, task.id)

    assert look(house).startswith("1 studies scheduled")


def test_mark_is_not_judged_again_until_its_task_has_ended(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.deletable(STUDY)
    house.look()
    assert look(house) == "0 studies scheduled (0 bytes), 1 kept: 1 not marked"
    assert judged(house, monkeypatch) == 0

    sql("UPDATE task SET status = 'FAILED'")

    assert look(house).startswith("1 studies scheduled")


def test_changed_terms_free_the_study(house: House) -> None:
    kept_study(house)

    house.configure(copy_groups=(), allow_deleting_last_copy=True)

    assert look(house).startswith("1 studies scheduled")


@pytest.mark.parametrize(
    "fault",
    [
        "UPDATE file_system_report SET problem = 'broken' WHERE file_system_id = :id",
        "UPDATE file_system SET status = 'PENDING' WHERE id = :id",
        "UPDATE file_system SET availability = 'OFFLINE' WHERE id = :id",
        "UPDATE file_system SET group_id = 'OTHER' WHERE id = :id",
    ],
)
def test_disk_with_the_copy_that_counts_again_frees_the_study(house: House, fault: str) -> None:
    house.deletable(STUDY)
    house.look()
    sql("DELETE FROM task")
    sql("UPDATE study_on_file_system SET mark_task_id = NULL, marked_at = NULL")
    nearline = house.file_system(NEARLINE).id
    before = sql("SELECT status || ' ' || availability || ' ' || group_id FROM file_system WHERE id = :id", id=nearline)
    sql(fault, id=nearline)
    assert look(house).startswith("0 studies scheduled (0 bytes), 1 kept: 1 copy in group")
    assert remembered() == 1

    sql("UPDATE file_system_report SET problem = NULL")
    status, availability, group = before[0].split()
    sql("UPDATE file_system SET status = :s, availability = :a, group_id = :g WHERE id = :id",
        s=status, a=availability, g=group, id=nearline)  # fmt: skip

    assert look(house).startswith("1 studies scheduled")


def test_disk_that_falls_out_costs_no_judging(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_study(house)

    sql(
        "UPDATE file_system_report SET problem = 'broken' WHERE file_system_id = :id", id=house.file_system(NEARLINE).id
    )

    assert judged(house, monkeypatch) == 0


def test_what_was_found_is_looked_at_again_after_a_week(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_study(house)

    sql("UPDATE study_on_file_system SET kept_until = kept_until - interval '7 days'")

    assert judged(house, monkeypatch) == 1


def test_premises_of_which_nothing_is_left_are_removed(house: House) -> None:
    kept_study(house)
    sql("UPDATE deletion_premise SET used_at = now() - interval '15 days', terms = 'old'")
    sql("UPDATE study_on_file_system SET kept_until = now()")

    look(house)

    assert sql("SELECT count(*) FROM deletion_premise WHERE terms = 'old'") == [0]
    assert remembered() == 1


def test_copy_that_is_committed_while_a_look_judges_is_not_forgotten(house: House) -> None:
    """The one who copies has changed the file rows, and is not through yet, when the look reads them."""
    house.store(STUDY)
    house.age(STUDY)
    house.look()
    sql("UPDATE study_on_file_system SET kept_premise = 0, kept_until = NULL")
    with db.transaction() as session:
        target = house.file_system(NEARLINE).id
        copied = [
            model.File(
                instance_id=row.instance_id, file_system_id=target, path=row.path, size_bytes=row.size_bytes,
                sha256=row.sha256, transfer_syntax_uid=row.transfer_syntax_uid,
            )
            for row in session.scalars(select(model.File))
        ]  # fmt: skip
        session.add_all(copied)
        session.flush()

        assert look(house).startswith("0 studies scheduled (0 bytes), 1 kept")
        assert remembered() == 0

    assert look(house).startswith("1 studies scheduled")


def test_copy_that_comes_while_a_look_writes_waits_for_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look has read that there is no copy, and has not written what it found, when the copy comes."""
    house.store(STUDY)
    house.age(STUDY)
    remember = remembering.remember
    copier = threading.Thread(target=house.copy, args=(STUDY,))

    def copy_first(*args: object) -> None:
        copier.start()
        wait_until(lambda: sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"), "it waits")
        remember(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(remembering, "remember", copy_first)
    assert house.look().startswith("0 studies scheduled")
    copier.join()
    monkeypatch.undo()

    assert remembered() == 0
    assert look(house).startswith("1 studies scheduled")


def deletable_now(house: House) -> set[Place]:
    """Return what the pure rules let go, asked for every row of the ledger, whatever was found before."""
    terms = rules.terms_of(house.group, house.device.name, Trigger.AGE)
    assert terms.not_accessed_for is not None
    with db.transaction() as session:
        writable = set(
            session.scalars(aging._writable(house.device, house.group).with_only_columns(model.FileSystem.id))
        )
        ledger = model.StudyOnFileSystem
        places = [
            Place(*row)
            for row in session.execute(
                select(ledger.study_id, ledger.file_system_id).where(
                    ledger.access_time < func.now() - terms.not_accessed_for
                )
            )
            if row.file_system_id in writable
        ]
        facts = gathering.read(session, places, judging.reported(session, house.device), TaskSide())
    return {place for place, seen in facts.items() if isinstance(rules.classify(seen, terms), Deletable)}


def marked() -> set[Place]:
    with db.transaction() as session:
        ledger = model.StudyOnFileSystem
        rows = session.execute(select(ledger.study_id, ledger.file_system_id).where(ledger.marked_at.is_not(None)))
        return {Place(*row) for row in rows}


class Changes:
    """Random changes of an archive of few studies, so that they meet."""

    def __init__(self, house: House, seed: int) -> None:
        self.house = house
        self.random = random.Random(seed)
        self.systems = sql("SELECT id FROM file_system ORDER BY id")
        self.online = sql("SELECT id FROM file_system WHERE group_id = :g ORDER BY id", g=ONLINE)
        [patient] = sql("INSERT INTO patient (patient_id) VALUES ('P') RETURNING id")
        self.studies = sql(
            "INSERT INTO study (study_uid, patient_id)"
            " SELECT '1.2.' || n, :p FROM generate_series(1, 6) AS n RETURNING id",
            p=patient,
        )
        for study in self.studies:
            for number in range(2):
                [series] = sql(
                    "INSERT INTO series (study_id, series_uid, state) VALUES (:s, :uid, 'STORED') RETURNING id",
                    s=study, uid=f"1.2.{study}.{number}",
                )  # fmt: skip
                [instance] = sql(
                    "INSERT INTO instance (series_id, sop_uid, sop_class_uid) VALUES (:s, :uid, '1.2') RETURNING id",
                    s=series, uid=f"1.2.{study}.{number}.1",
                )  # fmt: skip
                self.add_file(instance, self.random.choice(self.online))
            self.age()

    def one(self) -> str:
        """Change something and say what."""
        change = self.random.choice(
            [self.copy, self.copy, self.copy, self.lose, self.remove, self.other_bytes, self.verify, self.protect,
             self.unprotect, self.receive, self.close, self.age, self.touch, self.read, self.done, self.report,
             self.status, self.availability, self.share, self.terms]
        )  # fmt: skip
        change()
        return change.__name__

    def study(self) -> int:
        return int(self.random.choice(self.studies))

    def file(self) -> int:
        return int(self.random.choice(sql("SELECT id FROM file") or [0]))

    def add_file(self, instance: int, system: int, digest: str = "00") -> None:
        sql(
            "INSERT INTO file (instance_id, file_system_id, path, size_bytes, sha256, transfer_syntax_uid)"
            " VALUES (:i, :f, :p, 1, decode(repeat(:d, 32), 'hex'), '1.2')",
            i=instance, f=system, p=str(self.random.random()), d=digest,
        )  # fmt: skip
        sql(
            "INSERT INTO study_on_file_system (study_id, file_system_id) SELECT study_id, :f FROM series JOIN instance"
            " ON series.id = series_id WHERE instance.id = :i ON CONFLICT DO NOTHING",
            i=instance, f=system,
        )  # fmt: skip

    def copy(self) -> None:
        for instance in sql("SELECT i.id FROM instance i JOIN series s ON s.id = series_id WHERE study_id = :s",
                            s=self.study()):  # fmt: skip
            if self.random.random() < 0.7:
                self.add_file(instance, self.random.choice(self.systems))

    def lose(self) -> None:
        sql("UPDATE file SET status = :s WHERE id = :id", id=self.file(),
            s=self.random.choice(["MISSING", "DEFAULT", "DIFFERS", "ARCHIVED"]))  # fmt: skip

    def remove(self) -> None:
        sql("DELETE FROM file WHERE id = :id", id=self.file())

    def other_bytes(self) -> None:
        sql("UPDATE file SET sha256 = decode(repeat(:d, 32), 'hex') WHERE id = :id", id=self.file(),
            d=self.random.choice(["00", "01"]))  # fmt: skip

    def verify(self) -> None:
        sql("UPDATE file SET checked_at = now() - make_interval(days => :d) WHERE id = :id", id=self.file(),
            d=self.random.choice([0, 8]))  # fmt: skip

    def protect(self) -> None:
        sql("INSERT INTO study_protection (study_id, who) VALUES (:s, 'ann') ON CONFLICT DO NOTHING", s=self.study())

    def unprotect(self) -> None:
        sql("DELETE FROM study_protection WHERE study_id = :s", s=self.study())

    def receive(self) -> None:
        sql("UPDATE series SET state = 'RECEIVING' WHERE study_id = :s", s=self.study())

    def close(self) -> None:
        sql("UPDATE series SET state = 'STORED'")

    def age(self) -> None:
        sql("UPDATE study_on_file_system SET access_time = now() - interval '40 days' WHERE study_id = :s",
            s=self.study())  # fmt: skip

    def touch(self) -> None:
        self.house.touch(f"1.2.{self.random.randrange(1, 7)}")

    def read(self) -> None:
        factories.insert(study_uid=f"1.2.{self.random.randrange(1, 7)}")

    def done(self) -> None:
        sql("UPDATE task SET status = 'COMPLETED' WHERE kind = 'EXPORT'")

    def report(self) -> None:
        sql(
            "UPDATE file_system_report SET problem = :p, checked_at = now() - make_interval(mins => :m)"
            " WHERE file_system_id = :id",
            p=self.random.choice([None, None, "broken"]), m=self.random.choice([0, 0, 5]),
            id=self.random.choice(self.systems),
        )  # fmt: skip

    def status(self) -> None:
        sql("UPDATE file_system SET status = :s WHERE id = :id AND status <> 'RW+'",
            id=self.random.choice(self.systems), s=self.random.choice(["RW", "RW", "RO", "PENDING"]))  # fmt: skip

    def availability(self) -> None:
        sql("UPDATE file_system SET availability = :a WHERE id = :id", id=self.random.choice(self.systems),
            a=self.random.choice(["ONLINE", "NEARLINE", "OFFLINE"]))  # fmt: skip

    def share(self) -> None:
        """Give the nearline disk to archive-b, which shares it or not, or take it back."""
        owner, shared = self.random.choice([("archive-a", []), ("archive-b", []), ("archive-b", ["archive-a"])])
        sql("UPDATE file_system SET owner_device = :o, shared_with = :s WHERE id = :id", o=owner, s=shared,
            id=self.house.file_system(NEARLINE).id)  # fmt: skip

    def terms(self) -> None:
        self.house.configure(
            copy_groups=self.random.choice([(), (NEARLINE,), (f"archive-b/{NEARLINE}",)]),
            allow_deleting_last_copy=self.random.random() < 0.3,
            delete_if_not_accessed_for=timedelta(days=self.random.choice([30, 35, 50])),
            schedule_batch_size=self.random.choice([1, 3, 100]),
        )


@pytest.mark.parametrize("seed", range(4))
def test_look_after_any_change_marks_exactly_what_the_rules_let_go(house: House, seed: int) -> None:
    house.look()
    changes = Changes(house, seed)
    said: list[str] = []
    for _ in range(40):
        said += [changes.one() for _ in range(changes.random.randrange(1, 4))]
        before, expected = marked(), deletable_now(house)

        look(house)

        assert marked() - before == expected - before, said
        assert expected <= marked(), said
        # So that they can go, or stay, once more.
        if changes.random.random() < 0.5:
            look(house)
            sql("UPDATE task SET status = 'CANCELED' WHERE kind = 'DELETE_STUDY'")
            sql("UPDATE study_on_file_system SET marked_at = NULL, mark_task_id = NULL, mark_bytes = NULL")
