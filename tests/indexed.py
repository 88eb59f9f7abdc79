"""Studies in the index without files: what queries and the making of tasks need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archive import db
from archive.model import Instance, Patient, Series, Study
from tests import factories

#: In the order in which rows refer to each other.
_TABLES = ("instance", "series", "study", "patient")

#: Series Instance UID -> SOP Instance UIDs.
Content = Mapping[str, Sequence[str]]


def empty() -> None:
    """Delete the index."""
    for table in _TABLES:
        factories.sql(f"DELETE FROM {table}")


def study(uid: str, content: Content | None = None, *, patient: Mapping[str, Any] | None = None, **values: Any) -> None:
    """Index a study with its series and objects; `modality` is that of all its series."""
    modality = values.pop("modality", "CT")
    with db.transaction() as session:
        who = Patient(**{"patient_id": f"P{uid}", **(patient or {})})
        session.add(who)
        session.flush()
        made = Study(study_uid=uid, patient_id=who.id, **{"modalities": [modality], **values})
        session.add(made)
        session.flush()
        for number, (series_uid, sop_uids) in enumerate((content or {}).items(), 1):
            series = Series(study_id=made.id, series_uid=series_uid, modality=modality, number=number)
            session.add(series)
            session.flush()
            session.add_all(
                Instance(series_id=series.id, sop_uid=sop_uid, sop_class_uid="1.2.840.10008.5.1.4.1.1.2", number=place)
                for place, sop_uid in enumerate(sop_uids, 1)
            )
