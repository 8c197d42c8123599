"""The history of the pipelines database's schema, as Alembic migrations.

`upgrade` costs one query when the database is current: Alembic is imported only when there is something to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

HEAD = "0003"
"""The newest revision in `versions/`; a test compares."""


class NewerDatabase(RuntimeError):
    """The database was written by a later release."""


def upgrade(connection: Connection) -> None:
    """Bring the schema to HEAD within the caller's transaction. Raises NewerDatabase."""
    current = _current(connection)
    if current == HEAD:
        return
    if current is not None and current > HEAD:
        raise NewerDatabase(
            f"the pipelines database has schema {current}, this release knows {HEAD}:"
            " start the release that wrote it, or restore a backup"
        )
    from alembic import command  # noqa: PLC0415 - heavy, and a warm start does not need it
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _current(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    current: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return current
