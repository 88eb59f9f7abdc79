"""Patient, study, series, instance: what the received objects say about themselves."""

from __future__ import annotations

from datetime import date, datetime, time
from enum import StrEnum

from sqlalchemy import DateTime, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from archive.db import Base
from archive.model import columns


class SeriesState(StrEnum):
    """Whether more objects of a series are to be expected."""

    #: Objects came, and neither has the association closed nor has it been silent.
    RECEIVING = "RECEIVING"
    #: The association or import closed, or 60 s passed without an object.
    STORED = "STORED"


class Patient(Base):
    """A patient as the first object of the first study named him. Source: PS3.3 C.7.1.1."""

    __tablename__ = "patient"
    __table_args__ = (
        UniqueConstraint("patient_id", "issuer", "of_study_uid"),
        Index(None, "name"),
        {"comment": "Patients, told apart by Patient ID and its issuer"},
    )

    id: Mapped[int] = columns.number("Number of the patient here")
    patient_id: Mapped[str] = mapped_column(comment="Patient ID (0010,0020); empty: objects have none")
    issuer: Mapped[str] = mapped_column(server_default="", comment="Issuer of Patient ID (0010,0021) or empty")
    of_study_uid: Mapped[str] = mapped_column(
        server_default="",
        comment="Study of a patient without ID, so that two of those are never taken for one; else empty",
    )
    name: Mapped[str | None] = mapped_column(comment="Patient's Name (0010,0010), groups separated by =")
    birth_date: Mapped[date | None] = mapped_column(comment="Patient's Birth Date (0010,0030)")
    sex: Mapped[str | None] = mapped_column(comment="Patient's Sex (0010,0040)")
    created_at: Mapped[datetime] = columns.instant("When the first object of this patient was indexed")


class Study(Base):
    """A study; what its first object said, gaps filled by later ones. Source: PS3.3 C.7.2.1."""

    __tablename__ = "study"
    __table_args__ = (
        Index(None, "patient_id"),
        Index(None, "accession_number"),
        Index(None, "study_date"),
        {"comment": "Studies, kept when their files are gone"},
    )

    id: Mapped[int] = columns.number("Number of the study here")
    study_uid: Mapped[str] = mapped_column(String(64), unique=True, comment="Study Instance UID (0020,000D)")
    patient_id: Mapped[int] = mapped_column(ForeignKey("patient.id"), comment="Whose study it is")
    study_date: Mapped[date | None] = mapped_column(comment="Study Date (0008,0020)")
    study_time: Mapped[time | None] = mapped_column(comment="Study Time (0008,0030), local to the sender")
    accession_number: Mapped[str | None] = mapped_column(comment="Accession Number (0008,0050)")
    study_id: Mapped[str | None] = mapped_column(comment="Study ID (0020,0010)")
    description: Mapped[str | None] = mapped_column(comment="Study Description (0008,1030)")
    referring_physician: Mapped[str | None] = mapped_column(comment="Referring Physician's Name (0008,0090)")
    num_series: Mapped[int] = mapped_column(server_default="0", comment="Series indexed")
    num_instances: Mapped[int] = mapped_column(server_default="0", comment="Instances indexed")
    modalities: Mapped[list[str]] = mapped_column(
        ARRAY(String), server_default=text("'{}'"), comment="Modalities of its series, sorted, each once"
    )
    created_at: Mapped[datetime] = columns.instant("When its first object was indexed")
    updated_at: Mapped[datetime] = columns.instant("When an instance was last added")


class Series(Base):
    """A series, and whether it is still being received. Source: PS3.3 C.7.3.1."""

    __tablename__ = "series"
    __table_args__ = (
        UniqueConstraint("study_id", "series_uid"),
        Index(None, "last_received_at", postgresql_where=text("state = 'RECEIVING'")),
        {"comment": "Series of the studies"},
    )

    id: Mapped[int] = columns.number("Number of the series here")
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), comment="The study it is in")
    series_uid: Mapped[str] = mapped_column(String(64), comment="Series Instance UID (0020,000E), unique in its study")
    modality: Mapped[str | None] = mapped_column(comment="Modality (0008,0060)")
    number: Mapped[int | None] = mapped_column(comment="Series Number (0020,0011)")
    description: Mapped[str | None] = mapped_column(comment="Series Description (0008,103E)")
    num_instances: Mapped[int] = mapped_column(server_default="0", comment="Instances indexed")
    state: Mapped[SeriesState] = mapped_column(
        columns.choice(SeriesState), server_default="RECEIVING", comment="RECEIVING or STORED"
    )
    last_received_at: Mapped[datetime] = columns.instant("When its latest object was stored")
    created_at: Mapped[datetime] = columns.instant("When its first object was indexed")
    stored_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="When it last became STORED; null: not yet"
    )


class Instance(Base):
    """An object, whether or not a file of it is still here. Source: PS3.3 C.12.1."""

    __tablename__ = "instance"
    __table_args__ = (
        Index(None, "series_id"),
        {"comment": "Objects, whether or not their files are still here"},
    )

    id: Mapped[int] = columns.number("Number of the instance here")
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), comment="The series it is in")
    sop_uid: Mapped[str] = mapped_column(String(64), unique=True, comment="SOP Instance UID (0008,0018)")
    sop_class_uid: Mapped[str] = mapped_column(String(64), comment="SOP Class UID (0008,0016)")
    number: Mapped[int | None] = mapped_column(comment="Instance Number (0020,0013)")
    created_at: Mapped[datetime] = columns.instant("When it was indexed")
