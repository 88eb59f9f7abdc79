"""A million tasks in the table of a benchmark: all alike, or as mixed as those of an archive."""

from __future__ import annotations

from typing import Any

import psycopg

Connection = psycopg.Connection[Any]

#: Failed exports of one device, as they are found after a night without the PACS.
_FAILED = """
    INSERT INTO task (kind, device, queue, status, scheduled_time, failures, exporter_id, study_uid, local_aet,
                      destination, error_message)
    SELECT 'EXPORT', 'archive-a', 'Export', %(status)s, timestamptz '2090-01-01', 11, 'Noop',
           '1.2.826.0.1.3680043.8.498.' || md5(n::text), 'ARCHIVE_A', NULL,
           'PACS at 10.0.0.1:11112: connection refused'
    FROM generate_series(1, %(number)s) AS n
"""

#: Three months of two devices: of 16 tasks 8 are exports, 4 retrieves, 2 verifications, 1 a comparison, 1 a deletion.
#: Batches of 500, few failures; a rare exporter, device, queue and AE title.
_MIXED = """
    INSERT INTO task (kind, device, queue, status, scheduled_time, created_time, updated_time, started_time, ended_time,
                      failures, exporter_id, study_uid, local_aet, remote_aet, destination_aet, destination, batch_id,
                      error_message, outcome_message, params, progress)
    SELECT k.kind, d.device, CASE WHEN n %% 7919 = 0 THEN 'Rare' ELSE k.queue END, s.status, made + interval '1 min',
           made, made + interval '2 min', made + interval '1 min', made + interval '2 min',
           CASE WHEN s.status = 'FAILED' THEN 11 ELSE 0 END,
           CASE WHEN k.kind = 'EXPORT' THEN CASE WHEN n %% 7919 = 0 THEN 'Rare' ELSE 'Exporter' || n %% 4 END END,
           CASE WHEN k.kind <> 'DIFF' THEN '1.2.826.0.1.3680043.8.498.' || md5((n / 32 * 16 + n %% 16)::text) END,
           CASE WHEN n %% 5003 = 0 THEN 'ARCFLEET' ELSE upper(translate(d.device, '-', '_')) END,
           CASE WHEN k.kind IN ('RETRIEVE', 'DIFF')
                THEN CASE WHEN n %% 4099 = 0 THEN 'RARE' ELSE 'PACS' || m %% 4 END END,
           CASE WHEN k.kind = 'DIFF' THEN CASE WHEN n %% 4099 = 0 THEN 'RARE' ELSE 'SECOND' || m %% 2 END
                WHEN k.kind = 'RETRIEVE' THEN CASE WHEN m %% 2 = 0 THEN 'ARCHIVE_A' ELSE 'STATION' || m %% 29 END END,
           CASE WHEN k.kind NOT IN ('STGVER', 'DELETE_STUDY') THEN 'dicom:PACS' END,
           CASE WHEN n %% 2 = 0 THEN 'batch-' || n / 1000 END,
           CASE WHEN s.status = 'FAILED' THEN 'PACS at 10.0.0.1:11112: connection refused' END,
           CASE WHEN s.status = 'COMPLETED' THEN 'Exported Study[uid=1.2.826.0.1] to dicom:PACS: 120 objects' END,
           CASE k.kind
             WHEN 'DIFF' THEN jsonb_build_object('queryString', 'StudyDate=20260101', 'checkMissing', m %% 3 = 0,
                                                 'checkDifferent', m %% 5 <> 0)
               || CASE WHEN m %% 401 = 0 THEN '{"comparefield": "PatientName"}' ELSE '{}'::jsonb END
             WHEN 'STGVER' THEN '{"policy": "OBJECT_SIZE"}' ELSE '{}' END,
           CASE k.kind
             WHEN 'EXPORT' THEN '{"numInstances": 120, "modalities": ["CT"]}'::jsonb
             WHEN 'RETRIEVE' THEN '{"remaining": 0, "completed": 120, "failed": 0, "warning": 0, "statusCode": 0}'
             WHEN 'DIFF' THEN '{"matches": 120, "missing": 1, "different": 0}'
             ELSE '{"completed": 120, "failed": 0}' END
    FROM generate_series(1, %(number)s) AS n,
         LATERAL (SELECT n / 16 AS m, now() - interval '90 days' + n * (interval '90 days' / %(number)s) AS made) AS m,
         LATERAL (SELECT
             (ARRAY['EXPORT', 'RETRIEVE', 'STGVER', 'DIFF', 'DELETE_STUDY'])[sort] AS kind,
             (ARRAY['Export', 'Retrieve', 'StgVerTasks', 'DiffTasks', 'DeleteStudy'])[sort] AS queue
           FROM (SELECT CASE WHEN n %% 16 < 8 THEN 1 WHEN n %% 16 < 12 THEN 2 WHEN n %% 16 < 14 THEN 3
                             ELSE n %% 16 - 10 END AS sort) AS c) AS k,
         LATERAL (SELECT CASE WHEN n %% 9973 = 0 THEN 'archive-c' WHEN n %% 3 = 0 THEN 'archive-b'
                              ELSE 'archive-a' END AS device) AS d,
         LATERAL (SELECT CASE
             -- What failed, failed in one night long ago; what waits was made last.
             WHEN n BETWEEN %(number)s / 10 AND %(number)s / 8 THEN 'FAILED'
             WHEN n > %(number)s - %(number)s / 50 THEN 'SCHEDULED'
             WHEN n %% 1009 = 0 THEN 'CANCELED'
             WHEN n %% 101 = 0 THEN 'WARNING'
             ELSE 'COMPLETED' END AS status) AS s
"""


def failed(connection: Connection, number: int, status: str = "FAILED") -> None:
    """Leave nothing but so many tasks of one status."""
    _empty(connection)
    connection.execute(_FAILED, {"number": number, "status": status})
    _settle(connection)


def mixed(connection: Connection, number: int) -> None:
    """Leave nothing but so many tasks of all kinds and statuses."""
    _empty(connection)
    connection.execute(_MIXED, {"number": number})
    _settle(connection)


def _empty(connection: Connection) -> None:
    connection.execute("TRUNCATE task, history")


def _settle(connection: Connection) -> None:
    connection.execute("VACUUM ANALYZE task")
    connection.execute("CHECKPOINT")
