"""Forgets what a namespace had: runs, schedules, pipelines, experiments, artifacts' records and what waits to be done.

In transactions of some runs each, so that others get their turn; all of it may be done again after a crash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from headrace.components.pipelines.store import schema as t
from headrace.components.pipelines.store.models import Change, ChangeKind
from headrace.components.pipelines.store.repository import delete_runs, drop_unused_specs

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from headrace.components.pipelines.store.repository import RunRepository
    from headrace.machinery.sql import Database

BATCH = 50
"""Runs in one transaction."""


async def forget_namespace(database: Database, runs: RunRepository, namespace: str) -> None:
    """See the module. The engine hears of each run, and stops it."""
    for ident in await database.run(lambda connection: _schedules(connection, namespace)):
        runs.notify(Change(ChangeKind.SCHEDULE, ident))
    while gone := await database.run(lambda connection: _some_runs(connection, namespace)):
        for run_id in gone:
            runs.notify(Change(ChangeKind.DELETED, run_id))
    await database.run(lambda connection: _rest(connection, namespace))


def _schedules(connection: Connection, namespace: str) -> list[str]:
    c = t.recurring_runs.c
    found = connection.execute(sa.select(c.id, c.spec_digest).where(c.namespace == namespace)).all()
    connection.execute(t.recurring_runs.delete().where(c.namespace == namespace))
    drop_unused_specs(connection, [row.spec_digest for row in found if row.spec_digest])
    return [row.id for row in found]


def _some_runs(connection: Connection, namespace: str) -> list[str]:
    c = t.runs.c
    found = list(connection.scalars(sa.select(c.id).where(c.namespace == namespace).limit(BATCH)))
    if found:
        delete_runs(connection, found)
        connection.execute(t.followups.delete().where(t.followups.c.run_id.in_(found)))
    return found


def _rest(connection: Connection, namespace: str) -> None:
    artifacts = sa.select(t.artifacts.c.id).where(t.artifacts.c.namespace == namespace)
    connection.execute(t.artifact_tasks.delete().where(t.artifact_tasks.c.artifact_id.in_(artifacts)))
    connection.execute(t.artifacts.delete().where(t.artifacts.c.namespace == namespace))
    connection.execute(t.followups.delete().where(t.followups.c.namespace == namespace))
    pipelines = sa.select(t.pipelines.c.id).where(t.pipelines.c.namespace == namespace)
    versions = sa.select(t.versions.c.id).where(t.versions.c.pipeline_id.in_(pipelines))
    digests = list(connection.scalars(sa.select(t.versions.c.spec_digest).where(t.versions.c.id.in_(versions))))
    connection.execute(t.tags.delete().where(t.tags.c.owner_id.in_(versions) | t.tags.c.owner_id.in_(pipelines)))
    connection.execute(t.versions.delete().where(t.versions.c.pipeline_id.in_(pipelines)))
    connection.execute(t.pipelines.delete().where(t.pipelines.c.namespace == namespace))
    connection.execute(t.experiments.delete().where(t.experiments.c.namespace == namespace))
    drop_unused_specs(connection, digests)
