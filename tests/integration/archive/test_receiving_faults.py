"""Receiving when processes die, disks are full, and others are at the same objects."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from archive_agreement import archive_a, count_of, disagreements, sweep_at_once, unlink_list
from offering import Sendable, made, reception, samples, stored_data_sets
from small_disk import small_disk
from sqlalchemy import delete, select, update

from archive import db, errors, model
from archive.storage import placing, unlinking
from archive.storage.choosing import Chooser
from archive.storage.ingest import Ending
from config.sizes import Minimum

pytestmark = pytest.mark.usefixtures("home")

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[2]), str(HERE)])}

#: Objects of one series that are received before and after a crash; the first two take the slow way.
FOUR = 4


def receiving_process(*args: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "receive_process.py"), *map(str, args)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)


def all_of(table: type[db.Base]) -> list[db.Base]:
    with db.transaction() as session:
        return list(session.scalars(select(table)))


def after_sweep() -> list[str]:
    """What disagrees once all that was left is cleared."""
    sweep_at_once("archive-a")
    return disagreements() + [path for _, path in unlink_list()]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("step", ["listed", "part", "renamed", "synced", "indexed"])
def test_process_that_dies_after_a_step_leaves_nothing_unaccounted(
    database: str, tmp_path: Path, step: str, count: int
) -> None:
    sent = {o.sop_uid: o for o in (made(tmp_path / "in", number=n) for n in range(1, FOUR + 1))}

    process = receiving_process(database, tmp_path / "in", step, count)
    told = (process.communicate()[0]).split()

    assert process.returncode == 9
    assert len(told) == count - 1
    assert disagreements() == []
    stored = stored_data_sets()
    assert set(told) <= set(stored)
    assert len(stored) == (count if step == "indexed" else count - 1)
    assert stored == {uid: [sent[uid].data_set] for uid in stored}
    assert after_sweep() == []
    assert stored_data_sets() == stored
    again = reception()
    endings = [again.store(o.offered()).ending for o in sent.values()]
    again.close()
    assert endings == [Ending.DUPLICATE] * len(stored) + [Ending.STORED] * (FOUR - len(stored))
    assert (unlink_list(), disagreements()) == ([], [])


@pytest.mark.parametrize(("step", "kept"), [("synced", "first"), ("indexing", "first"), ("indexed", "second")])
def test_process_that_dies_while_it_replaces_keeps_one_of_both(
    database: str, tmp_path: Path, step: str, kept: str
) -> None:
    contents = {"first": made(tmp_path / "1"), "second": made(tmp_path / "2", PatientComments="corrected")}
    before = reception()
    before.store(contents["first"].offered())
    before.close()

    process = receiving_process(database, tmp_path / "2", step, 1, "ALWAYS")
    process.communicate()

    assert process.returncode == 9
    assert disagreements() == []
    assert after_sweep() == []
    assert stored_data_sets() == {contents["first"].sop_uid: [contents[kept].data_set]}


def test_two_processes_that_receive_the_same_objects_store_each_once(database: str, tmp_path: Path) -> None:
    objects = [made(tmp_path / "in", study, series, n) for n in range(1, 16) for study in (1, 2) for series in (1, 2)]

    processes = [receiving_process(database, tmp_path / "in") for _ in range(2)]
    told = [process.communicate(timeout=120)[0].split() for process in processes]

    assert [process.returncode for process in processes] == [0, 0]
    assert [len(uids) for uids in told] == [60, 60]
    assert stored_data_sets() == {o.sop_uid: [o.data_set] for o in objects}
    assert (unlink_list(), disagreements()) == ([], [])
    [book] = all_of(model.BytesReceived)
    assert book.num_objects == 60


def in_threads(*works: Callable[[], None]) -> None:
    with ThreadPoolExecutor(len(works)) as pool:
        for running in [pool.submit(work) for work in works]:
            running.result()


def receives(objects: list[Sendable], chooser: Chooser, source: str = "MODALITY") -> Callable[[], None]:
    def work() -> None:
        now = reception(source, chooser=chooser)
        for one in objects:
            now.store(one.offered())
        now.close()

    return work


def test_many_associations_at_one_study_do_not_stop_each_other(tmp_path: Path) -> None:
    chooser = Chooser("archive-a", archive_a().file_system_groups["ONLINE_STORAGE"])
    series = [[made(tmp_path, 1, s, n) for n in range(1, 9)] for s in range(1, 7)]

    in_threads(*(receives(objects, chooser, f"CT_{n % 2}") for n, objects in enumerate(series)))

    assert (count_of(model.Study), count_of(model.Series), count_of(model.File)) == (1, 6, 48)
    assert sum(book.num_objects for book in all_of(model.BytesReceived)) == 48
    assert (unlink_list(), disagreements()) == ([], [])


def delete_study_once() -> None:
    """Do what the deleting transaction does: lock the study, move its files, drop the ledger row."""
    with db.transaction() as session:
        study = session.scalars(select(model.Study).with_for_update(key_share=True)).first()
        if study is None:
            return
        removed = session.execute(
            delete(model.File).returning(model.File.file_system_id, model.File.path, model.File.size_bytes)
        ).all()
        reason = model.UnlinkReason.DELETED
        session.add_all(
            model.Unlink(file_system_id=row.file_system_id, path=row.path, size_bytes=row.size_bytes, reason=reason)
            for row in removed
        )
        session.execute(delete(model.StudyOnFileSystem))


def test_deleter_of_the_study_that_is_received_leaves_no_file_without_a_ledger_row(tmp_path: Path) -> None:
    chooser = Chooser("archive-a", archive_a().file_system_groups["ONLINE_STORAGE"])
    series = [[made(tmp_path, 1, s, n) for n in range(1, 21)] for s in (1, 2)]
    ended = threading.Event()

    def receive(objects: list[Sendable]) -> None:
        receives(objects, chooser)()
        ended.set()

    def delete_all_the_time() -> None:
        while not ended.is_set():
            delete_study_once()
            assert disagreements_of_the_ledger() == []
            unlinking.clear_unfinished("archive-a")

    in_threads(*(lambda objects=objects: receive(objects) for objects in series), delete_all_the_time)

    assert count_of(model.Instance) == 40
    assert after_sweep() == []


def disagreements_of_the_ledger() -> list[int]:
    """Return the numbers of files whose study has no ledger row where they lie, all seen at one time."""
    booked = (
        select(model.StudyOnFileSystem.study_id)
        .where(
            model.StudyOnFileSystem.study_id == model.Series.study_id,
            model.StudyOnFileSystem.file_system_id == model.File.file_system_id,
        )
        .exists()
    )
    stray = (
        select(model.File.id)
        .join(model.Instance, model.Instance.id == model.File.instance_id)
        .join(model.Series, model.Series.id == model.Instance.series_id)
        .where(~booked)
    )
    with db.transaction() as session:
        return list(session.scalars(stray))


def online_roots() -> list[str]:
    return [one.path for one in all_of(model.FileSystem) if one.group_id == "ONLINE_STORAGE"]


def files_in(root: str) -> int:
    """Return the number of files of objects below a root."""
    return sum(path.is_file() for path in Path(root).rglob("*")) - 1


def current_root() -> str:
    return next(
        one.path for one in all_of(model.FileSystem)
        if one.group_id == "ONLINE_STORAGE" and one.status is model.FileSystemStatus.CURRENT
    )  # fmt: skip


def test_disk_that_is_full_in_the_middle_of_an_object_sends_it_whole_to_the_next(tmp_path: Path) -> None:
    first, second = online_roots()
    objects = [
        made(tmp_path, number=1),
        made(tmp_path, number=2, EncapsulatedDocument=os.urandom(3_000_000)),
        made(tmp_path, number=3),
    ]
    with small_disk(first, "1m"):
        now = reception()
        endings = [now.store(o.offered(50_000)).ending for o in objects]
        now.close()

        assert endings == [Ending.STORED] * 3
        assert stored_data_sets() == {o.sop_uid: [o.data_set] for o in objects}
        assert [files_in(root) for root in (first, second)] == [1, 2]
        assert current_root() == second
        assert (unlink_list(), disagreements(), count_of(model.StudyOnFileSystem)) == ([], [], 2)


@pytest.mark.parametrize("sizes", [("1m", "2m"), ("2m", "1m")])
def test_object_for_which_no_disk_has_space_is_refused_and_leaves_nothing(
    tmp_path: Path, sizes: tuple[str, str]
) -> None:
    first, second = online_roots()
    large = made(tmp_path, number=1, EncapsulatedDocument=os.urandom(3_000_000))
    small = made(tmp_path, number=2)
    with small_disk(first, sizes[0]), small_disk(second, sizes[1]):
        now = reception()

        with pytest.raises(errors.NoPlace, match=r"online-1 is full: .*online-2 is full: "):
            now.store(large.offered(50_000))
        assert now.store(small.offered()).ending is Ending.STORED
        now.close()

        assert stored_data_sets() == {small.sop_uid: [small.data_set]}
        assert (unlink_list(), disagreements()) == ([], [])


def test_group_without_a_healthy_file_system_takes_nothing(tmp_path: Path) -> None:
    sent = made(tmp_path)
    now = reception()
    for root in online_roots():
        Path(root, ".arcfleet-fs").rename(Path(root, "marker"))

    with pytest.raises(errors.NoPlace, match=r"has no place for new objects: .*online-1: no \.arcfleet-fs in it"):
        now.store(sent.offered())
    now.close()

    assert (count_of(model.Instance), unlink_list()) == (0, [])


def test_file_system_that_another_process_has_switched_to_is_followed(tmp_path: Path) -> None:
    first, second = online_roots()
    chooser = Chooser("archive-a", archive_a().file_system_groups["ONLINE_STORAGE"], recheck_s=0)
    now = reception(chooser=chooser)
    for number in (1, 2, 3):
        now.store(made(tmp_path, number=number).offered())
    with db.transaction() as session:
        for path, status in ((first, model.FileSystemStatus.WRITABLE), (second, model.FileSystemStatus.CURRENT)):
            session.execute(update(model.FileSystem).where(model.FileSystem.path == path).values(status=status))

    for number in (4, 5, 6):
        now.store(made(tmp_path, number=number).offered())
    now.close()

    assert [files_in(root) for root in (first, second)] == [3, 3]
    assert (count_of(model.StudyOnFileSystem), unlink_list(), disagreements()) == (2, [], [])


def test_samples_from_many_associations_at_once_are_whole(tmp_path: Path) -> None:
    chooser = Chooser("archive-a", archive_a().file_system_groups["ONLINE_STORAGE"])
    contents: dict[str, set[bytes]] = {}
    for sample in samples():
        contents.setdefault(sample.sop_uid, set()).add(sample.data_set)

    in_threads(*(receives(samples()[n::3], chooser) for n in range(3)), receives(samples(), chooser, "OTHER"))

    stored = stored_data_sets()
    assert {uid: len(found) for uid, found in stored.items()} == dict.fromkeys(contents, 1)
    assert all(found[0] in contents[uid] for uid, found in stored.items())
    assert (unlink_list(), disagreements()) == ([], [])


def test_close_while_the_database_is_away_is_told_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = reception()
    now.store(made(tmp_path).offered())
    away = db.make_engine("postgresql://nobody@127.0.0.1:1/none")
    with monkeypatch.context() as patched:
        patched.setattr(db, "engine", lambda: away)
        with pytest.raises(db.OUTAGES):
            now.close()

    now.close()

    assert unlink_list() == []
    assert [series.state for series in all_of(model.Series)] == [model.SeriesState.STORED]


def test_object_that_does_not_end_leaves_the_minimum_of_the_disk_alone(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "LOOK_EVERY", 1 << 20)
    group = archive_a().file_system_groups["ONLINE_STORAGE"]
    minimum = replace(group, minimum_free_disk_space=Minimum("20MB", size_bytes=20_000_000))
    large = made(tmp_path, EncapsulatedDocument=bytes(15_000_000))
    with small_disk(home / "online-1", "30m"):
        now = reception(chooser=Chooser("archive-a", minimum))

        assert now.store(large.offered(1 << 16)).ending is Ending.STORED
        now.close()

        assert shutil.disk_usage(home / "online-1").free >= 20_000_000
        assert stored_data_sets() == {large.sop_uid: [large.data_set]}


def test_object_that_does_not_end_is_refused_when_all_disks_are_at_their_minimum(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "LOOK_EVERY", 1 << 20)
    group = archive_a().file_system_groups["ONLINE_STORAGE"]
    minimum = replace(group, minimum_free_disk_space=Minimum("20MB", size_bytes=20_000_000))
    large = made(tmp_path, EncapsulatedDocument=bytes(15_000_000))
    with small_disk(home / "online-1", "30m"), small_disk(home / "online-2", "30m"):
        now = reception(chooser=Chooser("archive-a", minimum))

        with pytest.raises(errors.NoPlace, match="bytes are free, expected 20MB"):
            now.store(large.offered(1 << 16))
        now.close()

        assert unlink_list() == []
