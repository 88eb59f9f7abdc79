"""The usual object indexed by one statement: one more of a series that is known, on a file system that is known.

Whatever else it is (the first of its series, one that is there already, of a study that was marked or deleted
meanwhile) is left to `first`, and to `storage.indexing`, which can do all of it, in more statements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from archive import overlapping
from archive.receiving import exchange
from archive.storage import rows
from archive.storage.header import Header

# Each step takes what the one before returns, so locks are taken in the order of all writers: the study first.
# A deleter locks the study as well: once we have it, the ledger row is there until our end or gone, and one that
# is gone or changed since this statement began is not returned, because it is locked.
# Without the first step nothing is changed. Without a later one all is undone, by a division by zero: that costs
# a line in the server's log, but happens in races only, and spares every other object a look before the COMMIT.
# It is sent without waiting for its end: the disk is waited for meanwhile.
_ADD = overlapping.Statement(
    "index_object",
    """
    WITH study AS (
        UPDATE study SET num_instances = num_instances + 1, updated_at = now()
        WHERE id = $1::bigint AND NOT EXISTS (SELECT FROM instance WHERE sop_uid = $2::varchar)
        RETURNING id
    ), ledger AS (
        SELECT at.study_id FROM study_on_file_system AS at JOIN study ON study.id = at.study_id
        WHERE at.file_system_id = $3::bigint AND at.marked_at IS NULL
            AND at.access_time >= now() - $4::interval
        FOR NO KEY UPDATE OF at
    ), series AS (
        UPDATE series SET num_instances = num_instances + 1, state = 'RECEIVING', last_received_at =
            CASE WHEN last_received_at < now() - interval '1 second' THEN now() ELSE last_received_at END
        FROM ledger WHERE series.id = $5::bigint AND series.study_id = ledger.study_id
        RETURNING series.id
    ), instance AS (
        INSERT INTO instance (series_id, sop_uid, sop_class_uid, number)
        SELECT id, $2::varchar, $6::varchar, $7::integer FROM series
        ON CONFLICT DO NOTHING
        RETURNING id
    ), unlink AS (
        DELETE FROM unlink USING instance
        WHERE unlink.id = $8::bigint AND unlink.reason = 'storing'
            AND unlink.file_system_id = $3::bigint AND unlink.path = $9::text
        RETURNING unlink.file_system_id
    ), file AS (
        INSERT INTO file (instance_id, file_system_id, path, size_bytes, sha256, transfer_syntax_uid, source)
        SELECT instance.id, unlink.file_system_id, $9::text, $10::bigint, $11::bytea,
            $12::varchar, $13::varchar
        FROM instance, unlink
        RETURNING id
    ), received AS (
        INSERT INTO bytes_received AS book (device_name, hour, source, size_bytes, num_objects)
        SELECT $14::varchar, date_trunc('hour', now(), 'UTC'), $13::varchar, $10::bigint, 1
        FROM file
        ON CONFLICT (device_name, hour, source) DO UPDATE
        SET size_bytes = book.size_bytes + excluded.size_bytes, num_objects = book.num_objects + 1
    )
    SELECT CASE WHEN EXISTS (SELECT FROM study) THEN 1 / (SELECT count(*) FROM file) ELSE 0 END
""",
)


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
    return (exchange.run(_ADD, _values(target, pending), settle) or "0") != "0"


def _values(target: Target, pending: rows.Pending) -> list[str | None]:
    header, written = pending.header, pending.written
    return [
        str(target.study_id),
        header.sop_uid,
        str(target.file_system_id),
        exchange.TOUCH_AFTER,
        str(target.series_id),
        header.sop_class_uid,
        None if header.instance_number is None else str(header.instance_number),
        str(pending.unlink_id),
        written.path,
        str(written.size_bytes),
        f"\\x{written.sha256}",
        header.transfer_syntax_uid,
        pending.source,
        target.device_name,
    ]
