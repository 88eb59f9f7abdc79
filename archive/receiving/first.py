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
    f"""
    WITH fresh AS (
        SELECT WHERE NOT EXISTS (SELECT FROM instance WHERE sop_uid = $1::varchar)
    ), known_study AS (
        UPDATE study SET
            num_series = num_series + CASE WHEN EXISTS
                (SELECT FROM series WHERE series.study_id = study.id AND series_uid = $14::varchar) THEN 0 ELSE 1 END,
            num_instances = num_instances + 1,
            modalities = ARRAY(SELECT DISTINCT m FROM unnest(study.modalities || $15::varchar) AS m
                WHERE m IS NOT NULL ORDER BY m),
            study_date = coalesce(study_date, $16::date), study_time = coalesce(study_time, $17::time),
            accession_number = coalesce(accession_number, $18::varchar), study_id = coalesce(study_id, $19::varchar),
            description = coalesce(description, $20::varchar),
            referring_physician = coalesce(referring_physician, $21::varchar),
            updated_at = now()
        FROM fresh WHERE study_uid = $13::varchar
        RETURNING id
    ), known_patient AS (
        SELECT id FROM patient
        WHERE patient_id = $22::varchar AND issuer = $23::varchar AND of_study_uid = $24::varchar
            AND EXISTS (SELECT FROM fresh) AND NOT EXISTS (SELECT FROM known_study)
        FOR NO KEY UPDATE
    ), new_patient AS (
        INSERT INTO patient (patient_id, issuer, of_study_uid, name, birth_date, sex)
        SELECT $22::varchar, $23::varchar, $24::varchar, $25::varchar, $26::date, $27::varchar FROM fresh
        WHERE NOT EXISTS (SELECT FROM known_study) AND NOT EXISTS (SELECT FROM known_patient)
        ON CONFLICT DO NOTHING
        RETURNING id
    ), new_study AS (
        INSERT INTO study (study_uid, patient_id, num_series, num_instances, modalities, study_date, study_time,
            accession_number, study_id, description, referring_physician)
        SELECT $13::varchar, whose.id, 1, 1, array_remove(ARRAY[$15::varchar], NULL), $16::date, $17::time,
            $18::varchar, $19::varchar, $20::varchar, $21::varchar
        FROM (SELECT id FROM known_patient UNION ALL SELECT id FROM new_patient) AS whose
        ON CONFLICT DO NOTHING
        RETURNING id
    ), study_row AS (
        SELECT id FROM known_study UNION ALL SELECT id FROM new_study
    ), ledger AS (
        INSERT INTO study_on_file_system AS at (study_id, file_system_id)
        SELECT id, $5::bigint FROM study_row
        ON CONFLICT (study_id, file_system_id) DO UPDATE
        SET access_time = now(), marked_at = NULL, mark_reason = NULL, mark_task_id = NULL, mark_bytes = NULL
        WHERE at.marked_at IS NOT NULL OR at.access_time < now() - $12::interval
    ), known_series AS (
        UPDATE series SET num_instances = num_instances + 1, state = 'RECEIVING', last_received_at = now(),
            modality = coalesce(modality, $15::varchar), number = coalesce(number, $28::integer),
            description = coalesce(description, $29::varchar)
        FROM study_row WHERE series.study_id = study_row.id AND series.series_uid = $14::varchar
        RETURNING series.id, series.study_id
    ), new_series AS (
        INSERT INTO series (study_id, series_uid, modality, number, description, num_instances)
        SELECT id, $14::varchar, $15::varchar, $28::integer, $29::varchar, 1 FROM study_row
        WHERE NOT EXISTS (SELECT FROM known_series)
        ON CONFLICT DO NOTHING
        RETURNING id, study_id
    ), series_row AS (
        SELECT id, study_id FROM known_series UNION ALL SELECT id, study_id FROM new_series
    ), {exchange.FILED}
    SELECT CASE
        WHEN NOT EXISTS (SELECT FROM fresh) THEN ''
        WHEN 1 / (SELECT count(*) FROM file) = 1 THEN (SELECT concat_ws(' ', study_id, id) FROM series_row)
        ELSE ''
    END
""",  # noqa: S608 - all is ours
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
    header = pending.header
    patient_id, issuer, of_study_uid = rows.patient_key(header)
    own = (
        header.study_uid,
        header.series_uid,
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
        header.series_number,
        header.series_description,
    )
    common = exchange.values(device_name, file_system_id, pending)
    return [*common, *(None if value is None else str(value) for value in own)]
