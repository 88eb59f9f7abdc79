"""What looks for studies to delete remember, the events that make them forget it, and alarms."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Whoever changes what a verdict rests on keeps a look from judging that study until this is committed, or waits until
# the look that does so is over; a look that cannot have the study remembers nothing of it. The first number is that
# of archive.deletion.remembering.
_JUDGE_AGAIN = """
    CREATE FUNCTION judge_study_again(study bigint) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(1634886502, (study % 2147483647)::int);
        UPDATE study_on_file_system SET kept_premise = 0, kept_until = NULL, kept_because = NULL
        WHERE study_id = study AND kept_premise <> 0;
    END $$
"""

# A file is news only where its object has, or had, another: C-STORE adds the first ones.
_FILE = """
    CREATE FUNCTION file_is_news() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'INSERT' AND NOT EXISTS (
            SELECT FROM file WHERE instance_id = NEW.instance_id AND id <> NEW.id) THEN
            RETURN NULL;
        END IF;
        PERFORM judge_study_again(series.study_id) FROM instance JOIN series ON series.id = instance.series_id
        WHERE instance.id = NEW.instance_id;
        RETURN NULL;
    END $$
"""
_FILES_GONE = """
    CREATE FUNCTION files_gone_are_news() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM judge_study_again(study_id) FROM (
            SELECT DISTINCT series.study_id FROM gone JOIN instance ON instance.id = gone.instance_id
            JOIN series ON series.id = instance.series_id ORDER BY 1) AS changed;
        RETURN NULL;
    END $$
"""
_STUDY = """
    CREATE FUNCTION study_is_news() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM judge_study_again(OLD.study_id);
        RETURN NULL;
    END $$
"""
_LEDGER = """
    CREATE FUNCTION ledger_row_is_news() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.kept_premise := 0;
        NEW.kept_until := NULL;
        NEW.kept_because := NULL;
        RETURN NEW;
    END $$
"""
_TRIGGERS = (
    "CREATE TRIGGER new_file AFTER INSERT ON file FOR EACH ROW EXECUTE FUNCTION file_is_news()",
    """
    CREATE TRIGGER changed_file AFTER UPDATE ON file FOR EACH ROW
    WHEN ((OLD.instance_id, OLD.file_system_id, OLD.status, OLD.sha256, OLD.checked_at)
          IS DISTINCT FROM (NEW.instance_id, NEW.file_system_id, NEW.status, NEW.sha256, NEW.checked_at))
    EXECUTE FUNCTION file_is_news()
    """,
    """
    CREATE TRIGGER files_gone AFTER DELETE ON file REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION files_gone_are_news()
    """,
    """
    CREATE TRIGGER series_stored AFTER UPDATE OF state ON series FOR EACH ROW
    WHEN (OLD.state = 'RECEIVING' AND NEW.state <> 'RECEIVING') EXECUTE FUNCTION study_is_news()
    """,
    "CREATE TRIGGER unprotected AFTER DELETE ON study_protection FOR EACH ROW EXECUTE FUNCTION study_is_news()",
    """
    CREATE TRIGGER used_or_marked BEFORE UPDATE ON study_on_file_system FOR EACH ROW
    WHEN (OLD.kept_premise <> 0
          AND (OLD.access_time, OLD.mark_task_id) IS DISTINCT FROM (NEW.access_time, NEW.mark_task_id))
    EXECUTE FUNCTION ledger_row_is_news()
    """,
)


def upgrade() -> None:
    _remembering()
    _alarms()


def _remembering() -> None:
    op.create_table(
        "deletion_premise",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Number of the premise"),
        sa.Column("device", sa.String(), nullable=False, comment="The device that looked"),
        sa.Column("group_id", sa.String(), nullable=False, comment="The file-system group that it looked at"),
        sa.Column(
            "terms",
            sa.String(),
            nullable=False,
            comment="What the rules asked for, as far as it matters for copies",
        ),
        sa.Column(
            "counting",
            postgresql.ARRAY(sa.String()),
            nullable=False,
            comment="File systems whose copies counted: number:device/group",
        ),
        sa.Column(
            "mounted",
            postgresql.ARRAY(sa.String()),
            nullable=False,
            comment="Those of them whose copies counted without being verified lately",
        ),
        sa.Column(
            "used_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When a look last found it to be its own",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deletion_premise")),
        comment="Premises of what looks found; those that nobody has used for long are removed",
    )
    op.create_index(op.f("ix_deletion_premise_device_group_id"), "deletion_premise", ["device", "group_id"])
    table = "study_on_file_system"
    op.add_column(
        table,
        sa.Column(
            "kept_premise",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Row of deletion_premise under which a look found that rules keep it; 0: the next look judges it",
        ),
    )
    op.add_column(
        table,
        sa.Column(
            "kept_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When that is to be looked at again at the latest",
        ),
    )
    op.add_column(
        table,
        sa.Column("kept_because", sa.String(), nullable=True, comment="The rules that keep it, with commas between"),
    )
    is_kept = sa.text("kept_premise <> 0")
    op.create_index(
        "ix_study_on_file_system_to_judge",
        table,
        ["file_system_id", "access_time", "study_id"],
        postgresql_where=sa.text("kept_premise = 0"),
    )
    op.create_index("ix_study_on_file_system_premise", table, ["kept_premise"], postgresql_where=is_kept)
    op.create_index("ix_study_on_file_system_kept", table, ["file_system_id", "kept_until"], postgresql_where=is_kept)
    for statement in (_JUDGE_AGAIN, _FILE, _FILES_GONE, _STUDY, _LEDGER, *_TRIGGERS):
        op.execute(statement)


def _alarms() -> None:
    op.create_table(
        "alarm",
        sa.Column("name", sa.Text(), nullable=False, comment="what it is about, for example pin expired"),
        sa.Column("subject", sa.Text(), nullable=False, comment="whom it is about, for example task 42"),
        sa.Column("device", sa.Text(), nullable=False, comment="the device that raised it"),
        sa.Column("text", sa.Text(), nullable=False, comment="in words"),
        sa.Column(
            "raised_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("name", "subject", name=op.f("pk_alarm")),
    )
