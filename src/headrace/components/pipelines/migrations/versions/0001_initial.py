"""The first schema: experiments, pipelines, runs, tasks, artifacts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """To this revision."""
    op.create_table(
        "artifacts",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=255), server_default="", nullable=False),
        sa.Column("type", sa.String(length=255), server_default="", nullable=False),
        sa.Column("schema_version", sa.String(length=255), server_default="", nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("uri", sa.Text(), server_default="", nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("task_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_artifacts"),
        sa.UniqueConstraint("id", name="uq_artifacts_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_artifacts_namespace_created_at_id", "artifacts", ["namespace", "created_at", "id"])
    op.create_index("ix_artifacts_run_id", "artifacts", ["run_id"])
    op.create_index("ix_artifacts_task_id", "artifacts", ["task_id"])
    op.create_table(
        "experiments",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=255), server_default="", nullable=False),
        sa.Column("display_name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("storage_state", sa.String(length=255), server_default="", nullable=False),
        sa.Column("created_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_run_created_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_experiments"),
        sa.UniqueConstraint("namespace", "display_name", name="uq_experiments_namespace_display_name"),
    )
    op.create_index("ix_experiments_namespace_created_at_id", "experiments", ["namespace", "created_at", "id"])
    op.create_table(
        "pipeline_specs",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("pipeline_spec", sa.Text(), nullable=False),
        sa.Column("platform_spec", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name="pk_pipeline_specs"),
    )
    op.create_table(
        "pipelines",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=255), server_default="", nullable=False),
        sa.Column("name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("display_name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_pipelines"),
        sa.UniqueConstraint("namespace", "name", name="uq_pipelines_namespace_name"),
    )
    op.create_index("ix_pipelines_namespace_created_at_id", "pipelines", ["namespace", "created_at", "id"])
    op.create_table(
        "pipeline_versions",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("pipeline_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("display_name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("package_url", sa.Text(), server_default="", nullable=False),
        sa.Column("code_source_url", sa.Text(), server_default="", nullable=False),
        sa.Column("spec_digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["pipeline_id"], ["pipelines.id"], name="fk_pipeline_versions_pipeline_id"),
        sa.ForeignKeyConstraint(["spec_digest"], ["pipeline_specs.digest"], name="fk_pipeline_versions_spec_digest"),
        sa.PrimaryKeyConstraint("id", name="pk_pipeline_versions"),
        sa.UniqueConstraint("pipeline_id", "name", name="uq_pipeline_versions_pipeline_id_name"),
    )
    op.create_index(
        "ix_pipeline_versions_pipeline_id_created_at_id", "pipeline_versions", ["pipeline_id", "created_at", "id"]
    )
    op.create_index("ix_pipeline_versions_spec_digest", "pipeline_versions", ["spec_digest"])
    op.create_table(
        "runs",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=255), server_default="", nullable=False),
        sa.Column("experiment_id", sa.String(length=64), nullable=False),
        sa.Column("display_name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("storage_state", sa.String(length=255), server_default="", nullable=False),
        sa.Column("state", sa.String(length=255), server_default="", nullable=False),
        sa.Column("service_account", sa.String(length=255), server_default="", nullable=False),
        sa.Column("pipeline_id", sa.String(length=255), server_default="", nullable=False),
        sa.Column("pipeline_version_id", sa.String(length=255), server_default="", nullable=False),
        sa.Column("pipeline_name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("pipeline_root", sa.Text(), server_default="", nullable=False),
        sa.Column("error_code", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error_message", sa.Text(), server_default="", nullable=False),
        sa.Column("state_history", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("scheduled_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("finished_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("spec_digest", sa.String(length=64), nullable=False),
        sa.Column("recurring_run_id", sa.String(length=255), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["spec_digest"], ["pipeline_specs.digest"], name="fk_runs_spec_digest"),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("ix_runs_experiment_id_created_at_id", "runs", ["experiment_id", "created_at", "id"])
    op.create_index(
        "ix_runs_experiment_id_storage_state_created_at_id",
        "runs",
        ["experiment_id", "storage_state", "created_at", "id"],
    )
    op.create_index("ix_runs_namespace_created_at_id", "runs", ["namespace", "created_at", "id"])
    op.create_index(
        "ix_runs_namespace_storage_state_created_at_id", "runs", ["namespace", "storage_state", "created_at", "id"]
    )
    op.create_index("ix_runs_spec_digest", "runs", ["spec_digest"])
    op.create_index("ix_runs_state", "runs", ["state"])
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("parent_id", sa.String(length=64), nullable=True),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), server_default="", nullable=False),
        sa.Column("name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("display_name", sa.Text(), server_default="", nullable=False),
        sa.Column("type", sa.String(length=255), server_default="", nullable=False),
        sa.Column("state", sa.String(length=255), server_default="", nullable=False),
        sa.Column("iteration_index", sa.Integer(), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("pod_name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("inputs", sa.Text(), nullable=False),
        sa.Column("outputs", sa.Text(), nullable=False),
        sa.Column("cache_key", sa.String(length=255), server_default="", nullable=False),
        sa.Column("cached_from", sa.String(length=255), server_default="", nullable=False),
        sa.Column("error_code", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error_message", sa.Text(), server_default="", nullable=False),
        sa.Column("report", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("state_history", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("started_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("finished_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_tasks_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
        sa.UniqueConstraint("run_id", "path", name="uq_tasks_run_id_path"),
    )
    op.create_index("ix_tasks_cache_key", "tasks", ["cache_key"])
    op.create_index("ix_tasks_run_id_seq", "tasks", ["run_id", "seq"])
    op.create_table(
        "artifact_tasks",
        sa.Column("artifact_id", sa.String(length=64), nullable=False),
        sa.Column("task_id", sa.String(length=64), nullable=False),
        sa.Column("direction", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"], name="fk_artifact_tasks_artifact_id"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_artifact_tasks_task_id"),
        sa.PrimaryKeyConstraint("artifact_id", "task_id", "direction", "key", name="pk_artifact_tasks"),
    )
    op.create_index("ix_artifact_tasks_run_id", "artifact_tasks", ["run_id"])
    op.create_index("ix_artifact_tasks_task_id", "artifact_tasks", ["task_id"])


def downgrade() -> None:
    """From this revision."""
    op.drop_table("artifact_tasks")
    op.drop_table("tasks")
    op.drop_table("runs")
    op.drop_table("pipeline_versions")
    op.drop_table("pipelines")
    op.drop_table("pipeline_specs")
    op.drop_table("experiments")
    op.drop_table("artifacts")
