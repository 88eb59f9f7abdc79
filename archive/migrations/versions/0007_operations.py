"""What following bulk calls brought: the table of operations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TIME = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "operation",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False, comment="operation_id of its history rows"),
        sa.Column("action", sa.Text(), nullable=False, comment="CancelTasks, RescheduleTasks or DeleteTasks"),
        sa.Column("request", sa.Text(), nullable=False, comment="method, path and query as they were sent"),
        sa.Column("wish", sa.Text(), nullable=False, comment="JSON of tasks.wish.Wish: what is carried out"),
        sa.Column("user", sa.Text(), nullable=False, comment="who asked"),
        sa.Column("host", sa.Text(), nullable=False, comment="from where"),
        sa.Column("requested_at", _TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", _TIME, nullable=True),
        sa.Column(
            "updated_at", _TIME, server_default=sa.text("now()"), nullable=False, comment="end of the last chunk"
        ),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.Column("holder", sa.Uuid(as_uuid=False), nullable=True, comment="who works on it; NULL: nobody"),
        sa.Column("lease_until", _TIME, nullable=False, comment="then another process may go on with it"),
        sa.Column("total", sa.BigInteger(), nullable=True, comment="tasks that matched when it began"),
        sa.Column("count", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="tasks changed"),
        sa.Column("failed", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="tasks refused"),
        _numbers("refusals", "reason to number"),
        _numbers("by_device", "device to number"),
        _numbers("by_status", "status to number"),
        sa.Column("stop_asked_at", _TIME, nullable=True),
        sa.Column("stop_asked_by", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True, comment="why it ended before its end"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operation")),
    )
    op.create_index(
        "ix_operation_open", "operation", ["lease_until"], postgresql_where=sa.text("ended_at IS NULL")
    )  # fmt: skip
    op.create_index("ix_operation_requested", "operation", ["requested_at"])


def downgrade() -> None:
    op.drop_table("operation")


def _numbers(name: str, comment: str) -> sa.Column[object]:
    return sa.Column(name, postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False, comment=comment)
