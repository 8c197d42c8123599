"""Recurring runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """To this revision."""
    op.create_table(
        "recurring_runs",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=255), server_default="", nullable=False),
        sa.Column("experiment_id", sa.String(length=64), nullable=False),
        sa.Column("display_name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.String(length=255), server_default="", nullable=False),
        sa.Column("service_account", sa.String(length=255), server_default="", nullable=False),
        sa.Column("pipeline_id", sa.String(length=255), server_default="", nullable=False),
        sa.Column("pipeline_version_id", sa.String(length=255), server_default="", nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("pipeline_root", sa.Text(), server_default="", nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("max_concurrency", sa.Integer(), server_default="0", nullable=False),
        sa.Column("no_catchup", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error_code", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error_message", sa.Text(), server_default="", nullable=False),
        sa.Column("last_index", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_triggered_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("updated_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("spec_digest", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["spec_digest"], ["pipeline_specs.digest"], name="fk_recurring_runs_spec_digest"),
        sa.PrimaryKeyConstraint("id", name="pk_recurring_runs"),
    )
    op.create_index(
        "ix_recurring_runs_experiment_id_created_at_id", "recurring_runs", ["experiment_id", "created_at", "id"]
    )
    op.create_index("ix_recurring_runs_namespace_created_at_id", "recurring_runs", ["namespace", "created_at", "id"])
    op.create_index("ix_recurring_runs_spec_digest", "recurring_runs", ["spec_digest"])
    op.create_index("ix_recurring_runs_status", "recurring_runs", ["status"])


def downgrade() -> None:
    """From this revision."""
    op.drop_table("recurring_runs")
