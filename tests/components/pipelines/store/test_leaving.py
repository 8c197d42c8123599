"""What a namespace leaves in the database when it goes: nothing, and what others have stays as it was."""

from __future__ import annotations

import datetime as dt

import pytest
import sqlalchemy as sa

from headrace.components.pipelines.store import leaving
from headrace.components.pipelines.store import schema as t
from headrace.components.pipelines.store.lineage import Lineage
from headrace.components.pipelines.store.metrics import Metrics
from headrace.components.pipelines.store.models import (
    Artifact,
    ChangeKind,
    FollowUp,
    FollowUpKind,
    Metric,
    NewArtifact,
    Pipeline,
    PipelineVersion,
    RecurringRun,
    Report,
    Run,
    RuntimeState,
    Spec,
    TaskRow,
    TaskType,
)
from headrace.components.pipelines.store.recurring import RecurringRuns

SHARED = Spec({"pipelineInfo": {"name": "shared"}})
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def fill(database, clock, repository, catalog):
    """Puts something of every kind into a namespace."""

    async def filling(namespace: str) -> None:
        experiment = await catalog.create_experiment(namespace, "tries")
        own = Spec({"pipelineInfo": {"name": f"of {namespace}"}})
        pipeline = Pipeline(f"{namespace}-p", namespace, "p", "P", tags={"a": "b"})
        versions = [
            PipelineVersion(f"{namespace}-v{n}", pipeline.id, f"v{n}", "V", spec=s) for n, s in enumerate((own, SHARED))
        ]
        versions[0].tags["c"] = "d"
        await catalog.create_pipeline(pipeline, versions[0])
        await catalog.create_version(versions[1])
        schedule = RecurringRun("", namespace, experiment.id, "nightly", {"cron": {"expression": "0 0 * * *"}})
        await RecurringRuns(database, clock, repository).create(schedule, own)
        for number in range(3):
            run = Run(f"{namespace}-r{number}", namespace, experiment.id, "r", pipeline_name="p")
            await repository.create_run(run, own if number else SHARED)
            await repository.start_run(run.id)
            task = TaskRow(f"{run.id}-t", run.id, "root/t", "t", TaskType.RUNTIME)
            await repository.create_tasks(run.id, [task])
            made = NewArtifact("model", "model", "system.Model", f"s3://b/{namespace}", {})
            await repository.record_outputs(task.id, Report(0, RuntimeState.SUCCEEDED, artifacts=(made,)))
            await Metrics(database).report(run.id, [Metric("accuracy", "t", 0.9)])
        after = [FollowUp(f"{namespace}-{kind}", f"{namespace}-r0", namespace, kind, NOW) for kind in FollowUpKind]
        await repository.finish_run(f"{namespace}-r0", RuntimeState.SUCCEEDED, followups=after)
        alone = Artifact(f"{namespace}-a", namespace, "system.Dataset", name="by hand", uri="s3://b/x")
        await Lineage(database, clock).add(alone)

    return filling


async def everything(database) -> dict[str, list[tuple]]:
    def work(connection: sa.Connection) -> dict[str, list[tuple]]:
        return {
            table.name: sorted(
                tuple(row) for row in connection.execute(sa.select(*map(sa.text, table.c.keys())).select_from(table))
            )
            for table in t.metadata.sorted_tables
        }

    return await database.run(work)


async def test_a_namespace_leaves_nothing_and_its_neighbours_stay(database, repository, fill, monkeypatch):
    monkeypatch.setattr(leaving, "BATCH", 2)
    await fill("team-b")
    before = await everything(database)
    assert all(before.values()), "something of every kind"
    await fill("team")
    heard = []
    repository.subscribe(heard.append)
    await leaving.forget_namespace(database, repository, "team")
    assert await everything(database) == before
    kinds = [change.kind for change in heard]
    assert kinds.count(ChangeKind.DELETED) == 3, "the engine stops them"
    assert ChangeKind.SCHEDULE in kinds
    await leaving.forget_namespace(database, repository, "team")
    assert await everything(database) == before


async def test_what_a_crash_has_left_is_forgotten_the_next_time(database, repository, fill):
    await fill("team")
    await database.run(lambda connection: leaving._schedules(connection, "team"))
    await database.run(lambda connection: leaving._some_runs(connection, "team"))
    await leaving.forget_namespace(database, repository, "team")
    assert not any((await everything(database)).values())
