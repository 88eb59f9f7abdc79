"""What receiving, sending and deleting brought: sources of files, deletions, protection, health, gentle caps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "study_deletion",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Number of the deletion"),
        sa.Column("study_uid", sa.String(length=64), nullable=False, comment="Study Instance UID (0020,000D)"),
        sa.Column("file_system_id", sa.BigInteger(), nullable=False, comment="The file system; no foreign key"),
        sa.Column(
            "file_system_path", sa.String(), nullable=False, comment="Path of its root when the study was deleted"
        ),
        sa.Column("device", sa.String(), nullable=False, comment="The device that owned it"),
        sa.Column("group_id", sa.String(), nullable=False, comment="Its file-system group"),
        sa.Column("num_files", sa.Integer(), nullable=False, comment="Files that were put on the unlink list"),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False, comment="Bytes of these files"),
        sa.Column(
            "access_time",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the study was last used on the file system",
        ),
        sa.Column(
            "trigger",
            sa.String(),
            nullable=False,
            comment="Why it was looked at: a rule of the group, or who asked how",
        ),
        sa.Column(
            "rules", postgresql.ARRAY(sa.String()), nullable=False, comment="Rules that were asked and let it go"
        ),
        sa.Column("task_id", sa.BigInteger(), nullable=False, comment="The DELETE_STUDY task; no foreign key"),
        sa.Column("who", sa.String(), nullable=False, comment="user@host, or the job that chose the study"),
        sa.Column(
            "remaining_copies",
            postgresql.ARRAY(sa.String()),
            nullable=False,
            comment="device/group: number of its objects with a good copy there",
        ),
        sa.Column(
            "deleted_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When its files lost their rows",
        ),
        sa.Column(
            "unlinked_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When the last of its files had left the disk; null: not yet",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study_deletion")),
        sa.UniqueConstraint("task_id", name=op.f("uq_study_deletion_task_id")),
        comment="Ledger of deletions, never purged; names instead of references, which may be gone one day",
    )
    op.create_index(op.f("ix_study_deletion_deleted_at"), "study_deletion", ["deleted_at"], unique=False)
    op.create_index(
        "ix_study_deletion_open",
        "study_deletion",
        ["device"],
        unique=False,
        postgresql_where=sa.text("unlinked_at IS NULL"),
    )
    op.create_index(op.f("ix_study_deletion_study_uid"), "study_deletion", ["study_uid"], unique=False)
    op.create_table(
        "file_system_report",
        sa.Column("file_system_id", sa.BigInteger(), nullable=False, comment="The file system"),
        sa.Column(
            "checked_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When its owner looked",
        ),
        sa.Column("problem", sa.String(), nullable=True, comment="Why it is not healthy; null: it is"),
        sa.Column("free_bytes", sa.BigInteger(), nullable=True, comment="Bytes that can be written; null: unknown"),
        sa.Column("total_bytes", sa.BigInteger(), nullable=True, comment="Size in bytes; null: unknown"),
        sa.ForeignKeyConstraint(
            ["file_system_id"],
            ["file_system.id"],
            name=op.f("fk_file_system_report_file_system_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("file_system_id", name=op.f("pk_file_system_report")),
        comment="Health and space of the file systems as their owners last saw them",
    )
    op.create_table(
        "study_protection",
        sa.Column("study_id", sa.BigInteger(), nullable=False, comment="The study"),
        sa.Column("who", sa.String(), nullable=False, comment="user@host"),
        sa.Column("why", sa.String(), nullable=True, comment="Shown to whoever wonders"),
        sa.Column(
            "since",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was protected",
        ),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_study_protection_study_id")),
        sa.PrimaryKeyConstraint("study_id", name=op.f("pk_study_protection")),
        comment="Studies that are kept on every file system, whatever the rules say",
    )
    op.add_column(
        "destination",
        sa.Column(
            "gentle_cap",
            sa.Integer(),
            nullable=True,
            comment="runs at once after the breaker was open, one more with each success; NULL: no limit but cap",
        ),
    )
    op.add_column(
        "destination",
        sa.Column("last_failure", sa.Text(), nullable=True, comment="what the last of the failures said; NULL: none"),
    )
    op.add_column(
        "destination", sa.Column("failed_at", postgresql.TIMESTAMP(timezone=True), nullable=True, comment="when it was")
    )
    op.add_column(
        "file",
        sa.Column(
            "source",
            sa.String(),
            nullable=True,
            comment="AE title that sent the object; null: it was imported. A copy has that of what it was copied from",
        ),
    )
    op.add_column(
        "object_outcome",
        sa.Column(
            "sha256", sa.Text(), nullable=True, comment="of the file that was sent; NULL where no file was known"
        ),
    )
    op.create_index(
        op.f("ix_study_on_file_system_mark_task_id"),
        "study_on_file_system",
        ["mark_task_id"],
        unique=False,
        postgresql_where=sa.text("mark_task_id IS NOT NULL"),
    )
    op.add_column(
        "unlink",
        sa.Column(
            "deletion_id",
            sa.BigInteger(),
            nullable=True,
            comment="Row of study_deletion that it is part of; null: of none",
        ),
    )
    op.alter_column(
        "unlink",
        "reason",
        existing_type=sa.VARCHAR(length=16),
        comment="storing, stray, duplicate, deleted or replaced",
        existing_comment="storing, duplicate or deleted",
        existing_nullable=False,
    )
    op.create_index(
        op.f("ix_unlink_deletion_id"),
        "unlink",
        ["deletion_id"],
        unique=False,
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.drop_constraint(op.f("unlinkreason_known"), "unlink", type_="check")
    op.create_check_constraint(
        op.f("unlinkreason_known"), "unlink", "reason IN ('storing', 'stray', 'duplicate', 'deleted', 'replaced')"
    )
