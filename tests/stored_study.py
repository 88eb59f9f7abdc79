"""A stored study of archive-a, and runs that export it to a folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archive import db
from archive.errors import ArchiveError
from archive.storage import file_systems, ingest
from archive.storage.choosing import Chooser
from archive.storage.health import MARKER
from config.device import Device, Exporter, FileSystem, FileSystemGroup
from tasks.errors import TaskError
from tasks.outcome import Outcome
from tasks.registry import kind_of
from tasks.state import Event
from tasks.store import Claimed, Target
from tasks.work import Work, now_s
from tests import factories
from tests.integration.archive.archive_agreement import incoming, write_object

STUDY = "1.2.1"
SERIES = ("1.2.1.1", "1.2.1.2")
OBJECTS = ["1.2.9.1", "1.2.9.2", "1.2.9.3"]


@dataclass
class Archive:
    """A study of three objects in two series on archive-a, and the folder that it is exported to."""

    device: Device
    out: Path
    trace: Path

    def source(self, sop_uid: str) -> Path:
        """Return our file of an object."""
        [path] = factories.sql(
            "SELECT s.path || '/' || f.path FROM file AS f JOIN file_system AS s ON s.id = f.file_system_id"
            " JOIN instance AS i ON i.id = f.instance_id WHERE i.sop_uid = :uid",
            uid=sop_uid,
        )
        return Path(path)

    def marker(self) -> Path:
        """Return the marker file of the file system."""
        [path] = factories.sql("SELECT path FROM file_system")
        return Path(path) / MARKER

    def target(self, sop_uid: str) -> Path:
        """Return where an object is exported to."""
        [series] = factories.sql(
            "SELECT s.series_uid FROM series AS s JOIN instance AS i ON i.series_id = s.id WHERE i.sop_uid = :uid",
            uid=sop_uid,
        )
        return self.out / STUDY / str(series) / f"{sop_uid}.dcm"

    def arrived(self) -> list[str]:
        """Return the objects that lie in the folder."""
        return sorted(path.stem for path in self.out.rglob("*.dcm"))

    def work(self, claimed: Claimed, *, lease_s: float = 60) -> Work:
        """Return what the handler of a run gets."""
        return Work(claimed, self.device, home=self.out.parent, lease_ends_s=now_s() + lease_s, trace=self.trace)

    def attempt(self, claimed: Claimed) -> Outcome | Exception:
        """Run the handler; returns what it returned or raised."""
        work = self.work(claimed)
        try:
            return kind_of(claimed.task.kind).process(claimed.task, work)
        except (TaskError, ArchiveError, OSError) as error:
            return error
        finally:
            work.close()


def stored(tmp_path: Path) -> Iterator[Archive]:
    """Store the study; removes its rows at the end."""
    online = FileSystemGroup("ONLINE_STORAGE", (FileSystem("online"),))
    folder = Exporter("ToFolder", f"file:{tmp_path / 'out'}", "Export")
    device = factories.device(exporters={"ToFolder": folder}, file_system_groups={online.id: online})
    factories.use_cluster(device)
    with db.transaction() as session:
        file_systems.ensure(session, device, tmp_path / "home")
    target = Chooser(device.name, online).current()
    for number, sop_uid in enumerate(OBJECTS):
        path = write_object(tmp_path / "in" / sop_uid, STUDY, SERIES[number // 2], sop_uid)
        ingest.store(target, [incoming(path)])
    yield Archive(device, tmp_path / "out", tmp_path / "trace")
    for table in ("study_on_file_system", "file", "instance", "series", "study", "patient", "bytes_received", "unlink"):
        factories.sql(f"DELETE FROM {table}")
    factories.sql("DELETE FROM file_system")


def start(**values: Any) -> Claimed:
    """Claim a task that exports the study."""
    return factories.running(**{"exporter_id": "ToFolder", "study_uid": STUDY, **values})


def next_attempt(before: Claimed, event: Event = Event.RETRY) -> Claimed:
    """End a run and claim the task again."""
    factories.report(before, event)
    if event is not Event.RETRY:
        factories.change(Event.RESCHEDULE, before.task.id, Target("archive-a", "Export", "ToFolder"))
    [reservation] = factories.reserve()
    claimed = factories.claim(reservation)
    assert claimed is not None
    return claimed


def outcomes(claimed: Claimed) -> dict[str, str]:
    """Return how each object of a run ended."""
    found = factories.sql(
        "SELECT sop_uid || ' ' || result FROM object_outcome WHERE run_id = :run ORDER BY id", run=claimed.run_id
    )
    return dict(line.split(" ", 1) for line in found)
