"""The configuration of a process: changes are seen, and the last good one is used when the source fails."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from archive import configuration, db
from archive.configuration import ConfigSnapshot
from config import settings, source
from config.device import Cluster
from config.entry import Entry
from config.errors import ConfigError

SAMPLE = source.sample()
PARALLEL = b"dcmMaxTasksParallel: 4"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    before = dict(os.environ)
    settings.override(home=tmp_path)
    configuration.reset()
    yield tmp_path / "config.ldif"
    os.environ.clear()
    os.environ.update(before)
    settings.reload()
    configuration.reset()


def replace(file: Path, content: bytes) -> None:
    new = file.with_suffix(".new")
    new.write_bytes(content)
    new.replace(file)


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "the condition did not come true"
        threading.Event().wait(0.02)


def parallel(cluster: Cluster, device: str = "archive-a") -> int:
    return cluster.devices[device].queues["Export"].max_tasks_parallel


def snapshots() -> list[ConfigSnapshot]:
    with db.transaction() as session:
        return list(session.scalars(select(ConfigSnapshot).order_by(ConfigSnapshot.id)))


def test_change_is_seen_within_10_seconds(database: str, file: Path) -> None:
    assert parallel(configuration.current()) == 4

    replace(file, SAMPLE.replace(PARALLEL, b"dcmMaxTasksParallel: 7", 1))

    wait_until(lambda: parallel(configuration.current()) == 7)


def test_last_good_configuration_is_used_while_the_file_is_garbage(database: str, file: Path) -> None:
    good = configuration.current()
    begun = datetime.now(UTC)

    replace(file, b"garbage\n")

    wait_until(lambda: configuration.status().error is not None)
    status = configuration.status()
    assert configuration.current() is good
    assert status.error == f"{file} line 1: 'garbage': expected 'attribute: value', '# comment' or an empty line"
    assert status.stale_since is not None
    assert begun <= status.stale_since <= datetime.now(UTC)
    assert status.loaded_at is not None
    assert status.loaded_at <= begun

    replace(file, SAMPLE)

    wait_until(lambda: configuration.status().stale_since is None)
    assert configuration.status().error is None
    assert configuration.current() == good


def test_file_without_a_device_does_not_take_all_devices_away(database: str, file: Path) -> None:
    good = configuration.current()

    replace(file, b"")

    wait_until(lambda: configuration.status().error is not None)
    assert configuration.current() is good
    assert "expected entries of devices" in str(configuration.status().error)


def test_start_without_a_source_uses_the_last_good_one(database: str, file: Path) -> None:
    good = configuration.current()
    replace(file, b"garbage\n")
    configuration.reset()

    assert configuration.current() == good
    status = configuration.status()
    assert status.stale_since is not None
    assert status.loaded_at == snapshots()[-1].loaded_at


def test_start_without_a_source_and_a_snapshot_is_an_error(database: str, file: Path) -> None:
    file.write_bytes(b"garbage\n")

    with pytest.raises(ConfigError, match="line 1"):
        configuration.current()
    assert "line 1" in str(configuration.status().error)


def test_equal_configuration_is_kept_once(database: str, file: Path) -> None:
    configuration.current()
    configuration.reset()
    configuration.current()

    (snapshot,) = snapshots()
    assert snapshot.source_url == file.as_uri()
    assert len(snapshot.sha256) == 64


def test_last_50_configurations_are_kept(database: str) -> None:
    names = [f"cn={number}" for number in range(52)]
    for name in names:
        with db.transaction() as session:
            configuration.keep(session, "file:///x", [Entry(name)])

    assert [snapshot.entries[0]["dn"] for snapshot in snapshots()] == names[-50:]


def test_bytes_that_are_no_text_are_kept(database: str, file: Path) -> None:
    content = SAMPLE.replace(b"dicomManufacturer: arcfleet", b"dicomVendorData:: /wD/", 1)
    file.write_bytes(content)
    configuration.current()
    replace(file, b"garbage\n")
    configuration.reset()

    configuration.current()

    (snapshot,) = snapshots()
    assert {"base64": "/wD/"} in [
        value for row in snapshot.entries for values in row["attributes"].values() for value in values
    ]


def test_configuration_works_without_a_database(file: Path) -> None:
    db.use(db.make_engine("postgresql://nobody@127.0.0.1:1/none"))
    try:
        assert set(configuration.current().ours) == {"archive-a", "archive-b"}
        assert configuration.status().error is None
    finally:
        db.use(None)


def test_device_with_a_refused_value_stays_as_it_was_while_others_change(database: str, file: Path) -> None:
    configuration.current()
    first, second = SAMPLE.split(b"# ---- archive-b ----")
    changed = (
        first.replace(PARALLEL, b"dcmMaxTasksParallel: 7", 1).replace(b"dcmMaxRetries: 10", b"dcmMaxRetries: x", 1),
        second.replace(PARALLEL, b"dcmMaxTasksParallel: 9", 1),
    )

    replace(file, b"# ---- archive-b ----".join(changed))

    wait_until(lambda: parallel(configuration.current(), "archive-b") == 9)
    assert parallel(configuration.current()) == 4
    assert "dcmMaxRetries='x'" in str(configuration.status().error)
    assert len(snapshots()) == 1

    configuration.reset()

    assert parallel(configuration.current()) == 4
    assert parallel(configuration.current(), "archive-b") == 9


def test_attribute_that_is_written_back_is_seen_by_all(database: str, file: Path) -> None:
    cluster = configuration.current()
    name = "dcmQueueName=Export,dicomDeviceName=archive-a,cn=Devices,cn=DICOM Configuration,dc=dcm4che,dc=org"

    configuration.source().write_attribute(name, "dcmMaxTasksParallel", ["5"])

    wait_until(lambda: parallel(configuration.current()) == 5)
    assert configuration.current().devices["archive-b"] == cluster.devices["archive-b"]
    assert len(snapshots()) == 2


def test_fixed_configuration_is_used(file: Path) -> None:
    fixed = Cluster({})
    configuration.use(fixed)

    assert configuration.current() is fixed
    assert configuration.status().source_url == "fixed"
    assert not file.exists()


def test_threads_see_one_configuration(database: str, file: Path) -> None:
    seen: list[Cluster] = []
    threads = [threading.Thread(target=lambda: seen.append(configuration.current())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({id(cluster) for cluster in seen}) == 1
    assert len(snapshots()) == 1
