"""What a million tasks need: indexes that lists and counts go by, and where a bulk call was cut off."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_history_operation",
        "history",
        ["operation_id", "last_id"],
        postgresql_where=sa.text("operation_id IS NOT NULL"),
    )
    op.drop_index("ix_task_kind_status", "task")
    op.create_index("ix_task_kind_status", "task", ["kind", "status", "updated_time", "id"])
    op.create_index("ix_task_kind_device", "task", ["kind", "device", "status", "updated_time", "id"])
    op.create_index(
        "ix_task_exporter",
        "task",
        ["exporter_id", "status", "updated_time", "id"],
        postgresql_include=["kind", "device"],
        postgresql_where=sa.text("exporter_id IS NOT NULL"),
    )
    op.create_index("ix_task_kind_created", "task", ["kind", "created_time"])
    op.drop_index("ix_task_study", "task")
    op.create_index(
        "ix_task_study",
        "task",
        ["study_uid"],
        postgresql_using="hash",
        postgresql_where=sa.text("study_uid IS NOT NULL"),
    )
