"""Tables, for SQLAlchemy Core (its ORM would cost memory and buy nothing here).

Invariants: only types that SQLite and PostgreSQL share; moments are microseconds since the epoch with 0 for "not
yet", so that they sort, compare and index alike everywhere; the Alembic migrations build exactly these tables
(a test compares them).
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

from headrace.api import _wire
from headrace.components.pipelines.store.models import Values

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


class Moment(TypeDecorator[dt.datetime | None]):
    """An aware datetime (or None) as microseconds since the epoch (or 0)."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> int:  # noqa: ARG002
        """To the database."""
        return 0 if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> dt.datetime | None:  # noqa: ARG002
        """From the database."""
        return _EPOCH + value * _MICROSECOND if value else None


class Json(TypeDecorator[Any]):
    """Plain JSON as text."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        """To the database."""
        return None if value is None else _wire.encode(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """From the database."""
        return None if value is None else _wire.decode_any(value)


class ValuesJson(TypeDecorator[Values]):
    """Inputs or outputs of a task as JSON text."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Values | None, dialect: Dialect) -> str:  # noqa: ARG002
        """To the database."""
        return _wire.encode(value or Values()).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Values:  # noqa: ARG002
        """From the database."""
        return _wire.decode(Values, value) if value else Values()


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id(name: str = "id", *, primary: bool = True) -> sa.Column[str]:
    return sa.Column(name, sa.String(64), primary_key=primary, nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default="")


def _name(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(255), nullable=False, server_default="")


def _moment(name: str) -> sa.Column[dt.datetime | None]:
    return sa.Column(name, Moment, nullable=False, server_default="0")


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


experiments = sa.Table(
    "experiments",
    metadata,
    _id(),
    _name("namespace"),
    _name("display_name"),
    _text("description"),
    _name("storage_state"),
    _moment("created_at"),
    _moment("last_run_created_at"),
    sa.UniqueConstraint("namespace", "display_name"),
    sa.Index(None, "namespace", "created_at", "id"),
)

specs = sa.Table(
    "pipeline_specs",
    metadata,
    _id("digest"),
    sa.Column("pipeline_spec", Json, nullable=False),
    sa.Column("platform_spec", Json, nullable=True),
)
"""Compiled pipelines by content, shared by versions and runs; gone when nothing names them."""

pipelines = sa.Table(
    "pipelines",
    metadata,
    _id(),
    _name("namespace"),
    _name("name"),
    _name("display_name"),
    _text("description"),
    _moment("created_at"),
    sa.UniqueConstraint("namespace", "name"),
    sa.Index(None, "namespace", "created_at", "id"),
)

versions = sa.Table(
    "pipeline_versions",
    metadata,
    _id(),
    sa.Column("pipeline_id", sa.String(64), sa.ForeignKey("pipelines.id"), nullable=False),
    _name("name"),
    _name("display_name"),
    _text("description"),
    _moment("created_at"),
    _text("package_url"),
    _text("code_source_url"),
    sa.Column("spec_digest", sa.String(64), sa.ForeignKey("pipeline_specs.digest"), nullable=False, index=True),
    sa.UniqueConstraint("pipeline_id", "name"),
    sa.Index(None, "pipeline_id", "created_at", "id"),
)

tags = sa.Table(
    "tags",
    metadata,
    sa.Column("owner_id", sa.String(64), primary_key=True),
    sa.Column("key", sa.String(63), primary_key=True),
    sa.Column("value", sa.String(63), nullable=False),
    sa.Index(None, "key", "value"),
)
"""Of pipelines and of versions, by their ids."""

runs = sa.Table(
    "runs",
    metadata,
    _id(),
    _name("namespace"),
    # No foreign key: deleting an experiment leaves its runs (upstream's rule).
    sa.Column("experiment_id", sa.String(64), nullable=False),
    _name("display_name"),
    _text("description"),
    _name("storage_state"),
    _name("state"),
    _name("service_account"),
    _name("pipeline_id"),
    _name("pipeline_version_id"),
    _name("pipeline_name"),
    sa.Column("parameters", Json, nullable=False),
    _text("pipeline_root"),
    _number("error_code"),
    _text("error_message"),
    sa.Column("state_history", Json, nullable=False),
    _moment("created_at"),
    _moment("scheduled_at"),
    _moment("finished_at"),
    sa.Column("spec_digest", sa.String(64), sa.ForeignKey("pipeline_specs.digest"), nullable=False, index=True),
    _name("recurring_run_id"),
    sa.Index(None, "namespace", "created_at", "id"),
    sa.Index(None, "namespace", "storage_state", "created_at", "id"),
    sa.Index(None, "experiment_id", "created_at", "id"),
    sa.Index(None, "experiment_id", "storage_state", "created_at", "id"),
    sa.Index(None, "state"),
    sa.Index(None, "namespace", "display_name", "id"),
    sa.Index(None, "namespace", "state", "created_at", "id"),
    sa.Index(None, "namespace", "storage_state", "state"),
    sa.Index(None, "namespace", "finished_at", "id"),
    sa.Index(None, "namespace", "scheduled_at", "id"),
)

