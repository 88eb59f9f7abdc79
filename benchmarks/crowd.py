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

#: Three months of two devices: four exporters, batches of 500, few failures, a rare exporter and a rare device.
_MIXED = """
    INSERT INTO task (kind, device, queue, status, scheduled_time, created_time, updated_time, started_time, ended_time,
                      failures, exporter_id, study_uid, local_aet, destination, batch_id, error_message,
                      outcome_message, progress)
    SELECT 'EXPORT', CASE WHEN n %% 9973 = 0 THEN 'archive-c' WHEN n %% 3 = 0 THEN 'archive-b' ELSE 'archive-a' END,
           'Export', s.status, made + interval '1 min', made, made + interval '2 min', made + interval '1 min',
           made + interval '2 min', CASE WHEN s.status = 'FAILED' THEN 11 ELSE 0 END,
           CASE WHEN n %% 7919 = 0 THEN 'Rare' ELSE 'Exporter' || n %% 4 END,
           '1.2.826.0.1.3680043.8.498.' || md5((n / 2)::text), 'ARCHIVE_A', 'dicom:PACS',
           CASE WHEN n %% 2 = 0 THEN 'batch-' || n / 1000 END,
           CASE WHEN s.status = 'FAILED' THEN 'PACS at 10.0.0.1:11112: connection refused' END,
           CASE WHEN s.status = 'COMPLETED' THEN 'Exported Study[uid=1.2.826.0.1] to dicom:PACS: 120 objects' END,
           '{"numInstances": 120, "modalities": ["CT"]}'
    FROM generate_series(1, %(number)s) AS n,
         LATERAL (SELECT now() - interval '90 days' + n * (interval '90 days' / %(number)s) AS made) AS m,
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
    """Leave nothing but so many tasks of all statuses."""
    _empty(connection)
    connection.execute(_MIXED, {"number": number})
    _settle(connection)


def _empty(connection: Connection) -> None:
    connection.execute("TRUNCATE task, history")


def _settle(connection: Connection) -> None:
    connection.execute("VACUUM ANALYZE task")
    connection.execute("CHECKPOINT")
