"""Lists and counts of queues, of AE titles and of what is compared go by indexes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_task_queue",
        "task",
        ["queue", "status", "updated_time", "id"],
        postgresql_include=["device", "local_aet"],
    )
    op.create_index(
        "ix_task_titles",
        "task",
        ["kind", "remote_aet", "destination_aet", "local_aet", "queue"],
        postgresql_where=sa.text("kind <> 'EXPORT'"),
    )
    op.create_index(
        "ix_task_compared",
        "task",
        [sa.text("(params ->> 'comparefield')")],
        postgresql_where=sa.text("kind = 'DIFF'"),
    )
