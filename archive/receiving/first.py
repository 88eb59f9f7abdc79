"""The first object that an association brings of a series indexed by one statement, whatever is missing above it.

It differs from the usual object of `quick` in that patient, study, series and the row of the ledger may have to be
inserted, and values of study and series filled in. One that is there already, and writers that meet at the same
rows, are left to `storage.indexing`.
"""

from __future__ import annotations

from collections.abc import Callable

from archive import overlapping
from archive.receiving import exchange
from archive.storage import rows

# Locks in the order of all writers: study, patient, series. Whoever inserts what we insert is waited for; what it
# has inserted is not seen by this statement, so no row comes back and all is undone by the division by zero, as in
# `quick`. Nothing is changed if the object is there.
_ADD = overlapping.Statement(
    "index_first_object",
    """
    WITH fresh AS (
        SELECT WHERE NOT EXISTS (SELECT FROM instance WHERE sop_uid = $3::varchar)
    ), known_study AS (
        UPDATE study SET
            num_series = num_series + CASE WHEN EXISTS
                (SELECT FROM series WHERE series.study_id = study.id AND series_uid = $2::varchar) THEN 0 ELSE 1 END,
            num_instances = num_instances + 1,
            modalities = ARRAY(SELECT DISTINCT m FROM unnest(study.modalities || $4::varchar) AS m
                WHERE m IS NOT NULL ORDER BY m),
            study_date = coalesce(study_date, $5::date), study_time = coalesce(study_time, $6::time),
            accession_number = coalesce(accession_number, $7::varchar), study_id = coalesce(study_id, $8::varchar),
            description = coalesce(description, $9::varchar),
            referring_physician = coalesce(referring_physician, $10::varchar),
            updated_at = now()
        FROM fresh WHERE study_uid = $1::varchar
        RETURNING id
    ), known_patient AS (
        SELECT id FROM patient
        WHERE patient_id = $11::varchar AND issuer = $12::varchar AND of_study_uid = $13::varchar
            AND EXISTS (SELECT FROM fresh) AND NOT EXISTS (SELECT FROM known_study)
        FOR NO KEY UPDATE
    ), new_patient AS (
        INSERT INTO patient (patient_id, issuer, of_study_uid, name, birth_date, sex)
        SELECT $11::varchar, $12::varchar, $13::varchar, $14::varchar, $15::date, $16::varchar FROM fresh
        WHERE NOT EXISTS (SELECT FROM known_study) AND NOT EXISTS (SELECT FROM known_patient)
        ON CONFLICT DO NOTHING
        RETURNING id
    ), new_study AS (
        INSERT INTO study (study_uid, patient_id, num_series, num_instances, modalities, study_date, study_time,
            accession_number, study_id, description, referring_physician)
        SELECT $1::varchar, whose.id, 1, 1, array_remove(ARRAY[$4::varchar], NULL), $5::date, $6::time,
            $7::varchar, $8::varchar, $9::varchar, $10::varchar
        FROM (SELECT id FROM known_patient UNION ALL SELECT id FROM new_patient) AS whose
        ON CONFLICT DO NOTHING
        RETURNING id
    ), study_row AS (
        SELECT id FROM known_study UNION ALL SELECT id FROM new_study
    ), ledger AS (
        INSERT INTO study_on_file_system AS at (study_id, file_system_id)
        SELECT id, $17::bigint FROM study_row
        ON CONFLICT (study_id, file_system_id) DO UPDATE
        SET access_time = now(), marked_at = NULL, mark_reason = NULL, mark_task_id = NULL, mark_bytes = NULL
        WHERE at.marked_at IS NOT NULL OR at.access_time < now() - $18::interval
    ), known_series AS (
        UPDATE series SET num_instances = num_instances + 1, state = 'RECEIVING', last_received_at = now(),
            modality = coalesce(modality, $4::varchar), number = coalesce(number, $19::integer),
            description = coalesce(description, $20::varchar)
        FROM study_row WHERE series.study_id = study_row.id AND series.series_uid = $2::varchar
        RETURNING series.id, series.study_id
    ), new_series AS (
        INSERT INTO series (study_id, series_uid, modality, number, description, num_instances)
        SELECT id, $2::varchar, $4::varchar, $19::integer, $20::varchar, 1 FROM study_row
        WHERE NOT EXISTS (SELECT FROM known_series)
        ON CONFLICT DO NOTHING
        RETURNING id, study_id
    ), series_row AS (
        SELECT id, study_id FROM known_series UNION ALL SELECT id, study_id FROM new_series
    ), instance AS (
        INSERT INTO instance (series_id, sop_uid, sop_class_uid, number)
        SELECT id, $3::varchar, $21::varchar, $22::integer FROM series_row
        ON CONFLICT DO NOTHING
        RETURNING id
    ), unlink AS (
        DELETE FROM unlink USING instance
        WHERE unlink.id = $23::bigint AND unlink.reason = 'storing'
            AND unlink.file_system_id = $17::bigint AND unlink.path = $24::text
        RETURNING unlink.file_system_id
    ), file AS (
        INSERT INTO file (instance_id, file_system_id, path, size_bytes, sha256, transfer_syntax_uid, source)
        SELECT instance.id, unlink.file_system_id, $24::text, $25::bigint, $26::bytea, $27::varchar, $28::varchar
        FROM instance, unlink
        RETURNING id
    ), received AS (
        INSERT INTO bytes_received AS book (device_name, hour, source, size_bytes, num_objects)
        SELECT $29::varchar, date_trunc('hour', now(), 'UTC'), $28::varchar, $25::bigint, 1
        FROM file
        ON CONFLICT (device_name, hour, source) DO UPDATE
        SET size_bytes = book.size_bytes + excluded.size_bytes, num_objects = book.num_objects + 1
    )
    SELECT CASE
        WHEN NOT EXISTS (SELECT FROM fresh) THEN ''
        WHEN 1 / (SELECT count(*) FROM file) = 1 THEN (SELECT concat_ws(' ', study_id, id) FROM series_row)
        ELSE ''
    END
""",
)


def add(device_name: str, file_system_id: int, pending: rows.Pending, settle: Callable[[], None]) -> rows.Place | None:
    """Index an object with all that it is the first of; arguments and errors as those of `quick.add`.

    Returns:
        Where it is now; None: it is there already, others are at the same rows, or its disk is full or gone, and
        nothing was changed.
    """
    said = exchange.run(_ADD, _values(device_name, file_system_id, pending), settle)
    return rows.Place(*map(int, said.split())) if said else None


def _values(device_name: str, file_system_id: int, pending: rows.Pending) -> list[str | None]:
    header, written = pending.header, pending.written
    patient_id, issuer, of_study_uid = rows.patient_key(header)
    return [
        None if value is None else str(value)
        for value in (
            header.study_uid,
            header.series_uid,
            header.sop_uid,
            header.modality,
            header.study_date,
            header.study_time,
            header.accession_number,
            header.study_id,
            header.study_description,
            header.referring_physician,
            patient_id,
            issuer,
            of_study_uid,
            header.patient_name,
            header.birth_date,
            header.sex,
            file_system_id,
            exchange.TOUCH_AFTER,
            header.series_number,
            header.series_description,
            header.sop_class_uid,
            header.instance_number,
            pending.unlink_id,
            written.path,
            written.size_bytes,
            f"\\x{written.sha256}",
            header.transfer_syntax_uid,
            pending.source,
            device_name,
        )
    ]