run_metrics = sa.Table(
    "run_metrics",
    metadata,
    sa.Column("run_id", sa.String(64), sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("node_id", sa.String(191), primary_key=True),
    sa.Column("name", sa.String(191), primary_key=True),
    sa.Column("number_value", sa.Float, nullable=False),
    _name("format"),
    sa.Index(None, "run_id", "name", "number_value"),
)

recurring_runs = sa.Table(
    "recurring_runs",
    metadata,
    _id(),
    _name("namespace"),
    sa.Column("experiment_id", sa.String(64), nullable=False),
    _name("display_name"),
    _text("description"),
    _name("status"),
    _name("service_account"),
    _name("pipeline_id"),
    _name("pipeline_version_id"),
    sa.Column("parameters", Json, nullable=False),
    _text("pipeline_root"),
    sa.Column("trigger", Json, nullable=False),
    _number("max_concurrency"),
    _number("no_catchup"),
    _number("error_code"),
    _text("error_message"),
    _number("last_index"),
    _moment("last_triggered_at"),
    _moment("created_at"),
    _moment("updated_at"),
    sa.Column("spec_digest", sa.String(64), sa.ForeignKey("pipeline_specs.digest"), nullable=True, index=True),
    sa.Index(None, "namespace", "created_at", "id"),
    sa.Index(None, "experiment_id", "created_at", "id"),
    sa.Index(None, "status"),
)
"""Without a spec, each run is one of the pipeline's latest version."""

tasks = sa.Table(
    "tasks",
    metadata,
    _id(),
    sa.Column("run_id", sa.String(64), sa.ForeignKey("runs.id"), nullable=False),
    sa.Column("parent_id", sa.String(64), nullable=True),
    sa.Column("seq", sa.Integer, nullable=False),
    _text("path"),
    _name("name"),
    _text("display_name"),
    _name("type"),
    _name("state"),
    sa.Column("iteration_index", sa.Integer, nullable=True),
    _number("attempt"),
    _name("pod_name"),
    sa.Column("inputs", ValuesJson, nullable=False),
    sa.Column("outputs", ValuesJson, nullable=False),
    sa.Column("cache_key", sa.String(255), nullable=False, server_default="", index=True),
    _name("cached_from"),
    _number("error_code"),
    _text("error_message"),
    sa.Column("report", Json, nullable=True),
    sa.Column("detail", Json, nullable=False),
    sa.Column("state_history", Json, nullable=False),
    _moment("created_at"),
    _moment("started_at"),
    _moment("finished_at"),
    sa.UniqueConstraint("run_id", "path"),
    sa.Index(None, "run_id", "seq"),
)

artifacts = sa.Table(
    "artifacts",
    metadata,
    # BigInteger would not be SQLite's row id.
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    _name("namespace"),
    _name("type"),
    _name("schema_version"),
    _text("name"),
    _text("uri"),
    sa.Column("metadata", Json, nullable=False),
    sa.Column("run_id", sa.String(64), nullable=False, index=True),
    sa.Column("task_id", sa.String(64), nullable=False, index=True),
    _moment("created_at"),
    sa.Index(None, "namespace", "created_at", "id"),
    sqlite_autoincrement=True,  # a number is never given twice
)

artifact_tasks = sa.Table(
    "artifact_tasks",
    metadata,
    sa.Column("artifact_id", sa.String(64), sa.ForeignKey("artifacts.id"), primary_key=True),
    sa.Column("task_id", sa.String(64), sa.ForeignKey("tasks.id"), primary_key=True),
    sa.Column("direction", sa.String(16), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("run_id", sa.String(64), nullable=False, index=True),
    sa.Index(None, "task_id"),
)
"""Which task read or wrote which artifact, under which name."""

followups = sa.Table(
    "followups",
    metadata,
    _id(),
    sa.Column("run_id", sa.String(64), nullable=False, index=True),
    _name("namespace"),
    _name("kind"),
    sa.Column("payload", Json, nullable=False),
    _number("attempts"),
    _moment("due_at"),
    _moment("created_at"),
    _text("error"),
    sa.Index(None, "due_at"),
)
"""What is to be done after runs have ended: an outbox."""
