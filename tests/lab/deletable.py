"""Studies on the disks of a device with an online and a nearline group, copies of them, and runs that delete."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from archive import db, ledger, model
from archive.deletion import reports
from archive.deletion.rules import Trigger
from archive.storage import file_systems, files, ingest
from config.device import Device, FileSystem, FileSystemGroup, Queue
from tasks import deletions, query
from tasks.deletions import Asked, Look
from tasks.record import TaskView
from tests import factories
from tests.integration.archive.archive_agreement import incoming, write_object
from tests.lab.agreement import disagreements
from workers import execute
from workers.execute import Node
from workers.queues import RunMessage

DEVICE, ONLINE, NEARLINE = "archive-a", "ONLINE_STORAGE", "NEARLINE_STORAGE"
QUEUE = Queue("DeleteStudy", max_tasks_parallel=2, max_retries=3, retry_delay=timedelta(seconds=30))
NODE = Node(1, "archive-a.2@host")
_TABLES = (
    "study_deletion", "study_protection", "file_system_report", "study_on_file_system", "file", "unlink", "instance",
    "series", "study", "patient", "bytes_received", "file_system", "deletion_premise",
)  # fmt: skip
_numbers = itertools.count(1)


def online(**values: Any) -> FileSystemGroup:
    """Return the online group: studies go after 30 days, at once when marked, if nearline has them."""
    plain = FileSystemGroup(
        ONLINE, (FileSystem("online-1"), FileSystem("online-2")), delete_if_not_accessed_for=timedelta(days=30),
        deletion_grace_time=timedelta(0),
    )  # fmt: skip
    return replace(plain, **values)


def device(**values: Any) -> Device:
    """Return archive-a with the groups ONLINE_STORAGE (changed by `values`) and NEARLINE_STORAGE."""
    nearline = FileSystemGroup(NEARLINE, (FileSystem("nearline"),), default_availability="NEARLINE")
    groups = {one.id: one for one in (online(**values), nearline)}
    return factories.device(queues={"Export": factories.EXPORT, QUEUE.name: QUEUE}, file_system_groups=groups)


@dataclass
class House:
    """The device, its folders, and what is done there."""

    home: Path
    device: Device

    @property
    def group(self) -> FileSystemGroup:
        """The group that is deleted from."""
        return self.device.file_system_groups[ONLINE]

    def configure(self, **values: Any) -> None:
        """Change attributes of the online group."""
        self.device = device(**values)
        factories.use_cluster(self.device, factories.device("archive-b", queues={QUEUE.name: QUEUE}))

    def root(self, group: str = ONLINE) -> Path:
        """Return the first file system of a group."""
        return self.home / {ONLINE: "online-1", NEARLINE: "nearline"}[group]

    def file_system(self, group: str = ONLINE) -> model.FileSystem:
        """Return the row of the first file system of a group."""
        with db.transaction() as session:
            return session.scalars(select(model.FileSystem).where(model.FileSystem.path == str(self.root(group)))).one()

    def store(self, study_uid: str, number: int = 3, *, close: bool = True) -> list[str]:
        """Store so many new objects of a study online; returns their SOP Instance UIDs."""
        made = [f"{study_uid}.1.{next(_numbers)}" for _ in range(number)]
        offered = [incoming(write_object(self.home / "in" / uid, study_uid, f"{study_uid}.1", uid)) for uid in made]
        results = ingest.store(self.file_system(), offered)
        assert {one.ending for one in results} == {ingest.Ending.STORED}
        if close:
            with db.transaction() as session:
                ledger.close_series(session, [(study_uid, f"{study_uid}.1")])
        return made

    def copy(self, study_uid: str, to: str = NEARLINE) -> None:
        """Copy the online files of a study to another group, with rows and all, as a copying export does."""
        target = self.file_system(to)
        with db.transaction() as session:
            copied = select(model.File.instance_id).where(model.File.file_system_id == target.id)
            rows = session.scalars(
                select(model.File)
                .join(model.Instance, model.Instance.id == model.File.instance_id)
                .join(model.Series, model.Series.id == model.Instance.series_id)
                .join(model.Study, model.Study.id == model.Series.study_id)
                .where(
                    model.Study.study_uid == study_uid,
                    model.File.file_system_id == self.file_system().id,
                    model.File.instance_id.not_in(copied),
                )
            ).all()
            for row in rows:
                files.write(Path(target.path), row.path, (self.root() / row.path).read_bytes())
                session.add(
                    model.File(
                        instance_id=row.instance_id, file_system_id=target.id, path=row.path,
                        size_bytes=row.size_bytes, sha256=row.sha256, transfer_syntax_uid=row.transfer_syntax_uid,
                    )
                )  # fmt: skip
            study = session.scalars(select(model.Study.id).where(model.Study.study_uid == study_uid)).all()
            ledger.touch(session, study, target.id)

    def deletable(self, study_uid: str, number: int = 3) -> list[str]:
        """Store a study that no rule keeps: old, and copied."""
        made = self.store(study_uid, number)
        self.copy(study_uid)
        self.age(study_uid)
        return made

    def age(self, study_uid: str, days: float = 31) -> None:
        """Let the last use of a study online be so many days ago."""
        factories.sql(
            "UPDATE study_on_file_system SET access_time = now() - make_interval(secs => :s) FROM study"
            " WHERE study.id = study_on_file_system.study_id AND study_uid = :uid AND file_system_id = :id",
            s=days * 86400, uid=study_uid, id=self.file_system().id,
        )  # fmt: skip

    def touch(self, study_uid: str) -> None:
        """Use a study online."""
        with db.transaction() as session:
            ids = session.scalars(select(model.Study.id).where(model.Study.study_uid == study_uid)).all()
            ledger.touch(session, ids, self.file_system().id)

    def files(self, study_uid: str, group: str = ONLINE) -> list[Path]:
        """Return where the index has files of a study on the first file system of a group."""
        found = factories.sql(
            "SELECT s.path || '/' || f.path FROM file AS f JOIN file_system AS s ON s.id = f.file_system_id"
            " JOIN instance AS i ON i.id = f.instance_id JOIN series AS e ON e.id = i.series_id"
            " JOIN study AS u ON u.id = e.study_id WHERE u.study_uid = :uid AND s.id = :id ORDER BY 1",
            uid=study_uid, id=self.file_system(group).id,
        )  # fmt: skip
        return [Path(path) for path in found]

    def look(self) -> str:
        """Look for studies to delete, as beat lets a worker do."""
        reports.look(self.device.name)
        return deletions.schedule_studies(self.device, self.group, Asked(factories.BY))

    def ask(self, study_uid: str) -> Look:
        """Schedule one study by name."""
        reports.look(self.device.name)
        return deletions.schedule_study(self.device, self.group, study_uid, Asked(factories.BY, "ann", "host"))

    def marked(self, study_uid: str) -> TaskView:
        """Store a study and mark it; returns its task."""
        self.deletable(study_uid)
        [task] = self.ask(study_uid).tasks
        return task

    def run(self) -> int:
        """Run what is due in the queue; returns how many runs that were."""
        due = factories.reserve(self.device.name, QUEUE.name, QUEUE.max_tasks_parallel)
        for one in due:
            execute.run_task(RunMessage(one.task_id, one.run_id, one.token), NODE)
        return len(due)

    def run_all(self) -> None:
        """Run until nothing is due."""
        while self.run():
            pass

    def marks(self) -> list[int]:
        """Return the tasks of all marks."""
        return factories.sql("SELECT mark_task_id FROM study_on_file_system WHERE marked_at IS NOT NULL ORDER BY 1")

    def verdicts(self, study_uid: str) -> dict[Trigger, list[str]]:
        """Return the rules that keep a study on the first online file system."""
        reports.look(self.device.name)
        [one] = deletions.explain(self.device, self.group, study_uid)
        return {
            trigger: [reason.rule for reason in getattr(verdict, "reasons", ())]
            for trigger, verdict in one.verdicts.items()
        }


@contextmanager
def opened(home: Path) -> Iterator[House]:
    """Make the file systems of archive-a in a home; empties all tables of the archive at begin and end."""
    forget()
    house = House(home, device())
    house.configure()
    with db.transaction() as session:
        file_systems.ensure(session, house.device, home)
    yield house
    forget()
    shutil.rmtree(home, ignore_errors=True)


def forget() -> None:
    """Empty the tables of the archive and of tasks."""
    factories.empty()
    for table in _TABLES:
        factories.sql(f"DELETE FROM {table}")


def deletions_written() -> list[model.StudyDeletion]:
    """Return the ledger of deletions."""
    with db.transaction() as session:
        return list(session.scalars(select(model.StudyDeletion).order_by(model.StudyDeletion.id)))


def task(task_id: int) -> TaskView:
    """Return a task."""
    with db.transaction() as session:
        found = query.get(session, task_id)
    assert found is not None
    return found


__all__ = ["House", "deletions_written", "device", "disagreements", "forget", "online", "opened", "task"]
