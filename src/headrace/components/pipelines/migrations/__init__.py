"""The history of the pipelines database's schema, as Alembic migrations."""

from __future__ import annotations

from headrace.machinery.sql import Migrations

HEAD = "0006"
"""The newest revision in `versions/`; a test compares."""
upgrade = Migrations("pipelines", __file__, HEAD).upgrade
