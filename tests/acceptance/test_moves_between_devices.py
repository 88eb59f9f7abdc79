"""Tasks of every kind are really moved and run; a device is killed with 5,000 tasks planned for tonight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from archive.dicom.peer import Peer
from tasks import diffs, history, operations
from tasks.moving import Change
from tasks.query import TaskQuery
from tasks.record import NewTask
from tasks.state import Status
from tests.integration.tasks.kinds import asking
from tests.lab import ldif, peers
from tests.lab.cluster import BY, Lab, cluster, free_port
from tests.lab.qrscp import dcmqrscp
from tests.lab.waiting import wait_until

HERE, THERE = "archive-a", "archive-b"
WAITING = 5000
TONIGHT = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=12)
TITLES = ("FIRST", "SECOND", "SINK")
STUDY = "1.2.1"


@dataclass
class House:
    """A cluster of two devices, with the AEs that it speaks with."""

    lab: Lab
    url: str
    nodes: dict[str, Peer]

    def post(self, path: str) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", trust_env=False, timeout=120)

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.url}{path}", trust_env=False, timeout=120).json()


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    nodes = {title: Peer(title, "127.0.0.1", free_port()) for title in TITLES}
    changes = [change for node in nodes.values() for change in ldif.remote(node.ae_title, node.port)]
    dicom = {HERE: free_port(), THERE: free_port()}
    nodes |= {device.upper().replace("-", "_"): Peer(device.upper().replace("-", "_"), "127.0.0.1", port)
              for device, port in dicom.items()}  # fmt: skip
    changes += [ldif.connection(device, dicomPort=str(port)) for device, port in dicom.items()]
    changes += [ldif.Change("cn=http", {"dicomPort": str(free_port())}, (device,)) for device in dicom]
    changes += [ldif.exporter("ToSink", uri="dicom:SINK"), ldif.device(arcTaskLease="PT5S")]
    # What lies on nearline file systems of archive-a is out of reach of archive-b.
    alone = ldif.Change(
        "arcFileSystemGroupID=NEARLINE_STORAGE", {"arcFileSystem": "storage/archive-a/nearline"}, (HERE,)
    )
    with cluster(*changes, alone) as lab:
        lab.beat()
        lab.worker(HERE)
        lab.worker(THERE)
        api, url = lab.api()
        lab.ready()
        wait_until(lambda: is_up(url) or not api.is_running, "REST answers", say=api.tail)
        assert api.is_running, api.tail()
        yield House(lab, url, nodes)


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/version", trust_env=False).is_success
    except httpx.TransportError:
        return False


def plan(house: House, kind: str, **values: Any) -> int:
    """Make a task of archive-a for tonight; returns its id."""
    new = NewTask(kind, HERE, "", local_aet="ARCHIVE_A", scheduled_time=TONIGHT, **values)
    return operations.schedule(new, BY).task.id


def move(task_id: int) -> None:
    """Move a task to archive-b, to run there at once."""
    operations.reschedule_one(task_id, TaskQuery(), Change(devices=(THERE,), local_aet="ARCHIVE_B"), BY)


def test_one_task_of_each_kind_is_moved_and_runs_there(house: House, tmp_path: Path) -> None:
    lab, nodes = house.lab, house.nodes
    first = asking.files(tmp_path / "1", {STUDY: 2, "1.2.2": 1})
    second = asking.files(tmp_path / "2", {"1.2.2": 1}, PatientName="Doe^John")
    stored = lab.store_study(HERE, objects=3)
    with ExitStack() as opened:
        sink = opened.enter_context(peers.storescp(port=nodes["SINK"].port, ae_title="SINK"))
        opened.enter_context(dcmqrscp(first, nodes["ARCHIVE_B"], port=nodes["FIRST"].port, ae_title="FIRST"))
        opened.enter_context(dcmqrscp(second, port=nodes["SECOND"].port, ae_title="SECOND"))
        lab.dicom(THERE)
        export = plan(house, "EXPORT", exporter_id="ToSink", study_uid=stored)
        retrieve = plan(house, "RETRIEVE", remote_aet="FIRST", destination_aet="ARCHIVE_A", study_uid=STUDY)
        diff = plan(house, "DIFF", remote_aet="FIRST", destination_aet="SECOND",
                    params={"queryString": "", "checkMissing": True, "checkDifferent": True})  # fmt: skip
        verify = plan(house, "STGVER", study_uid=stored, params={"policy": "OBJECT_CHECKSUM"})
        everything = [export, retrieve, diff, verify]

        for task in everything:
            move(task)
        lab.await_status([export, retrieve, verify], Status.COMPLETED)
        lab.await_status([diff], Status.WARNING)

        assert len(sink.data_sets()) == 3
    for task in everything:
        assert (lab.task(task).device, [run.device for run in lab.runs(task)]) == (THERE, [THERE])
        steps = lab.ask(lambda session, task=task: history.of_task(session, task))  # type: ignore[misc]
        assert [(step.from_device, step.to_device) for step in steps if step.event == "reschedule"] == [(HERE, THERE)]
    # What was to be retrieved to the old local AE has come to the new one.
    assert lab.task(retrieve).outcome_message == f"Export STUDY[suid:{STUDY}] from FIRST to ARCHIVE_B - completed:2"
    found = lab.ask(lambda session: diffs.of_task(session, diff))
    assert sorted(one["0020000D"]["Value"][0] for one in found) == [STUDY, "1.2.2"]
    assert lab.task(verify).progress == {"completed": 3, "failed": 0}


def test_device_killed_with_a_backlog_is_relieved_in_one_call(house: House) -> None:
    lab = house.lab
    near, far = (lab.store_study(HERE, objects=1) for _ in range(2))
    put_out_of_reach(lab, far)
    worker = next(member for member in lab.members if member.name == f"worker-{HERE}")
    planned = lab.schedule(WAITING - 20, exporter="ToFolder", study_uid=near, scheduled_time=TONIGHT)
    stuck = lab.schedule(20, exporter="ToFolder", study_uid=far, scheduled_time=TONIGHT)
    worker.kill()
    before = lab.task(planned[0])

    path = f"/monitor/export/reschedule?dicomDeviceName={HERE}&status=waiting&newDeviceName={THERE}"
    preview = house.post(f"{path}&keepScheduledTime=true&dryrun=true").json()
    answer = house.post(f"{path}&keepScheduledTime=true")

    body = answer.json()
    assert (preview["count"], preview["failed"]) == (body["count"], body["failed"]) == (WAITING - 20, 20)
    assert answer.status_code == 202
    assert sum(one["count"] for one in body["refusals"]) == 20
    reason = body["refusals"][0]["reason"]
    for named in (f"Study[uid={far}]", f"Device{{name={THERE}}}", "nearline (archive-a)"):
        assert named in reason
    moved = lab.task(planned[0])
    assert (moved.device, moved.scheduled_time, moved.status) == (THERE, before.scheduled_time, Status.SCHEDULED)
    assert lab.count(devices=(THERE,), statuses=(Status.SCHEDULED,)) == {Status.SCHEDULED: WAITING - 20}
    assert lab.count(ids=tuple(stuck), devices=(HERE,)) == {Status.SCHEDULED: 20}
    # The night has come for some of them.
    operations.reschedule(TaskQuery(ids=tuple(planned[:5])), Change(), BY)
    lab.await_status(planned[:5], Status.COMPLETED)
    assert {run.device for task in planned[:5] for run in lab.runs(task)} == {THERE}
    operations.cancel(TaskQuery(statuses=(Status.SCHEDULED,)), BY)
    worker.start()
    lab.ready(worker)


def put_out_of_reach(lab: Lab, study_uid: str) -> None:
    """Let the index say that the files of a study lie on archive-a's nearline file system, which it alone mounts."""
    statement = text(
        "UPDATE file SET file_system_id = (SELECT id FROM file_system WHERE path LIKE '%archive-a/nearline') "
        "WHERE instance_id IN (SELECT i.id FROM instance AS i JOIN series AS e ON e.id = i.series_id "
        "JOIN study AS s ON s.id = e.study_id WHERE s.study_uid = :uid)"
    )
    lab.ask(lambda session: session.execute(statement, {"uid": study_uid}) and None)


