"""Experiments, pipelines and their versions, and the lists of everything, as the REST API uses them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import sqlalchemy as sa

from headrace.components.pipelines.store import listing
from headrace.components.pipelines.store import schema as t
from headrace.components.pipelines.store.models import (
    Artifact,
    Experiment,
    Pipeline,
    PipelineVersion,
    Run,
    Spec,
    Status,
    StorageState,
)
from headrace.components.pipelines.store.repository import drop_unused_specs, get_spec, put_spec
from headrace.components.pipelines.store.rows import from_row, to_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from headrace.components.pipelines.store.listing import Listable, ListQuery
    from headrace.machinery.clock import Clock
    from headrace.machinery.sql import Database

T = TypeVar("T")
Tagged = TypeVar("Tagged", Pipeline, PipelineVersion)
DEFAULT_EXPERIMENT = "Default"


class Taken(ValueError):
    """The name is in use; the message says which."""


class InUse(ValueError):
    """It cannot be deleted while something needs it; the message says what."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a list."""

    items: list[T]
    total: int
    next_page_token: str


class Catalog:
    """What there is to run, and what has been run."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    # Experiments

    async def create_experiment(self, namespace: str, name: str, description: str = "") -> Experiment:
        """Raises Taken."""
        experiment = Experiment(_new_id(), namespace, name, description, created_at=self._clock.precise())

        def work(connection: Connection) -> Experiment:
            if _experiment_named(connection, namespace, name) is not None:
                raise Taken(f"An experiment named {name!r} exists in namespace {namespace!r}; choose another name.")
            connection.execute(t.experiments.insert().values(to_row(experiment)))
            return experiment

        return await self._database.run(work)

    async def default_experiment(self, namespace: str) -> Experiment:
        """The experiment of runs that name none, made when it is first needed."""
        new = Experiment(
            _new_id(),
            namespace,
            DEFAULT_EXPERIMENT,
            "All runs created without specifying an experiment will be grouped here.",
            created_at=self._clock.precise(),
        )

        def work(connection: Connection) -> Experiment:
            known = _experiment_named(connection, namespace, DEFAULT_EXPERIMENT)
            if known is None:
                connection.execute(t.experiments.insert().values(to_row(new)))
            return known or new

        return await self._database.run(work)

    async def get_experiment(self, experiment_id: str) -> Experiment | None:
        """One experiment."""
        return await self._database.run(lambda connection: _get(connection, Experiment, t.experiments, experiment_id))

    async def archive_experiment(self, experiment_id: str) -> None:
        """Archive an experiment together with its runs; its recurring runs start no more."""

        def work(connection: Connection) -> None:
            archived = {"storage_state": StorageState.ARCHIVED.value}
            connection.execute(t.experiments.update().where(t.experiments.c.id == experiment_id).values(archived))
            connection.execute(t.runs.update().where(t.runs.c.experiment_id == experiment_id).values(archived))
            mine = t.recurring_runs.c.experiment_id == experiment_id
            connection.execute(t.recurring_runs.update().where(mine).values(status=Status.DISABLED.value))

        await self._database.run(work)

    async def unarchive_experiment(self, experiment_id: str) -> None:
        """Restore an experiment; its runs stay archived."""
        available = {"storage_state": StorageState.AVAILABLE.value}
        update = t.experiments.update().where(t.experiments.c.id == experiment_id).values(available)
        await self._database.run(lambda connection: _execute(connection, update))

    async def delete_experiment(self, experiment_id: str) -> None:
        """Forget an experiment; its runs stay."""
        delete = t.experiments.delete().where(t.experiments.c.id == experiment_id)
        await self._database.run(lambda connection: _execute(connection, delete))

    async def list_experiments(self, query: ListQuery, namespace: str) -> Page[Experiment]:
        """Raises ListError."""
        return await self._list(Experiment, listing.EXPERIMENTS, query, t.experiments.c.namespace == namespace)

    # Pipelines

    async def create_pipeline(self, pipeline: Pipeline, version: PipelineVersion | None = None) -> Pipeline:
        """Record a pipeline (under its id, or a new one) and, when given, its first version. Raises Taken."""
        pipeline.id, pipeline.created_at = pipeline.id or _new_id(), self._clock.precise()
        if version is not None:
            version.id, version.pipeline_id, version.created_at = _new_id(), pipeline.id, pipeline.created_at

        def work(connection: Connection) -> Pipeline:
            if _pipeline_named(connection, pipeline.namespace, pipeline.name) is not None:
                raise Taken(
                    f"A pipeline named {pipeline.name!r} exists in namespace {pipeline.namespace!r};"
                    " choose another name or upload a new version of it."
                )
            connection.execute(t.pipelines.insert().values(to_row(pipeline, "tags")))
            _set_tags(connection, pipeline.id, pipeline.tags)
            if version is not None:
                _insert_version(connection, version)
            return pipeline

        return await self._database.run(work)

    async def create_version(self, version: PipelineVersion) -> PipelineVersion:
        """Record a version of an existing pipeline. Raises Taken."""
        version.id, version.created_at = version.id or _new_id(), self._clock.precise()

        def work(connection: Connection) -> PipelineVersion:
            c = t.versions.c
            same = sa.select(c.id).where(c.pipeline_id == version.pipeline_id, c.name == version.name)
            if connection.scalar(same) is not None:
                raise Taken(f"The pipeline has a version named {version.name!r}; choose another name.")
            _insert_version(connection, version)
            return version

        return await self._database.run(work)

    async def get_pipeline(self, pipeline_id: str) -> Pipeline | None:
        """One pipeline."""

        def work(connection: Connection) -> Pipeline | None:
            found = _get(connection, Pipeline, t.pipelines, pipeline_id)
            return _with_tags(connection, [found])[0] if found else None

        return await self._database.run(work)

    async def update_pipeline(
        self, pipeline_id: str, changes: dict[str, str], tags: dict[str, str] | None = None
    ) -> Pipeline | None:
        """Set some columns and, unless None, all tags."""

        def work(connection: Connection) -> Pipeline | None:
            if changes:
                connection.execute(t.pipelines.update().where(t.pipelines.c.id == pipeline_id).values(changes))
            if tags is not None:
                _set_tags(connection, pipeline_id, tags)
            found = _get(connection, Pipeline, t.pipelines, pipeline_id)
            return _with_tags(connection, [found])[0] if found else None

        return await self._database.run(work)

    async def update_version(
        self, version_id: str, changes: dict[str, str], tags: dict[str, str] | None = None
    ) -> PipelineVersion | None:
        """Set some columns and, unless None, all tags."""

        def work(connection: Connection) -> PipelineVersion | None:
            if changes:
                connection.execute(t.versions.update().where(t.versions.c.id == version_id).values(changes))
            if tags is not None:
                _set_tags(connection, version_id, tags)
            return _version(connection, t.versions.c.id == version_id)

        return await self._database.run(work)

    async def get_pipeline_named(self, namespace: str, name: str) -> Pipeline | None:
        """One pipeline by its name."""

        def work(connection: Connection) -> Pipeline | None:
            found = _pipeline_named(connection, namespace, name)
            return _with_tags(connection, [found])[0] if found else None

        return await self._database.run(work)

    async def list_pipelines(self, query: ListQuery, namespace: str) -> Page[Pipeline]:
        """Raises ListError."""

        def work(connection: Connection) -> Page[Pipeline]:
            mine = t.pipelines.c.namespace == namespace
            found = listing.list_rows(connection, listing.PIPELINES, query, mine)
            items = _with_tags(connection, [from_row(Pipeline, row) for row in found.rows])
            return Page(items, found.total, found.next_page_token)

        return await self._database.run(work)

    async def delete_pipeline(self, pipeline_id: str, *, cascade: bool) -> None:
        """Forget a pipeline, with `cascade` also its versions; runs keep their spec. Raises InUse."""

        def work(connection: Connection) -> None:
            mine = t.versions.c.pipeline_id == pipeline_id
            digests = list(connection.scalars(sa.select(t.versions.c.spec_digest).where(mine)))
            if digests and not cascade:
                raise InUse(
                    f"The pipeline has {len(digests)} version(s): delete them first, or delete with cascade=true."
                )
            owners = [pipeline_id, *connection.scalars(sa.select(t.versions.c.id).where(mine))]
            connection.execute(t.tags.delete().where(t.tags.c.owner_id.in_(owners)))
            connection.execute(t.versions.delete().where(mine))
            connection.execute(t.pipelines.delete().where(t.pipelines.c.id == pipeline_id))
            drop_unused_specs(connection, digests)

        await self._database.run(work)

    async def get_version(self, version_id: str) -> PipelineVersion | None:
        """One version with its spec."""

        def work(connection: Connection) -> PipelineVersion | None:
            return _version(connection, t.versions.c.id == version_id)

        return await self._database.run(work)

    async def latest_version(self, pipeline_id: str) -> PipelineVersion | None:
        """The newest version with its spec; None when the pipeline has none."""

        def work(connection: Connection) -> PipelineVersion | None:
            return _version(connection, t.versions.c.pipeline_id == pipeline_id)

        return await self._database.run(work)

    async def latest_versions(self, pipeline_ids: Sequence[str]) -> dict[str, PipelineVersion]:
        """The newest version of each pipeline that has one, by the pipeline's id."""

        def work(connection: Connection) -> dict[str, PipelineVersion]:
            found = (_version(connection, t.versions.c.pipeline_id == ident) for ident in pipeline_ids)
            return {version.pipeline_id: version for version in found if version is not None}

        return await self._database.run(work)

    async def list_versions(self, query: ListQuery, pipeline_id: str) -> Page[PipelineVersion]:
        """Versions with their specs. Raises ListError."""

        def work(connection: Connection) -> Page[PipelineVersion]:
            found = listing.list_rows(connection, listing.VERSIONS, query, t.versions.c.pipeline_id == pipeline_id)
            specs = _specs(connection, {row["spec_digest"] for row in found.rows})
            items = []
            for row in found.rows:
                version = from_row(PipelineVersion, row)
                version.spec = specs[row["spec_digest"]]
                items.append(version)
            return Page(_with_tags(connection, items), found.total, found.next_page_token)

        return await self._database.run(work)

    async def delete_version(self, version_id: str) -> None:
        """Forget a version; runs of it keep their spec."""

        def work(connection: Connection) -> None:
            mine = t.versions.c.id == version_id
            digests = list(connection.scalars(sa.select(t.versions.c.spec_digest).where(mine)))
            connection.execute(t.tags.delete().where(t.tags.c.owner_id == version_id))
            connection.execute(t.versions.delete().where(mine))
            drop_unused_specs(connection, digests)

        await self._database.run(work)

    # Runs and artifacts, for lists

    async def list_runs(
        self, query: ListQuery, namespace: str, experiment_id: str = ""
    ) -> tuple[Page[Run], dict[str, Spec]]:
        """Runs without tasks, and the specs of those that name no pipeline version. Raises ListError."""

        def work(connection: Connection) -> tuple[Page[Run], dict[str, Spec]]:
            scope = [t.runs.c.namespace == namespace]
            if experiment_id:
                scope = [t.runs.c.experiment_id == experiment_id]
            found = listing.list_rows(connection, listing.RUNS, query, *scope)
            runs = [from_row(Run, row) for row in found.rows]
            specs = _specs(connection, {run.spec_digest for run in runs if not run.pipeline_version_id})
            return Page(runs, found.total, found.next_page_token), specs

        return await self._database.run(work)

    async def set_run_storage(self, run_id: str, state: StorageState) -> None:
        """Archive or restore a run."""
        update = t.runs.update().where(t.runs.c.id == run_id).values(storage_state=state.value)
        await self._database.run(lambda connection: _execute(connection, update))

    async def list_artifacts(self, query: ListQuery, namespace: str, run_id: str = "") -> Page[Artifact]:
        """Artifacts of a namespace or of one run in it. Raises ListError."""
        scope = [t.artifacts.c.namespace == namespace]
        if run_id:
            scope.append(t.artifacts.c.run_id == run_id)
        return await self._list(Artifact, listing.ARTIFACTS, query, *scope)

    async def _list(
        self, kind: type[T], listable: Listable, query: ListQuery, *scope: sa.ColumnElement[bool]
    ) -> Page[T]:
        def work(connection: Connection) -> Page[T]:
            found = listing.list_rows(connection, listable, query, *scope)
            return Page([from_row(kind, row) for row in found.rows], found.total, found.next_page_token)

        return await self._database.run(work)


