"""Rows of patients, studies, series, instances and files: found or inserted, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple, cast

from sqlalchemy import Table, bindparam, delete, func, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from archive import db, ledger, model
from archive.storage import files
from archive.storage.header import Header
from archive.storage.turns import Raced

_PATIENT_KEY = ("patient_id", "issuer", "of_study_uid")
_STUDY_KEY = ("study_uid",)
_SERIES_KEY = ("study_id", "series_uid")

_Key = tuple[Any, ...]
_Row = dict[str, Any]


class Pending(NamedTuple):
    """A file on disk that the index does not have yet."""

    header: Header
    written: files.Written
    #: Its entry of reason `storing`.
    unlink_id: int
    #: AE title that sent it; None: it was imported.
    source: str | None = None


class Place(NamedTuple):
    """The rows that an object was indexed in."""

    study_id: int
    series_id: int


def add(session: Session, file_system_id: int, taken: Sequence[Pending], before: Set[str]) -> dict[str, Place]:
    """Insert what is missing, always in the same order: studies, patients, series, instances, files.

    `before` are the SOP Instance UIDs that are indexed already; `taken` has none twice.

    Returns:
        The places of the objects by SOP Instance UID.

    Raises:
        Raced: another process inserted one of the instances meanwhile.
    """
    headers = [p.header for p in taken]
    studies = _studies(session, headers)
    series_rows = {(studies[(h.study_uid,)], h.series_uid): _series_row(h) for h in reversed(headers)}
    series, new_series = _find_or_add(session, model.Series, _SERIES_KEY, series_rows)
    of_object = {h.sop_uid: series[(studies[(h.study_uid,)], h.series_uid)] for h in headers}
    new = sorted((h for h in headers if h.sop_uid not in before), key=lambda h: h.sop_uid)
    instances = _instances(session, new, of_object, [h for h in headers if h.sop_uid in before])
    session.execute(
        insert(model.File),
        [
            {
                "instance_id": instances[p.header.sop_uid],
                "file_system_id": file_system_id,
                "path": p.written.path,
                "size_bytes": p.written.size_bytes,
                "sha256": p.written.sha256,
                "transfer_syntax_uid": p.header.transfer_syntax_uid,
                "source": p.source,
            }
            for p in taken
        ],
    )
    per_series = Counter(of_object[h.sop_uid] for h in new)
    _count_series(session, {series[key]: row for key, row in series_rows.items()}, per_series)
    _count_studies(session, headers, studies, Counter(key[0] for key in new_series), new)
    ledger.touch(session, studies.values(), file_system_id)
    return {h.sop_uid: Place(studies[(h.study_uid,)], of_object[h.sop_uid]) for h in headers}


def filled_by(header: Header) -> set[str]:
    """Return the names of the columns of study and series that an object has a value for."""
    rows_of = {**_renamed(_study_row(header)), **_series_row(header)}
    return {name for name, value in rows_of.items() if value is not None}


def lock_studies(session: Session, study_uids: Iterable[str]) -> None:
    """Keep others, deleters among them, from the studies of these that are indexed; always the first lock."""
    studies = select(model.Study.id).where(model.Study.study_uid.in_(list(study_uids)))
    session.execute(studies.order_by(model.Study.study_uid).with_for_update(key_share=True)).all()


def retire_files(session: Session, sop_uids: Iterable[str]) -> None:
    """Move all files of these objects, on whichever file system, from the index to the unlink list.

    The ledger forgets where nothing of a study is left. The studies are locked.
    """
    of_objects = select(model.Instance.id).where(model.Instance.sop_uid.in_(list(sop_uids)))
    gone = delete(model.File).where(model.File.instance_id.in_(of_objects))
    columns = ("file_system_id", "path", "size_bytes")
    files_gone = session.execute(gone.returning(*(getattr(model.File, name) for name in columns))).all()
    if not files_gone:
        return
    values = [{**dict(zip(columns, row, strict=True)), "reason": model.UnlinkReason.REPLACED} for row in files_gone]
    session.execute(insert(model.Unlink).on_conflict_do_nothing(), values)
    ledger_row, copy = model.StudyOnFileSystem, model.File
    studies = select(model.Series.study_id).join(model.Instance, model.Instance.series_id == model.Series.id)
    still_there = (
        select(copy.id)
        .join(model.Instance, model.Instance.id == copy.instance_id)
        .join(model.Series, model.Series.id == model.Instance.series_id)
        .where(model.Series.study_id == ledger_row.study_id, copy.file_system_id == ledger_row.file_system_id)
        .exists()
    )
    session.execute(
        delete(ledger_row).where(
            ledger_row.study_id.in_(studies.where(model.Instance.id.in_(of_objects))),
            ledger_row.file_system_id.in_({row.file_system_id for row in files_gone}),
            ~still_there,
        )
    )


def _studies(session: Session, headers: Sequence[Header]) -> dict[_Key, int]:
    """Return the numbers of the studies by UID; a patient is looked at only for a new study."""
    first = {(h.study_uid,): h for h in reversed(headers)}
    found = _find(session, model.Study, _STUDY_KEY, first)
    missing = {key: h for key, h in first.items() if key not in found}
    if not missing:
        return found
    patients, _ = _find_or_add(
        session, model.Patient, _PATIENT_KEY, {patient_key(h): _patient_row(h) for h in missing.values()}
    )
    rows = {key: {**_study_row(h), "patient_id": patients[patient_key(h)]} for key, h in missing.items()}
    added, _ = _find_or_add(session, model.Study, _STUDY_KEY, rows)
    return found | added


def _instances(
    session: Session, new: Sequence[Header], of_object: Mapping[str, int], again: Sequence[Header]
) -> dict[str, int]:
    """Insert new instances, correct those that are taken again; return the numbers of both."""
    numbers: dict[str, int] = {}
    for header in again:
        there = update(model.Instance).where(model.Instance.sop_uid == header.sop_uid)
        corrected = there.values(sop_class_uid=header.sop_class_uid, number=header.instance_number)
        numbers.update(session.execute(corrected.returning(model.Instance.sop_uid, model.Instance.id)).all())
    if new:
        values = [
            {
                "series_id": of_object[h.sop_uid],
                "sop_uid": h.sop_uid,
                "sop_class_uid": h.sop_class_uid,
                "number": h.instance_number,
            }
            for h in new
        ]
        statement = insert(model.Instance).on_conflict_do_nothing()
        added = session.execute(statement.returning(model.Instance.sop_uid, model.Instance.id), values)
        numbers.update(added.all())
    if len(numbers) != len(new) + len(again):
        raise Raced
    return numbers


def _find_or_add(
    session: Session, table: type[db.Base], key: tuple[str, ...], rows: Mapping[_Key, _Row]
) -> tuple[dict[_Key, int], set[_Key]]:
    """Return the numbers of rows by key, locked, inserting what is missing; and which were inserted."""
    found = _find(session, table, key, rows)
    missing = sorted(set(rows) - set(found))
    if not missing:
        return found, set()
    values = [{**rows[k], **dict(zip(key, k, strict=True))} for k in missing]
    columns = [getattr(table, name) for name in ("id", *key)]
    statement = insert(table).on_conflict_do_nothing().returning(*columns)
    added = {tuple(row[1:]): int(row[0]) for row in session.execute(statement, values)}
    if len(added) < len(missing):
        # Another process inserted them, and our insert has waited for its commit.
        found |= _find(session, table, key, set(missing) - set(added))
    return found | added, set(added)


def _find(session: Session, table: type[db.Base], key: tuple[str, ...], wanted: Iterable[_Key]) -> dict[_Key, int]:
    """Return the numbers of the rows with these keys; locks them in the order of the keys."""
    columns = [getattr(table, name) for name in key]
    rows = (
        select(getattr(table, "id"), *columns)  # noqa: B009  Base declares no id
        .where(tuple_(*columns).in_(sorted(wanted)))
        .order_by(*columns)
        .with_for_update(key_share=True)
    )
    return {tuple(row[1:]): int(row[0]) for row in session.execute(rows)}


def _count_series(session: Session, rows: Mapping[int, _Row], new_instances: Counter[int]) -> None:
    """Add to the counters of series, fill gaps, and note that they are being received."""
    table = cast(Table, model.Series.__table__)
    statement = (
        update(table)
        .where(table.c.id == bindparam("row_id"))
        .values(
            num_instances=table.c.num_instances + bindparam("more"),
            state=model.SeriesState.RECEIVING,
            last_received_at=func.now(),
            **_filled(table, ("modality", "number", "description")),
        )
    )
    values = [{"row_id": number, "more": new_instances[number], **_renamed(rows[number])} for number in sorted(rows)]
    session.connection().execute(statement, values)


def _count_studies(
    session: Session,
    headers: Sequence[Header],
    studies: Mapping[_Key, int],
    new_series: Counter[int],
    new: Sequence[Header],
) -> None:
    """Add to the counters and modalities of studies, and fill gaps."""
    table = cast(Table, model.Study.__table__)
    merged = (
        "ARRAY(SELECT DISTINCT m FROM unnest(study.modalities || CAST(:new_modalities AS varchar[])) AS m ORDER BY m)"
    )
    first = {h.study_uid: _study_row(h) for h in reversed(headers)}
    statement = (
        update(table)
        .where(table.c.id == bindparam("row_id"))
        .values(
            num_series=table.c.num_series + bindparam("more_series"),
            num_instances=table.c.num_instances + bindparam("more"),
            modalities=text(merged),
            updated_at=func.now(),
            **_filled(table, tuple(next(iter(first.values())))),
        )
    )
    per_study = Counter(h.study_uid for h in new)
    values = [
        {
            "row_id": studies[(uid,)],
            "more_series": new_series[studies[(uid,)]],
            "more": per_study[uid],
            "new_modalities": sorted({h.modality for h in headers if h.study_uid == uid and h.modality}),
            **_renamed(first[uid]),
        }
        for uid in sorted(first)
    ]
    session.connection().execute(statement, values)


def _filled(table: Table, names: Iterable[str]) -> dict[str, Any]:
    return {name: func.coalesce(table.c[name], bindparam(f"new_{name}", type_=table.c[name].type)) for name in names}


def _renamed(row: _Row) -> _Row:
    return {f"new_{name}": value for name, value in row.items()}


def patient_key(header: Header) -> _Key:
    """Return what tells the patient from others: Patient ID, its issuer, and the study if there is no Patient ID."""
    return (header.patient_id, header.issuer, "" if header.patient_id else header.study_uid)


def _patient_row(header: Header) -> _Row:
    return {"name": header.patient_name, "birth_date": header.birth_date, "sex": header.sex}


def _study_row(header: Header) -> _Row:
    return {
        "study_date": header.study_date,
        "study_time": header.study_time,
        "accession_number": header.accession_number,
        "study_id": header.study_id,
        "description": header.study_description,
        "referring_physician": header.referring_physician,
    }


def _series_row(header: Header) -> _Row:
    return {
        "modality": header.modality,
        "number": header.series_number,
        "description": header.series_description,
    }