def test_failover_moves_what_waits_when_it_is_configured(house: House) -> None:
    lab = house.lab
    worker = next(member for member in lab.members if member.name == f"worker-{HERE}")
    lab.worker(THERE, housekeeping=True)
    lab.ready()
    planned = lab.schedule(50, exporter="ToFolder", study_uid=lab.store_study(HERE, objects=1), scheduled_time=TONIGHT)
    lab.configure(ldif.device(HERE, arcFailoverDevice=THERE, arcFailoverAfter="PT1S"))
    worker.kill()

    wait_until(
        lambda: lab.count(ids=tuple(planned), devices=(THERE,)) == {Status.SCHEDULED: 50},
        "the tasks were moved",
        say=lab.describe,
    )

    task = lab.task(planned[0])
    assert task.scheduled_time == TONIGHT
    steps = lab.ask(lambda session: history.of_task(session, planned[0]))
    assert steps[-1].actor == f"failover of {HERE}"
    assert (steps[-1].reason or "").startswith(f"no live worker of {HERE} since ")
    [told] = [one for one in house.get("/devices") if one["dicomDeviceName"] == HERE]
    assert (told["failover"]["moved"], told["failover"]["stay"], told["liveWorkers"]) == (50, 0, 0)
    assert told["workers"][0]["state"] == "dead"
