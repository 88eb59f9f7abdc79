"""One statement that indexes an object in a transaction of its own, while its file is made safe on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import psycopg
from sqlalchemy.exc import OperationalError

from archive import errors, ledger, overlapping
from archive.storage import rows, turns

#: How old the access time of a study may be before an object renews it, as PostgreSQL reads it.
_TOUCH_AFTER = f"{ledger.TOUCH_AFTER.total_seconds()} seconds"

#: How each such statement ends: the object below `series_row`, its file off the unlink list and into the index, and
#: its bytes into the book. Its first values are those of `values`.
FILED = """instance AS (
        INSERT INTO instance (series_id, sop_uid, sop_class_uid, number)
        SELECT id, $1::varchar, $2::varchar, $3::integer FROM series_row
        ON CONFLICT DO NOTHING
        RETURNING id
    ), unlink AS (
        DELETE FROM unlink USING instance
        WHERE unlink.id = $4::bigint AND unlink.reason = 'storing'
            AND unlink.file_system_id = $5::bigint AND unlink.path = $6::text
        RETURNING unlink.file_system_id
    ), file AS (
        INSERT INTO file (instance_id, file_system_id, path, size_bytes, sha256, transfer_syntax_uid, source)
        SELECT instance.id, unlink.file_system_id, $6::text, $7::bigint, $8::bytea, $9::varchar, $10::varchar
        FROM instance, unlink
        RETURNING id
    ), received AS (
        INSERT INTO bytes_received AS book (device_name, hour, source, size_bytes, num_objects)
        SELECT $11::varchar, date_trunc('hour', now(), 'UTC'), $10::varchar, $7::bigint, 1
        FROM file
        ON CONFLICT (device_name, hour, source) DO UPDATE
        SET size_bytes = book.size_bytes + excluded.size_bytes, num_objects = book.num_objects + 1
    )
"""


def run(statement: overlapping.Statement, values: Sequence[str | None], settle: Callable[[], None]) -> str | None:
    """Run a statement that divides by zero where it does not find what it is for.

    Args:
        statement: indexes an object.
        values: as PostgreSQL reads them.
        settle: makes the file safe on disk; runs while the database works, and before the commit.

    Returns:
        What it says; None: it is not for this object, or the disk is full or gone, and nothing was changed.

    Raises:
        StorageError: the disk refused otherwise; nothing was changed.
        OperationalError: the database is away; whether it has committed is not known.
    """
    try:
        return overlapping.run(statement, values, settle)
    except (errors.Unfit, psycopg.errors.DivisionByZero):
        return None
    except OperationalError as exc:
        if turns.is_race(exc):
            return None
        raise


def values(device_name: str, file_system_id: int, pending: rows.Pending) -> list[str | None]:
    """Return $1 to $12 of such a statement: what `FILED` takes, and after which time a study is touched."""
    header, written = pending.header, pending.written
    return [
        header.sop_uid,
        header.sop_class_uid,
        None if header.instance_number is None else str(header.instance_number),
        str(pending.unlink_id),
        str(file_system_id),
        written.path,
        str(written.size_bytes),
        f"\\x{written.sha256}",
        header.transfer_syntax_uid,
        pending.source,
        device_name,
        _TOUCH_AFTER,
    ]
