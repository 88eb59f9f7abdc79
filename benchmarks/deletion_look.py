"""Looks for studies to delete, over a group full of old studies that may never go: they are judged once.

The oldest studies have no copy elsewhere; those that may go are the youngest of the candidates.
`python -m benchmarks.deletion_look 60000 1000000` takes other numbers of studies; from `_SIMULATED` on the first look
is not waited for, but written as it would leave the ledger.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from sqlalchemy import text

from archive import configuration, db, schema
from archive.deletion import gathering, marking, rules
from archive.deletion.rules import Deletable, Trigger
from config.device import Cluster, Device, FileSystem, FileSystemGroup, Queue
from tasks import deletions, judging
from tasks.deletions import Asked
from tasks.pins import TaskSide
from tasks.store import By
from workers.embedded.postgres import EmbeddedPostgres

_SIZES = (60_000, 1_000_000)
_SIMULATED = 200_000
_ROUNDS = 7
_BATCH = 100

_ONLINE = FileSystemGroup("ONLINE_STORAGE", (FileSystem("online"),), delete_if_not_accessed_for=timedelta(days=30))
_NEARLINE = FileSystemGroup("NEARLINE_STORAGE", (FileSystem("nearline"),), default_availability="NEARLINE")
_DEVICE = Device(
    "archive-a", is_ours=True, queues={"DeleteStudy": Queue("DeleteStudy")},
    file_system_groups={one.id: one for one in (_ONLINE, _NEARLINE)},
)  # fmt: skip


def main() -> None:
    """Measure with each number of studies."""
    for number in [int(given) for given in sys.argv[1:]] or _SIZES:
        with _database():
            measure(number)


def measure(number: int) -> None:
    """Print how long looks take over so many studies that may not go."""
    _file_systems()
    print(f"{number} old studies without a copy")
    if number < _SIMULATED:
        _studies(number, 60, copied=False)
        _sql("VACUUM ANALYZE")
        first_s, said = _timed(_look)
        print(f"  first look, all are judged: {first_s:8.2f} s ({number / first_s:.0f} studies/s): {said}")
    else:
        _look_once(number)
    again_s, said = _timed(_look)
    print(f"  next look, nothing new:     {again_s:8.3f} s: {said}")
    took = []
    for _ in range(_ROUNDS):
        _studies(_BATCH, 45, copied=True)
        took.append(_timed(_look)[0])
    _studies(_BATCH, 45, copied=True)
    took_s = statistics.median(_timed(_next_batch)[0] for _ in range(3 * _ROUNDS))
    print(f"  next {_BATCH} candidates, judged: {took_s * 1000:6.0f} ms (median of {3 * _ROUNDS})")
    print(f"  look that marks {_BATCH} new ones: {statistics.median(took) * 1000:6.0f} ms (median of {_ROUNDS})")


def _look() -> str:
    _sql("UPDATE file_system_report SET checked_at = now()")
    return deletions.schedule_studies(_DEVICE, _ONLINE, Asked(By("benchmark")), _keep_fresh)


def _next_batch() -> str:
    """Find the next candidates and ask all rules, without marking any."""
    terms = rules.terms_of(_ONLINE, _DEVICE.name, Trigger.AGE)
    with db.transaction() as session:
        systems = list(session.scalars(text("SELECT id FROM file_system WHERE path = '/online'")))
        before = session.scalars(text("SELECT now() - interval '30 days'")).one()
        chosen = marking.candidates(session, systems, before, None, _BATCH)
        disks = judging.reported(session, _DEVICE)
        facts = gathering.read(session, [one.place for one in chosen], disks, TaskSide())
        free = [one for one in facts.values() if isinstance(rules.classify(one, terms), Deletable)]
    return f"{len(free)} of {len(chosen)}"


def _keep_fresh() -> None:
    _sql("UPDATE file_system_report SET checked_at = now()")


def _look_once(number: int) -> None:
    """Leave the ledger as a look does, with what a look finds of some of the studies."""
    _studies(_BATCH, 60, copied=False)
    _look()
    _studies(number - _BATCH, 60, copied=False)
    _sql(
        "UPDATE study_on_file_system SET kept_premise = id, kept_until = now() + interval '7 days',"
        " kept_because = 'copy in group,not the last copy' FROM deletion_premise WHERE kept_premise = 0"
    )
    _sql("VACUUM ANALYZE")
    print(f"  first look not waited for: its {number} rows are written as it leaves them")


def _timed(act: Callable[[], str]) -> tuple[float, str]:
    began = time.perf_counter()
    said = act()
    return time.perf_counter() - began, said


def _file_systems() -> None:
    for name, status in (("online", "RW+"), ("nearline", "RW+")):
        _sql(
            "INSERT INTO file_system (path, owner_device, group_id, status, availability, retrieve_ae_title, marker)"
            f" VALUES ('/{name}', 'archive-a', '{name.upper()}_STORAGE', '{status}', '{name.upper()}', 'A',"
            " gen_random_uuid())"
        )
    _sql("INSERT INTO file_system_report (file_system_id) SELECT id FROM file_system")
    _sql("INSERT INTO patient (patient_id) VALUES ('P')")


def _studies(number: int, days: int, *, copied: bool) -> None:
    """Store so many studies of one object, not used for so many days."""
    _sql(
        f"""
        WITH study AS (
            INSERT INTO study (study_uid, patient_id, num_series, num_instances)
            SELECT '1.2.' || coalesce((SELECT max(id) FROM study), 0) + n, (SELECT min(id) FROM patient), 1, 1
            FROM generate_series(1, {number}) AS n RETURNING id
        ), series AS (
            INSERT INTO series (study_id, series_uid, state, num_instances)
            SELECT id, '1.2.3.' || id, 'STORED', 1 FROM study RETURNING id, study_id
        ), instance AS (
            INSERT INTO instance (series_id, sop_uid, sop_class_uid)
            SELECT id, '1.2.4.' || id, '1.2' FROM series RETURNING id, series_id
        ), file AS (
            INSERT INTO file (instance_id, file_system_id, path, size_bytes, sha256, transfer_syntax_uid)
            SELECT instance.id, at.id, at.id || '/' || instance.id, 1, decode(repeat('00', 32), 'hex'), '1.2'
            FROM instance, file_system AS at WHERE at.path = '/online' OR {copied}
        )
        INSERT INTO study_on_file_system (study_id, file_system_id, access_time)
        SELECT study.id, at.id, now() - interval '{days} days' FROM study, file_system AS at
        WHERE at.path = '/online' OR {copied}
        """
    )


def _sql(statement: str) -> None:
    with db.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))


@contextmanager
def _database() -> Iterator[None]:
    folder = Path(tempfile.mkdtemp(prefix="arcfleet-look-"))
    os.environ["ARCFLEET_HOME"] = str(folder)
    server = EmbeddedPostgres(folder / "postgres", folder / "pg")
    server.start()
    try:
        schema.upgrade(server.url_of("postgres"))
        db.use(db.make_engine(server.url_of("postgres")))
        configuration.use(Cluster({_DEVICE.name: _DEVICE}))
        yield
    finally:
        db.use(None)
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
