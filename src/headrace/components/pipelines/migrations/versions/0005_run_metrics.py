"""Metrics of runs, and indices for lists of many runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

INDICES = {
    "ix_runs_namespace_display_name_id": ["namespace", "display_name", "id"],
    "ix_runs_namespace_state_created_at_id": ["namespace", "state", "created_at", "id"],
    "ix_runs_namespace_finished_at_id": ["namespace", "finished_at", "id"],
    "ix_runs_namespace_scheduled_at_id": ["namespace", "scheduled_at", "id"],
}


def upgrade() -> None:
    """To this revision."""
    op.create_table(
        "run_metrics",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("node_id", sa.String(length=191), nullable=False),
        sa.Column("name", sa.String(length=191), nullable=False),
        sa.Column("number_value", sa.Float(), nullable=False),
        sa.Column("format", sa.String(length=255), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_metrics_run_id"),
        sa.PrimaryKeyConstraint("run_id", "node_id", "name", name="pk_run_metrics"),
    )
    op.create_index("ix_run_metrics_run_id_name_number_value", "run_metrics", ["run_id", "name", "number_value"])
    for name, columns in INDICES.items():
        op.create_index(name, "runs", columns)


def downgrade() -> None:
    """From this revision."""
    for name in INDICES:
        op.drop_index(name, "runs")
    op.drop_table("run_metrics")
