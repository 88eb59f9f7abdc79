"""No sequence of stores, touches, copies, crashes and runs deletes what a rule keeps."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from archive.deletion import deleting
from tasks.errors import ConflictError, NotFoundError
from tests import factories
from tests.lab import deletable
from tests.lab.agreement import after_sweep, disagreements
from tests.lab.deletable import NEARLINE, House

STUDIES = st.sampled_from(["1.2.1", "1.2.2"])
STEPS = st.sampled_from(["looked", "moved", "committed", "unlinked", "finished"])


class Crash(BaseException):
    """Stands for the end of the process: nothing of ours catches it."""


class Deletions(RuleBasedStateMachine):
    """Studies on two disks, as a model: which objects were ever stored, and which studies may go now."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._opened = deletable.opened(Path(self._folder.name) / "home")
        self.house: House = self._opened.__enter__()
        self.stored: dict[str, set[str]] = {"1.2.1": set(), "1.2.2": set()}
        self.used: set[str] = set()
        self.pinned: set[str] = set()

    def teardown(self) -> None:
        assert after_sweep("archive-a") == []
        self._opened.__exit__(None, None, None)
        self._folder.cleanup()

    @rule(study=STUDIES)
    def make_ready(self, study: str) -> None:
        self.store(study)
        self.copy(study)
        self.age(study)

    @rule(study=STUDIES)
    def store(self, study: str) -> None:
        self.stored[study] |= set(self.house.store(study, 1))
        self.used.add(study)

    @rule(study=STUDIES)
    def copy(self, study: str) -> None:
        self.house.copy(study)

    @rule(study=STUDIES)
    def touch(self, study: str) -> None:
        if self.house.files(study):
            self.house.touch(study)
            self.used.add(study)

    @rule(study=STUDIES)
    def age(self, study: str) -> None:
        self.house.age(study)
        self.used.discard(study)

    @rule(study=STUDIES)
    def pin(self, study: str) -> None:
        factories.insert(study_uid=study)
        self.pinned.add(study)

    @rule(study=STUDIES)
    def unpin(self, study: str) -> None:
        factories.sql("DELETE FROM task WHERE kind = 'EXPORT' AND study_uid = :uid", uid=study)
        self.pinned.discard(study)

    @rule(study=STUDIES)
    def lose_a_copy(self, study: str) -> None:
        online = self.online(study)
        for path in self.house.files(study, NEARLINE)[:1]:
            if path.name in online:
                path.unlink()
                factories.sql("DELETE FROM file WHERE file_system_id = :id AND path = :path",
                              id=self.house.file_system(NEARLINE).id,
                              path=path.relative_to(self.house.root(NEARLINE)).as_posix())  # fmt: skip
                self._forget_empty_ledger_rows()

    def _forget_empty_ledger_rows(self) -> None:
        factories.sql(
            "DELETE FROM study_on_file_system AS l WHERE NOT EXISTS (SELECT 1 FROM file AS f JOIN instance AS i"
            " ON i.id = f.instance_id JOIN series AS s ON s.id = i.series_id WHERE s.study_id = l.study_id"
            " AND f.file_system_id = l.file_system_id)"
        )

    @rule()
    def look(self) -> None:
        before = set(self.house.marks())
        self.house.look()
        for task_id in set(self.house.marks()) - before:
            study = deletable.task(task_id).study_uid or ""
            assert study not in self.used | self.pinned
            assert self.online(study) <= self._copied(study)

    @rule(study=STUDIES)
    def ask(self, study: str) -> None:
        with suppress(ConflictError, NotFoundError):
            self.house.ask(study)

    @rule()
    def run(self) -> None:
        self._run(self.house.run_all)

    @rule(step=STEPS)
    def run_and_crash(self, step: str) -> None:
        def crash(done: str) -> None:
            if done == step:
                raise Crash

        original = deleting.delete_study

        def crashing(*args: Any) -> Any:
            return original(*args, after_step=crash)

        def once() -> None:
            deleting.delete_study = crashing
            try:
                with suppress(Crash):
                    self.house.run()
            finally:
                deleting.delete_study = original
            factories.sql("UPDATE run SET ended_at = now(), ending = 'lost' WHERE ended_at IS NULL")
            factories.sql("UPDATE task SET status = 'SCHEDULED FOR RETRY', scheduled_time = now()"
                          " WHERE status = 'IN PROCESS'")  # fmt: skip

        self._run(once)

    def online(self, study: str) -> set[str]:
        """Return the objects of a study that are online."""
        return {path.name for path in self.house.files(study)}

    def _run(self, work: Any) -> None:
        """Let deletions run; what a rule keeps must be there afterwards."""
        kept = {
            study: self.online(study)
            for study in self.stored
            if study in self.pinned or not self.online(study) <= self._copied(study)
        }
        before = {study: self.online(study) for study in self.stored}
        work()
        for study, files in kept.items():
            assert self.online(study) == files
        for study, files in before.items():
            # All of it or nothing.
            assert self.online(study) in (files, set())

    def _copied(self, study: str) -> set[str]:
        return {path.name for path in self.house.files(study, NEARLINE) if path.is_file()}

    @invariant()
    def every_object_that_was_stored_is_somewhere(self) -> None:
        for study, objects in self.stored.items():
            found = factories.sql(
                "SELECT DISTINCT sop_uid FROM instance AS i JOIN file AS f ON f.instance_id = i.id"
                " JOIN series AS e ON e.id = i.series_id JOIN study AS s ON s.id = e.study_id WHERE study_uid = :uid",
                uid=study,
            )
            assert set(found) == objects

    @invariant()
    def index_ledger_list_and_disk_agree(self) -> None:
        assert disagreements() == []

    @invariant()
    def each_mark_has_its_task(self) -> None:
        marks = self.house.marks()
        tasks = factories.sql("SELECT id FROM task WHERE kind = 'DELETE_STUDY' AND status <> 'CANCELED'")
        assert set(marks) <= set(tasks)
        assert len(set(marks)) == len(marks)


@pytest.mark.usefixtures("house")
def test_no_sequence_deletes_what_a_rule_keeps() -> None:
    run_state_machine_as_test(
        Deletions,
        settings=settings(
            max_examples=10,
            stateful_step_count=20,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),  # to make the sequence shorter takes minutes
        ),
    )
