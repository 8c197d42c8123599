"""Tags of pipelines and their versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """To this revision."""
    op.create_table(
        "tags",
        sa.Column("owner_id", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=63), nullable=False),
        sa.Column("value", sa.String(length=63), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "key", name="pk_tags"),
    )
    op.create_index("ix_tags_key_value", "tags", ["key", "value"])


def downgrade() -> None:
    """From this revision."""
    op.drop_table("tags")
