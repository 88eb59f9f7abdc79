"""CSV of very many tasks, written by the database: COPY is five times as fast as Python's own lines.

Each column is said twice, here in SQL and in `shape` for Python; a test compares them byte by byte. Kinds whose
columns are not all known here are written by Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import TextClause

from api.rest import shape as shapes
from api.rest.shape import Shape
from tasks import query as queries
from tasks.query import Page, TaskQuery

#: Bytes that are sent at once, about.
_CHUNK = 256 * 1024


def _instant(column: str, pattern: str = 'YYYY-MM-DD"T"HH24\\:MI\\:SS.MSTZHTZM') -> str:
    return f"to_char({column}, '{pattern}')"


#: Common columns, in the time zone of the session.
_COMMON: Mapping[str, str] = {
    "taskID": "id",
    "createdTime": _instant("created_time"),
    "updatedTime": _instant("updated_time"),
    "scheduledTime": _instant("scheduled_time", "YYYY-MM-DD HH24\\:MI\\:SS.MS"),
    "processingStartTime": _instant("started_time"),
    "processingEndTime": _instant("ended_time"),
    "batchID": "batch_id",
    "dicomDeviceName": "device",
    "queue": "queue",
    "status": "status",
    "failures": "nullif(failures, 0)",
    "errorMessage": "error_message",
    "outcomeMessage": "outcome_message",
    "LocalAET": "local_aet",
    "StudyInstanceUID": "study_uid",
    "SeriesInstanceUID": "series_uid",
    "SOPInstanceUID": "sop_uid",
}

_PEERS = {"RemoteAET": "remote_aet", "DestinationAET": "destination_aet"}


def _progress(*names: str) -> dict[str, str]:
    return {name: f"coalesce(progress->>'{name}', '0')" for name in names}


def _joined(array: str, order: str = "") -> str:
    """Return what joins the items of an array by a backslash; NULL if there are none, or it is no array."""
    items = f"CASE jsonb_typeof({array}) WHEN 'array' THEN {array} END"
    each = f"SELECT item FROM jsonb_array_elements_text({items}) AS found(item) {order}"  # noqa: S608  # ours, all of it
    joined = f"array_to_string(ARRAY({each}), '\\')"
    return f"CASE WHEN jsonb_array_length({items}) > 0 THEN {joined} END"


#: -1: nothing is known yet of a run that has begun.
_STATUS_CODE = "coalesce(CAST(progress->>'statusCode' AS int), CASE WHEN started_time IS NULL THEN 0 ELSE -1 END)"

#: Columns of a kind.
_OF_KIND: Mapping[str, Mapping[str, str]] = {
    "EXPORT": {
        "ExporterID": "exporter_id",
        "NumberOfInstances": "progress->>'numInstances'",
        "Modality": _joined("progress->'modalities'"),
    },
    "RETRIEVE": {
        **_PEERS,
        **_progress("completed", "failed", "warning"),
        "remaining": "coalesce(progress->>'remaining', CASE WHEN started_time IS NULL THEN '0' ELSE '-1' END)",
        "statusCode": f"CASE WHEN {_STATUS_CODE} <> -1 THEN lpad(upper(to_hex({_STATUS_CODE} & 65535)), 4, '0') END",
        "errorComment": "progress->>'errorComment'",
    },
    "STGVER": {
        **_progress("completed", "failed"),
        "StgCmtPolicy": "params->>'policy'",
        "UpdateLocationStatus": "coalesce(params->>'updateLocationStatus', 'null')",
        "StorageID": _joined("params->'storageIDs'", 'ORDER BY item COLLATE "C"'),
    },
    "DIFF": {
        **_progress("matches", "missing", "different"),
        "PrimaryAET": "remote_aet",
        "SecondaryAET": "destination_aet",
        "QueryString": "params->>'queryString'",
        "comparefield": "params->>'comparefield'",
        "checkMissing": "coalesce(params->>'checkMissing', 'false')",
        "checkDifferent": "coalesce(params->>'checkDifferent', 'false')",
    },
    "DELETE_STUDY": {
        "FileSystemID": "params->>'fileSystemID'",
        "FileSystemPath": "params->>'fileSystem'",
        "FileSystemGroupID": "params->>'group'",
        "Trigger": "params->>'trigger'",
        "Bytes": "params->>'bytes'",
    },
}


def can_write(shape: Shape, zone: tzinfo) -> bool:
    """Tell whether the database can write the CSV of a kind, with times in this zone."""
    known = _expressions(shape)
    return _name_of(zone) is not None and all(column in known for column in shape.columns)


def parts(
    session: Session, wanted: TaskQuery, page: Page, shape: Shape, zone: tzinfo, delimiter: str
) -> Iterator[bytes]:
    """Yield the lines of a page, the names of the columns first, in parts; memory stays flat."""
    name = _name_of(zone)
    session.execute(text("SELECT set_config('timezone', :zone, true)"), {"zone": name})
    held: list[Any] = [shapes.csv_line(shape.columns, delimiter).encode()[:-2]]
    size = 0
    statement, values = _statement(wanted, page, shape, delimiter)
    connection: Any = session.connection().connection.driver_connection
    with connection.cursor() as cursor, cursor.copy(statement, values) as copy:
        for line in copy:
            # The database ends a line with a line feed alone.
            held.append(line[:-1])
            size += len(line)
            if size >= _CHUNK:
                yield b"\r\n".join([*held, b""])
                held, size = [], 0
    yield b"\r\n".join([*held, b""])


def _statement(wanted: TaskQuery, page: Page, shape: Shape, delimiter: str) -> tuple[str, dict[str, Any]]:
    known = _expressions(shape)
    columns: list[TextClause] = [text(known[column]) for column in shape.columns]
    chosen = queries.ordered(select(*columns), wanted, page)
    dialect = postgresql.psycopg.dialect()  # type: ignore[no-untyped-call]
    compiled = chosen.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    return f"COPY ({compiled}) TO STDOUT (FORMAT csv, FORCE_QUOTE *, DELIMITER '{delimiter}')", dict(compiled.params)


def _expressions(shape: Shape) -> Mapping[str, str]:
    own = _OF_KIND.get(shape.kind, {})
    # What a kind writes in its own way, it must also have here.
    return {**{name: sql for name, sql in _COMMON.items() if name not in shape.cells}, **own}


def _name_of(zone: tzinfo) -> str | None:
    if zone is UTC:
        return "UTC"
    return zone.key if isinstance(zone, ZoneInfo) else None
