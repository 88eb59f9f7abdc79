"""An operation whose process is killed half-way is carried on by another one; no task is changed twice."""

from __future__ import annotations

import httpx
from sqlalchemy import text

from archive import db
from tasks.state import Status
from tests import factories
from tests.acceptance.wire.client import Archive
from tests.acceptance.wire.conftest import running_api
from tests.lab.waiting import wait_until
from workers.embedded.valkey import EmbeddedValkey

_TASKS = 100_000

_INSERT = """
    INSERT INTO task (kind, device, queue, status, scheduled_time, exporter_id, local_aet, study_uid)
    SELECT 'EXPORT', 'archive-a', 'Export', 'SCHEDULED', now() + interval '1 day', 'Noop', 'ARCFLEET', '1.2.' || n
    FROM generate_series(1, :number) AS n
"""
_CHANGED = """
    SELECT count(*), count(DISTINCT task_id), coalesce(min(event), ''), coalesce(max(event), '')
    FROM history, unnest(coalesce(task_ids, ARRAY[first_id])) AS task_id WHERE operation_id = :id
"""

#: How it is asked for; `make chaos` does the same to cancels and deletes.
_RESCHEDULE = "reschedule?all=true&newDeviceName=archive-b&keepScheduledTime=true"


def test_operation_of_a_killed_process_goes_on_in_another(
    archive: Archive, wire_database: str, valkey: EmbeddedValkey
) -> None:
    factories.sql(_INSERT, number=_TASKS)

    with running_api(wire_database, valkey) as (url, process):
        accepted = httpx.post(
            f"{url}/dcm4chee-arc/monitor/export/{_RESCHEDULE}",
            headers={"prefer": "respond-async"}, timeout=60, trust_env=False,
        )  # fmt: skip
        assert accepted.status_code == 202
        operation_id = accepted.json()["operationID"]
        wait_until(lambda: factories.sql("SELECT count FROM operation")[0] > 0, "the first chunk is done")
        process.kill()
        process.wait()
    [done_when_killed] = factories.sql("SELECT count FROM operation")
    # What comes meanwhile is none of its tasks.
    later = factories.insert()[0].id

    operation = f"monitor/operations/{operation_id}"
    wait_until(lambda: archive.get(operation)["state"] == "done", "another process has done the rest")

    told = archive.get(operation)
    assert 0 < done_when_killed < _TASKS
    assert (told["count"], told["failed"], told["total"]) == (_TASKS, 0, _TASKS)
    with db.transaction() as session:
        assert tuple(session.execute(text(_CHANGED), {"id": operation_id}).one()) == (
            _TASKS,
            _TASKS,
            "reschedule",
            "reschedule",
        )
    others = f"FROM task WHERE id <> {later}"
    assert factories.sql(f"SELECT DISTINCT concat_ws(' ', device, status) {others}") == ["archive-b SCHEDULED"]
    assert factories.sql(f"SELECT count(*) {others} AND scheduled_time < now() + interval '1 hour'") == [0]
    assert factories.status_of(later) is Status.SCHEDULED
