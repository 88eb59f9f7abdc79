"""What a million tasks need: indexes that lists and counts go by, and where a bulk call was cut off."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_history_operation",
        "history",
        ["operation_id", "last_id"],
        postgresql_where=sa.text("operation_id IS NOT NULL"),
    )