def _new_id() -> str:
    return str(uuid.uuid4())


def _execute(connection: Connection, statement: sa.Executable) -> None:
    connection.execute(statement)


def _get(connection: Connection, kind: type[T], table: sa.Table, ident: str) -> T | None:
    row = connection.execute(sa.select(table).where(table.c.id == ident)).mappings().first()
    return from_row(kind, row) if row else None


def _experiment_named(connection: Connection, namespace: str, name: str) -> Experiment | None:
    c = t.experiments.c
    query = sa.select(t.experiments).where(c.namespace == namespace, c.display_name == name)
    row = connection.execute(query).mappings().first()
    return from_row(Experiment, row) if row else None


def _pipeline_named(connection: Connection, namespace: str, name: str) -> Pipeline | None:
    c = t.pipelines.c
    query = sa.select(t.pipelines).where(c.namespace == namespace, c.name == name)
    row = connection.execute(query).mappings().first()
    return from_row(Pipeline, row) if row else None


def _insert_version(connection: Connection, version: PipelineVersion) -> None:
    if version.spec is None:
        raise ValueError("a version needs a spec")
    values: dict[str, Any] = to_row(version, "spec", "tags")
    values["spec_digest"] = put_spec(connection, version.spec)
    connection.execute(t.versions.insert().values(values))
    _set_tags(connection, version.id, version.tags)


