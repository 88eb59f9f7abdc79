"""What doctor compares: the clocks of the workers' hosts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "worker_node",
        sa.Column(
            "clock_ahead_s",
            sa.Float(),
            nullable=True,
            comment="seconds by which the clock of its host was ahead of the database's; NULL: not told",
        ),
    )
