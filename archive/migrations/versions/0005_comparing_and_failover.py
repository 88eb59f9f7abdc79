"""What comparisons found, and what was moved away from devices that are dead."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "diff_result",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "task_id", sa.BigInteger(), nullable=False, comment="no foreign key: rows of deleted tasks are swept later"
        ),
        sa.Column("run_id", sa.BigInteger(), nullable=False, comment="run that found it"),
        sa.Column("study_uid", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False, comment="missing or different"),
        sa.Column(
            "dataset",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="DICOM JSON: primary's, with the secondary's inside",
        ),
        sa.Column("at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_diff_result")),
    )
    op.create_index("ix_diff_result_task", "diff_result", ["task_id", "id"])
    op.create_table(
        "failover",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column(
            "since",
            postgresql.TIMESTAMP(timezone=True),
            nullable=False,
            comment="last heartbeat of its workers when the first task was moved",
        ),
        sa.Column("moved", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="tasks, over all times"),
        sa.Column("stays", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="tasks, the last time"),
        sa.Column(
            "reasons",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
            comment="why they stay: [reason, number of tasks], the last time",
        ),
        sa.Column("looked_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column(
            "back_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="a worker is back; NULL: not yet",
        ),
        sa.PrimaryKeyConstraint("device", name=op.f("pk_failover")),
    )