def _version(connection: Connection, condition: sa.ColumnElement[bool]) -> PipelineVersion | None:
    c = t.versions.c
    query = sa.select(t.versions).where(condition).order_by(c.created_at.desc(), c.id.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
    version = from_row(PipelineVersion, row)
    version.spec = get_spec(connection, row["spec_digest"])
    return _with_tags(connection, [version])[0]


def _set_tags(connection: Connection, owner_id: str, tags: dict[str, str]) -> None:
    connection.execute(t.tags.delete().where(t.tags.c.owner_id == owner_id))
    if tags:
        rows = [{"owner_id": owner_id, "key": key, "value": value} for key, value in tags.items()]
        connection.execute(t.tags.insert(), rows)


def _with_tags(connection: Connection, items: list[Tagged]) -> list[Tagged]:
    """The same, their tags read."""
    by_id = {item.id: item for item in items}
    c = t.tags.c
    for row in connection.execute(sa.select(t.tags).where(c.owner_id.in_(by_id)).order_by(c.key)):
        by_id[row.owner_id].tags[row.key] = row.value
    return items


def _specs(connection: Connection, digests: set[str]) -> dict[str, Spec]:
    rows = connection.execute(sa.select(t.specs).where(t.specs.c.digest.in_(digests))).mappings()
    return {row["digest"]: Spec(row["pipeline_spec"], row["platform_spec"]) for row in rows}
