"""The usual object indexed by one statement: one more of a series that is known, on a file system that is known.

Whatever else it is (the first of its series, one that is there already, of a study that was marked or deleted
meanwhile) is left to `storage.indexing`, which can do all of it, in more statements.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import cast

import psycopg
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import PoolProxiedConnection

from archive import db, errors, ledger
from archive.storage import rows
from archive.storage.header import Header

#: The database gave up this transaction because of another one.
_RACES = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)

# Each step takes what the one before returns, so locks are taken in the order of all writers: the study first.
# A deleter locks the study as well: once we have it, the ledger row is there until our end or gone, and one that
# is gone or changed since this statement began is not returned, because it is locked.
# Without the first step nothing is changed. Without a later one all is undone, by a division by zero: that costs
# a line in the server's log, but happens in races only, and spares every other object a look before the COMMIT.
# It is sent without waiting for its end: the disk is waited for meanwhile.
_ADD = """
    WITH study AS (
        UPDATE study SET num_instances = num_instances + 1, updated_at = now()
        WHERE id = %(study_id)s AND NOT EXISTS (SELECT FROM instance WHERE sop_uid = %(sop_uid)s)
        RETURNING id
    ), ledger AS (
        SELECT at.study_id FROM study_on_file_system AS at JOIN study ON study.id = at.study_id
        WHERE at.file_system_id = %(file_system_id)s AND at.marked_at IS NULL
            AND at.access_time >= now() - CAST(%(touch_after)s AS interval)
        FOR NO KEY UPDATE OF at
    ), series AS (
        UPDATE series SET num_instances = num_instances + 1, state = 'RECEIVING', last_received_at =
            CASE WHEN last_received_at < now() - interval '1 second' THEN now() ELSE last_received_at END
        FROM ledger WHERE series.id = %(series_id)s AND series.study_id = ledger.study_id
        RETURNING series.id
    ), instance AS (
        INSERT INTO instance (series_id, sop_uid, sop_class_uid, number)
        SELECT id, %(sop_uid)s, %(sop_class_uid)s, CAST(%(number)s AS integer) FROM series
        ON CONFLICT DO NOTHING
        RETURNING id
    ), unlink AS (
        DELETE FROM unlink USING instance
        WHERE unlink.id = %(unlink_id)s AND unlink.reason = 'storing'
            AND unlink.file_system_id = %(file_system_id)s AND unlink.path = %(path)s
        RETURNING unlink.file_system_id
    ), file AS (
        INSERT INTO file (instance_id, file_system_id, path, size_bytes, sha256, transfer_syntax_uid, source)
        SELECT instance.id, unlink.file_system_id, %(path)s, CAST(%(size_bytes)s AS bigint), %(sha256)s,
            %(transfer_syntax_uid)s, %(source)s
        FROM instance, unlink
        RETURNING id
    ), received AS (
        INSERT INTO bytes_received AS book (device_name, hour, source, size_bytes, num_objects)
        SELECT %(device_name)s, date_trunc('hour', now(), 'UTC'), %(source)s, CAST(%(size_bytes)s AS bigint), 1
        FROM file
        ON CONFLICT (device_name, hour, source) DO UPDATE
        SET size_bytes = book.size_bytes + excluded.size_bytes, num_objects = book.num_objects + 1
    )
    SELECT CASE WHEN EXISTS (SELECT FROM study) THEN 1 / (SELECT count(*) FROM file) ELSE 0 END
"""


@dataclass(slots=True)
class Target:
    """A series, and a file system on which its study is in the ledger, as they were seen last."""

    device_name: str
    file_system_id: int
    study_id: int
    series_id: int
    #: Names of the columns of study and series that have a value.
    filled: set[str] = field(default_factory=set)
    modalities: set[str] = field(default_factory=set)

    def learn(self, header: Header) -> None:
        """Note what the rows have now that an object with this header is indexed."""
        self.filled |= rows.filled_by(header)
        if header.modality is not None:
            self.modalities.add(header.modality)

    def fits(self, header: Header) -> bool:
        """Tell whether an object says nothing of study and series that is not known."""
        is_known = header.modality is None or header.modality in self.modalities
        return is_known and rows.filled_by(header) <= self.filled


def add(target: Target, pending: rows.Pending, settle: Callable[[], None]) -> bool:
    """Index a new object, take its file off the unlink list and count its bytes, in a transaction of its own.

    Args:
        target: where it belongs.
        pending: its file.
        settle: makes the file safe on disk; runs while the database works, and before the commit.

    Returns:
        False: it is not the usual object, or its disk is full or gone, and nothing was changed.

    Raises:
        StorageError: the disk refused otherwise; nothing was changed.
        OperationalError: the database is away; whether it has committed is not known.
    """
    with closing(_pooled()) as pooled:
        connection = cast("psycopg.Connection[tuple[int]]", pooled.driver_connection)
        try:
            with connection.pipeline():
                cursor = connection.execute(_ADD, _values(target, pending), prepare=True)
                settle()
                # Not commit(): that waits for its answer, and the end of the block does so again.
                connection.execute("COMMIT")
            return bool(cursor.fetchall()[0][0])
        except (errors.Unfit, psycopg.errors.DivisionByZero, *_RACES):
            return False
        except (psycopg.OperationalError, psycopg.InterfaceError) as exc:
            pooled.invalidate(exc)
            raise OperationalError(None, None, exc) from exc


def _pooled() -> PoolProxiedConnection:
    """Take a connection of the pool; what the driver says of a database that is away is told as elsewhere."""
    try:
        return db.engine().raw_connection()
    except (psycopg.OperationalError, psycopg.InterfaceError) as exc:
        raise OperationalError(None, None, exc) from exc


def _values(target: Target, pending: rows.Pending) -> dict[str, object]:
    header, written = pending.header, pending.written
    return {
        "study_id": target.study_id,
        "series_id": target.series_id,
        "file_system_id": target.file_system_id,
        "touch_after": ledger.TOUCH_AFTER,
        "sop_uid": header.sop_uid,
        "sop_class_uid": header.sop_class_uid,
        "number": header.instance_number,
        "unlink_id": pending.unlink_id,
        "path": written.path,
        "size_bytes": written.size_bytes,
        "sha256": bytes.fromhex(written.sha256),
        "transfer_syntax_uid": header.transfer_syntax_uid,
        "source": pending.source,
        "device_name": target.device_name,
    }
