"""The first tables: what the archive holds, tasks and runs, control, access."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import UserDefinedType

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


class Xid8(UserDefinedType[str]):
    """A transaction id that never wraps around."""

    def get_col_spec(self, **_kw: Any) -> str:
        return "xid8"


def upgrade() -> None:
    op.create_table(
        "accepted_message",
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("task_ids", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("refused", sa.Text(), nullable=True, comment="why it was refused; NULL: accepted"),
        sa.Column("at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_accepted_message")),
    )
    op.create_table(
        "api_token",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="who uses it; the user of audit entries"),
        sa.Column("sha256", sa.Text(), nullable=False, comment="of the token, 64 hexadecimal digits"),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("revoked_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_used_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("role IN ('reader', 'submitter', 'operator', 'admin')", name=op.f("ck_api_token_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_token")),
        sa.UniqueConstraint("name", name=op.f("uq_api_token_name")),
        sa.UniqueConstraint("sha256", name=op.f("uq_api_token_sha256")),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "user", sa.Text(), nullable=False, comment="name of the token, or of the account on the machine itself"
        ),
        sa.Column("host", sa.Text(), nullable=False, comment="address that the request came from"),
        sa.Column("action", sa.Text(), nullable=False, comment="RescheduleTasks, CancelTask, AddToken, ..."),
        sa.Column(
            "what", sa.Text(), nullable=False, comment="the object: task id, filter as it was given, device, ..."
        ),
        sa.Column("count", sa.Integer(), nullable=True, comment="objects changed"),
        sa.Column("failed", sa.Integer(), nullable=True, comment="objects refused"),
        sa.Column("outcome", sa.Text(), nullable=True, comment="NULL: done; 'not finished'; else the error"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_at", "audit", ["at"], unique=False)
    op.create_table(
        "bytes_received",
        sa.Column("device_name", sa.String(), nullable=False, comment="The device that received"),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False, comment="Begin of the hour (UTC)"),
        sa.Column("source", sa.String(), nullable=False, comment="AE title that sent"),
        sa.Column(
            "size_bytes", sa.BigInteger(), server_default="0", nullable=False, comment="Bytes stored in the hour"
        ),
        sa.Column(
            "num_objects", sa.Integer(), server_default="0", nullable=False, comment="Objects stored in the hour"
        ),
        sa.PrimaryKeyConstraint("device_name", "hour", "source", name=op.f("pk_bytes_received")),
        comment="Bytes received by C-STORE per device, hour and source; no imports, no copies",
    )
    op.create_table(
        "cluster_identity",
        sa.Column("id", sa.Uuid(as_uuid=False), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column(
            "epoch",
            sa.Uuid(as_uuid=False),
            server_default=sa.text("gen_random_uuid()"),
            nullable=False,
            comment="new after a restore: cursors end",
        ),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cluster_identity")),
    )
    op.create_table(
        "config_snapshot",
        sa.Column(
            "id",
            sa.BigInteger(),
            sa.Identity(always=False),
            nullable=False,
            comment="In the order in which they came into use",
        ),
        sa.Column("sha256", sa.String(length=64), nullable=False, comment="Of the entries, hexadecimal"),
        sa.Column("source_url", sa.Text(), nullable=False, comment="Where they were read, without secrets"),
        sa.Column(
            "entries",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="dn and attributes of each entry; a value that is no text is an object with base64",
        ),
        sa.Column(
            "loaded_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was first read",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_config_snapshot")),
    )
    op.create_table(
        "destination",
        sa.Column("name", sa.Text(), nullable=False, comment="dicom:PACS, stow:NAME, file:/folder"),
        sa.Column("cap", sa.Integer(), nullable=True, comment="runs at once in the whole cluster; NULL: any"),
        sa.Column("held_by", sa.Text(), nullable=True),
        sa.Column("held_why", sa.Text(), nullable=True),
        sa.Column("held_since", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("held_until", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column(
            "failures",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="connection failures in a row",
        ),
        sa.Column(
            "open_until",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="circuit breaker: nothing before this",
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_destination")),
    )
    op.create_table(
        "file_system",
        sa.Column(
            "id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Number of the file system"
        ),
        sa.Column("path", sa.String(), nullable=False, comment="Absolute path of its root"),
        sa.Column("owner_device", sa.String(), nullable=False, comment="The device that writes and unlinks here"),
        sa.Column("group_id", sa.String(), nullable=False, comment="File-system group of the owner"),
        sa.Column(
            "status",
            sa.Enum(
                "RW+",
                "RW",
                "RO",
                "PENDING",
                name="filesystemstatus_known",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=False,
            comment="RW+ (current), RW, RO or PENDING",
        ),
        sa.Column(
            "availability",
            sa.Enum(
                "ONLINE",
                "NEARLINE",
                "OFFLINE",
                "UNAVAILABLE",
                name="availability_known",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=False,
            comment="ONLINE, NEARLINE, OFFLINE or UNAVAILABLE",
        ),
        sa.Column(
            "retrieve_ae_title", sa.String(), nullable=False, comment="AE title from which its objects are retrieved"
        ),
        sa.Column("user_information", sa.String(), nullable=True, comment="Free text of the operator"),
        sa.Column(
            "next_id",
            sa.BigInteger(),
            nullable=True,
            comment="The one to switch to when this is full; null: end of the chain",
        ),
        sa.Column("marker", sa.Uuid(), nullable=False, comment="UUID in its marker file"),
        sa.Column(
            "shared_with",
            postgresql.ARRAY(sa.String()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="Further devices that mount it under the same path",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was added",
        ),
        sa.ForeignKeyConstraint(["next_id"], ["file_system.id"], name=op.f("fk_file_system_next_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_file_system")),
        sa.UniqueConstraint("marker", name=op.f("uq_file_system_marker")),
        sa.UniqueConstraint("path", name=op.f("uq_file_system_path")),
        comment="File systems of the devices' groups; only the owner writes and unlinks",
    )
    op.create_index(
        op.f("ix_file_system_owner_device_group_id"), "file_system", ["owner_device", "group_id"], unique=False
    )
    op.create_index(
        "uq_file_system_current",
        "file_system",
        ["owner_device", "group_id"],
        unique=True,
        postgresql_where=sa.text("status = 'RW+'"),
    )
    op.create_table(
        "history",
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "xid",
            Xid8(),
            server_default=sa.text("pg_current_xact_id()"),
            nullable=False,
            comment="followers read only what is below xmin",
        ),
        sa.Column("at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("first_id", sa.BigInteger(), nullable=False, comment="lowest task id; no foreign key"),
        sa.Column("last_id", sa.BigInteger(), nullable=False, comment="highest task id"),
        sa.Column("task_ids", postgresql.ARRAY(sa.BigInteger()), nullable=True, comment="NULL: first_id alone"),
        sa.Column("from_status", sa.Text(), nullable=True),
        sa.Column("to_status", sa.Text(), nullable=True, comment="NULL: deleted"),
        sa.Column("from_device", sa.Text(), nullable=True),
        sa.Column("to_device", sa.Text(), nullable=True),
        sa.Column("run_id", sa.BigInteger(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False, comment="user@host, worker node, or beat"),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("operation_id", sa.Text(), nullable=True, comment="of a bulk call"),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_history")),
    )
    op.create_index("ix_history_at", "history", ["at"], unique=False)
    op.create_index("ix_history_feed", "history", ["xid", "seq"], unique=False)
    op.create_index(
        "ix_history_span",
        "history",
        [sa.literal_column("int8range(first_id, last_id, '[]')")],
        unique=False,
        postgresql_using="gist",
        postgresql_where=sa.text("task_ids IS NOT NULL"),
    )
    op.create_index(
        "ix_history_task", "history", ["first_id"], unique=False, postgresql_where=sa.text("task_ids IS NULL")
    )
    op.create_table(
        "housekeeping_job",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("file_system_group", sa.Text(), server_default="", nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("interval_s", sa.Double(), nullable=False, comment="seconds between two runs"),
        sa.Column("next_run_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("sent_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("ended_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("result", sa.Text(), nullable=True, comment="one line: what was done, or the error"),
        sa.PrimaryKeyConstraint("device", "file_system_group", "job", name=op.f("pk_housekeeping_job")),
    )
    op.create_table(
        "idempotency_key",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("requester", sa.Text(), server_default="", nullable=False),
        sa.Column("request", sa.Text(), nullable=False, comment="method and URI; another request is a conflict"),
        sa.Column("task_ids", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("key", "requester", name=op.f("pk_idempotency_key")),
    )
    op.create_table(
        "leader",
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("until", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("role", name=op.f("pk_leader")),
    )
    op.create_table(
        "object_outcome",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False, comment="no foreign key, as with run.task_id"),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False, comment="round of the task when it was sent"),
        sa.Column("sop_uid", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False, comment="sent, warning, refused, unreadable, not reached"),
        sa.Column("status_code", sa.Integer(), nullable=True, comment="DIMSE or HTTP status"),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("began_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_object_outcome")),
    )
    op.create_index("ix_object_outcome_run", "object_outcome", ["run_id"], unique=False)
    op.create_index("ix_object_outcome_task", "object_outcome", ["task_id", "round", "sop_uid"], unique=False)
    op.create_table(
        "patient",
        sa.Column(
            "id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Number of the patient here"
        ),
        sa.Column(
            "patient_id", sa.String(), nullable=False, comment="Patient ID (0010,0020); empty: objects have none"
        ),
        sa.Column(
            "issuer",
            sa.String(),
            server_default="",
            nullable=False,
            comment="Issuer of Patient ID (0010,0021) or empty",
        ),
        sa.Column(
            "of_study_uid",
            sa.String(),
            server_default="",
            nullable=False,
            comment="Study of a patient without ID, so that two of those are never taken for one; else empty",
        ),
        sa.Column("name", sa.String(), nullable=True, comment="Patient's Name (0010,0010), groups separated by ="),
        sa.Column("birth_date", sa.Date(), nullable=True, comment="Patient's Birth Date (0010,0030)"),
        sa.Column("sex", sa.String(), nullable=True, comment="Patient's Sex (0010,0040)"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the first object of this patient was indexed",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient")),
        sa.UniqueConstraint(
            "patient_id", "issuer", "of_study_uid", name=op.f("uq_patient_patient_id_issuer_of_study_uid")
        ),
        comment="Patients, told apart by Patient ID and its issuer",
    )
    op.create_index(op.f("ix_patient_name"), "patient", ["name"], unique=False)
    op.create_table(
        "pause",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), server_default="", nullable=False, comment="'': all of them"),
        sa.Column(
            "draining",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="finish what runs, then stay",
        ),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("since", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("until", postgresql.TIMESTAMP(timezone=True), nullable=True, comment="NULL: until resumed"),
        sa.PrimaryKeyConstraint("device", "queue", name=op.f("pk_pause")),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("task_id", sa.BigInteger(), nullable=False, comment="no foreign key: a run outlives a deleted task"),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False, comment="1 to dcmMaxTasksParallel of the queue"),
        sa.Column("destination", sa.Text(), nullable=True, comment="what caps and breakers go by"),
        sa.Column("study_uid", sa.Text(), nullable=True, comment="the study that it reads: pins it"),
        sa.Column("token", sa.Uuid(as_uuid=False), nullable=False, comment="the message must carry this one"),
        sa.Column("came_from", sa.Text(), nullable=False, comment="status of the task when it was reserved"),
        sa.Column("reserved_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "sent_at", postgresql.TIMESTAMP(timezone=True), nullable=True, comment="last time that a message was sent"
        ),
        sa.Column("claimed_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("node_id", sa.BigInteger(), nullable=True, comment="the worker that claimed it"),
        sa.Column("lease_until", postgresql.TIMESTAMP(timezone=True), nullable=False, comment="over: the run is lost"),
        sa.Column("progress_at", postgresql.TIMESTAMP(timezone=True), nullable=True, comment="last sign of progress"),
        sa.Column("stop_asked_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("stop_reason", sa.Text(), nullable=True),
        sa.Column("stop_text", sa.Text(), nullable=True, comment="what the operator or the watchdog says"),
        sa.Column("ended_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("ending", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
    )
    op.create_index("ix_run_ended", "run", ["ended_at"], unique=False, postgresql_where=sa.text("ended_at IS NOT NULL"))
    op.create_index("ix_run_open_node", "run", ["node_id"], unique=False, postgresql_where=sa.text("ended_at IS NULL"))
    op.create_index("ix_run_task", "run", ["task_id"], unique=False)
    op.create_index(
        "uq_run_open_slot",
        "run",
        ["device", "queue", "slot"],
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index("uq_run_open_task", "run", ["task_id"], unique=True, postgresql_where=sa.text("ended_at IS NULL"))
    op.create_table(
        "task",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="taskID on the wire"),
        sa.Column("kind", sa.Text(), nullable=False, comment="EXPORT, RETRIEVE, DIFF, STGVER, DELETE_STUDY, ..."),
        sa.Column("device", sa.Text(), nullable=False, comment="device that shall run it, or ran it last"),
        sa.Column("queue", sa.Text(), nullable=False, comment="dcmQueueName"),
        sa.Column("status", sa.Text(), nullable=False, comment="written by tasks.store alone"),
        sa.Column(
            "priority", sa.SmallInteger(), server_default=sa.text("4"), nullable=False, comment="0 to 9, 9 first"
        ),
        sa.Column("scheduled_time", postgresql.TIMESTAMP(timezone=True), nullable=False, comment="earliest start"),
        sa.Column("created_time", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_time", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_time", postgresql.TIMESTAMP(timezone=True), nullable=True, comment="start of the last run"),
        sa.Column("ended_time", postgresql.TIMESTAMP(timezone=True), nullable=True, comment="end of the last run"),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="failed attempts"),
        sa.Column(
            "lost_leases", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="lost leases in a row"
        ),
        sa.Column(
            "round",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="objects confirmed in this round are not sent again",
        ),
        sa.Column("batch_id", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True, comment="text of the last exception"),
        sa.Column("outcome_message", sa.Text(), nullable=True, comment="text of the last outcome"),
        sa.Column("local_aet", sa.Text(), nullable=True),
        sa.Column("remote_aet", sa.Text(), nullable=True),
        sa.Column("destination_aet", sa.Text(), nullable=True),
        sa.Column("exporter_id", sa.Text(), nullable=True),
        sa.Column("destination", sa.Text(), nullable=True, comment="what caps, holds and breakers go by"),
        sa.Column("study_uid", sa.Text(), nullable=True),
        sa.Column("series_uid", sa.Text(), nullable=True),
        sa.Column("sop_uid", sa.Text(), nullable=True),
        sa.Column(
            "params",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="of its kind",
        ),
        sa.Column(
            "progress",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="of its kind",
        ),
        sa.Column("requester_user", sa.Text(), nullable=True),
        sa.Column("requester_host", sa.Text(), nullable=True),
        sa.Column("request_uri", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "status IN ('SCHEDULED', 'SCHEDULED FOR RETRY', 'IN PROCESS', 'COMPLETED', 'WARNING', 'FAILED', "
            "'CANCELED')",
            name=op.f("ck_task_status"),
        ),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name=op.f("ck_task_priority")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task")),
    )
    op.create_index(
        "ix_task_batch", "task", ["batch_id"], unique=False, postgresql_where=sa.text("batch_id IS NOT NULL")
    )
    op.create_index(
        "ix_task_due",
        "task",
        ["device", "queue", sa.literal_column("priority DESC"), "scheduled_time", "id"],
        unique=False,
        postgresql_where=sa.text("status IN ('SCHEDULED', 'SCHEDULED FOR RETRY')"),
    )
    op.create_index("ix_task_kind_status", "task", ["kind", "status"], unique=False)
    op.create_index("ix_task_kind_updated", "task", ["kind", "updated_time", "id"], unique=False)
    op.create_index(
        "ix_task_study", "task", ["study_uid"], unique=False, postgresql_where=sa.text("study_uid IS NOT NULL")
    )
    op.create_table(
        "worker_node",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="archive-a.1@host"),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False, comment="Celery queue that it consumes"),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("stopped_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worker_node")),
    )
    op.create_index("ix_worker_node_channel", "worker_node", ["channel", "seen_at"], unique=False)
    op.create_table(
        "study",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Number of the study here"),
        sa.Column("study_uid", sa.String(length=64), nullable=False, comment="Study Instance UID (0020,000D)"),
        sa.Column("patient_id", sa.BigInteger(), nullable=False, comment="Whose study it is"),
        sa.Column("study_date", sa.Date(), nullable=True, comment="Study Date (0008,0020)"),
        sa.Column("study_time", sa.Time(), nullable=True, comment="Study Time (0008,0030), local to the sender"),
        sa.Column("accession_number", sa.String(), nullable=True, comment="Accession Number (0008,0050)"),
        sa.Column("study_id", sa.String(), nullable=True, comment="Study ID (0020,0010)"),
        sa.Column("description", sa.String(), nullable=True, comment="Study Description (0008,1030)"),
        sa.Column("referring_physician", sa.String(), nullable=True, comment="Referring Physician's Name (0008,0090)"),
        sa.Column("num_series", sa.Integer(), server_default="0", nullable=False, comment="Series indexed"),
        sa.Column("num_instances", sa.Integer(), server_default="0", nullable=False, comment="Instances indexed"),
        sa.Column(
            "modalities",
            postgresql.ARRAY(sa.String()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="Modalities of its series, sorted, each once",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When its first object was indexed",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When an instance was last added",
        ),
        sa.ForeignKeyConstraint(["patient_id"], ["patient.id"], name=op.f("fk_study_patient_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study")),
        sa.UniqueConstraint("study_uid", name=op.f("uq_study_study_uid")),
        comment="Studies, kept when their files are gone",
    )
    op.create_index(op.f("ix_study_accession_number"), "study", ["accession_number"], unique=False)
    op.create_index(op.f("ix_study_patient_id"), "study", ["patient_id"], unique=False)
    op.create_index(op.f("ix_study_study_date"), "study", ["study_date"], unique=False)
    op.create_table(
        "unlink",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Number of the entry"),
        sa.Column("file_system_id", sa.BigInteger(), nullable=False, comment="Where the file lies"),
        sa.Column(
            "path", sa.String(), nullable=False, comment="Path below the root, separated by /; with .part while written"
        ),
        sa.Column(
            "reason",
            sa.Enum(
                "storing",
                "duplicate",
                "deleted",
                name="unlinkreason_known",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=False,
            comment="storing, duplicate or deleted",
        ),
        sa.Column(
            "size_bytes",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="Bytes that unlinking frees; 0 while storing",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the path was put on the list",
        ),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False, comment="How often unlinking failed"),
        sa.Column(
            "next_attempt_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="Not to be tried before; of storing: when it is stale",
        ),
        sa.Column("error", sa.String(), nullable=True, comment="Why the last attempt failed"),
        sa.ForeignKeyConstraint(["file_system_id"], ["file_system.id"], name=op.f("fk_unlink_file_system_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unlink")),
        sa.UniqueConstraint("file_system_id", "path", name=op.f("uq_unlink_file_system_id_path")),
        comment="Paths being written (so that a crash leaves no stray file) and paths to be unlinked",
    )
    op.create_index(
        op.f("ix_unlink_file_system_id_next_attempt_at"), "unlink", ["file_system_id", "next_attempt_at"], unique=False
    )
    op.create_table(
        "series",
        sa.Column(
            "id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Number of the series here"
        ),
        sa.Column("study_id", sa.BigInteger(), nullable=False, comment="The study it is in"),
        sa.Column(
            "series_uid",
            sa.String(length=64),
            nullable=False,
            comment="Series Instance UID (0020,000E), unique in its study",
        ),
        sa.Column("modality", sa.String(), nullable=True, comment="Modality (0008,0060)"),
        sa.Column("number", sa.Integer(), nullable=True, comment="Series Number (0020,0011)"),
        sa.Column("description", sa.String(), nullable=True, comment="Series Description (0008,103E)"),
        sa.Column("num_instances", sa.Integer(), server_default="0", nullable=False, comment="Instances indexed"),
        sa.Column(
            "state",
            sa.Enum(
                "RECEIVING", "STORED", name="seriesstate_known", native_enum=False, create_constraint=True, length=16
            ),
            server_default="RECEIVING",
            nullable=False,
            comment="RECEIVING or STORED",
        ),
        sa.Column(
            "last_received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When its latest object was stored",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When its first object was indexed",
        ),
        sa.Column(
            "stored_at", sa.DateTime(timezone=True), nullable=True, comment="When it last became STORED; null: not yet"
        ),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_series_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("study_id", "series_uid", name=op.f("uq_series_study_id_series_uid")),
        comment="Series of the studies",
    )
    op.create_index(
        op.f("ix_series_last_received_at"),
        "series",
        ["last_received_at"],
        unique=False,
        postgresql_where=sa.text("state = 'RECEIVING'"),
    )
    op.create_table(
        "study_on_file_system",
        sa.Column("study_id", sa.BigInteger(), nullable=False, comment="The study"),
        sa.Column("file_system_id", sa.BigInteger(), nullable=False, comment="Where files of it lie"),
        sa.Column(
            "access_time",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was last received, or read for others",
        ),
        sa.Column(
            "marked_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When it was marked for deletion; null: not marked",
        ),
        sa.Column("mark_reason", sa.String(), nullable=True, comment="Trigger and rules that led to the mark"),
        sa.Column(
            "mark_task_id",
            sa.BigInteger(),
            nullable=True,
            comment="DELETE_STUDY task of the mark; it counts only while that task is not done",
        ),
        sa.Column("mark_bytes", sa.BigInteger(), nullable=True, comment="Bytes that its deletion will free"),
        sa.ForeignKeyConstraint(
            ["file_system_id"], ["file_system.id"], name=op.f("fk_study_on_file_system_file_system_id")
        ),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_study_on_file_system_study_id")),
        sa.PrimaryKeyConstraint("study_id", "file_system_id", name=op.f("pk_study_on_file_system")),
        comment="Ledger of access per study and file system; carries the mark of the deleter",
    )
    op.create_index(
        op.f("ix_study_on_file_system_file_system_id_access_time"),
        "study_on_file_system",
        ["file_system_id", "access_time"],
        unique=False,
    )
    op.create_index(
        "ix_study_on_file_system_marked",
        "study_on_file_system",
        ["file_system_id"],
        unique=False,
        postgresql_where=sa.text("marked_at IS NOT NULL"),
    )
    op.create_table(
        "instance",
        sa.Column(
            "id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Number of the instance here"
        ),
        sa.Column("series_id", sa.BigInteger(), nullable=False, comment="The series it is in"),
        sa.Column("sop_uid", sa.String(length=64), nullable=False, comment="SOP Instance UID (0008,0018)"),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False, comment="SOP Class UID (0008,0016)"),
        sa.Column("number", sa.Integer(), nullable=True, comment="Instance Number (0020,0013)"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was indexed",
        ),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_instance_series_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance")),
        sa.UniqueConstraint("sop_uid", name=op.f("uq_instance_sop_uid")),
        comment="Objects, whether or not their files are still here",
    )
    op.create_index(op.f("ix_instance_series_id"), "instance", ["series_id"], unique=False)
    op.create_table(
        "file",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Number of the file"),
        sa.Column("instance_id", sa.BigInteger(), nullable=False, comment="The object it holds"),
        sa.Column("file_system_id", sa.BigInteger(), nullable=False, comment="Where it lies"),
        sa.Column(
            "path", sa.String(), nullable=False, comment="Path below the root of the file system, separated by /"
        ),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False, comment="Size in bytes as it was written"),
        sa.Column("sha256", sa.LargeBinary(), nullable=False, comment="SHA-256 of the whole file as it was written"),
        sa.Column(
            "transfer_syntax_uid", sa.String(length=64), nullable=False, comment="Transfer Syntax UID (0002,0010)"
        ),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was stored or copied",
        ),
        sa.Column(
            "status",
            sa.Enum(
                "DEFAULT",
                "ARCHIVED",
                "MISSING",
                "DIFFERS",
                "UNREADABLE",
                name="filestatus_known",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            server_default="DEFAULT",
            nullable=False,
            comment="DEFAULT and ARCHIVED count as copies",
        ),
        sa.Column(
            "checked_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When size and digest were last verified; null: never",
        ),
        sa.CheckConstraint("octet_length(sha256) = 32", name=op.f("ck_file_sha256_length")),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("ck_file_size")),
        sa.ForeignKeyConstraint(["file_system_id"], ["file_system.id"], name=op.f("fk_file_file_system_id")),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name=op.f("fk_file_instance_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_file")),
        sa.UniqueConstraint("file_system_id", "path", name=op.f("uq_file_file_system_id_path")),
        comment="Files of the instances, one row for each copy",
    )
    op.create_index(op.f("ix_file_instance_id"), "file", ["instance_id"], unique=False)
    # The one row that says who this cluster is.
    op.execute("INSERT INTO cluster_identity DEFAULT VALUES")
