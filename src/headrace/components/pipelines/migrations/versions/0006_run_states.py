"""An index from which runs are counted by their state: a list of many says so each time that it is shown."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"

NAME = "ix_runs_namespace_storage_state_state"


def upgrade() -> None:
    """To this revision."""
    op.create_index(NAME, "runs", ["namespace", "storage_state", "state"])


def downgrade() -> None:
    """From this revision."""
    op.drop_index(NAME, "runs")
