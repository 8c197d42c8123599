"""Which task made an artifact and which used it, from the links between tasks and artifacts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from headrace.components.pipelines.store import schema as t
from headrace.components.pipelines.store.models import Artifact, Direction, TaskRow, TaskType
from headrace.components.pipelines.store.rows import from_row, to_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from headrace.machinery.clock import Clock
    from headrace.machinery.sql import Database

MAX_LINKS = 500
_STEPS = frozenset({TaskType.RUNTIME.value, TaskType.IMPORTER.value})


@dataclass(frozen=True, slots=True)
class Link:
    """A task read or wrote an artifact, under a name."""

    artifact_id: str
    task_id: str
    direction: Direction
    key: str
    run_id: str
    run_name: str = ""
    task_name: str = ""
    producer_task_name: str = ""
    producer_key: str = ""
    step: bool = True
    """Whether the task is one that does something; a group only passes on."""
    again: bool = False
    """Whether the task did not make the artifact but took it from the cache."""

    @property
    def id(self) -> str:
        """What names this link."""
        return f"{self.artifact_id}:{self.task_id}:{self.direction.value}:{self.key}"


@dataclass(frozen=True, slots=True)
class LinkQuery:
    """Which links of a namespace; empty means any."""

    namespace: str
    artifact_ids: Sequence[str] = ()
    task_ids: Sequence[str] = ()
    run_ids: Sequence[str] = ()
    direction: str = ""
    after: Sequence[str] = ()
    """The last link of the page before: artifact, task, direction and key."""
    limit: int = MAX_LINKS


class Lineage:
    """Links in SQL."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    async def links(self, query: LinkQuery) -> list[Link]:
        """At most `limit`, in a stable order."""
        return await self._database.run(lambda connection: _links(connection, query))

    async def made_from(self, task_id: str) -> list[Artifact]:
        """The artifacts that a task read."""

        def work(connection: Connection) -> list[Artifact]:
            c = t.artifact_tasks.c
            read = sa.select(c.artifact_id).where(c.task_id == task_id, c.direction == Direction.INPUT.value)
            rows = connection.execute(sa.select(t.artifacts).where(t.artifacts.c.id.in_(read)).limit(MAX_LINKS))
            return [from_row(Artifact, row) for row in rows.mappings()]

        return await self._database.run(work)

    async def add(self, artifact: Artifact) -> Artifact:
        """Record an artifact that no task made."""
        artifact.created_at = self._clock.precise()

        def work(connection: Connection) -> Artifact:
            connection.execute(t.artifacts.insert().values(to_row(artifact, "number")))
            row = connection.execute(sa.select(t.artifacts).where(t.artifacts.c.id == artifact.id)).mappings().one()
            return from_row(Artifact, row)

        return await self._database.run(work)

    async def children(self, task_id: str) -> list[TaskRow]:
        """The tasks within a task's scope."""

        def work(connection: Connection) -> list[TaskRow]:
            rows = connection.execute(sa.select(t.tasks).where(t.tasks.c.parent_id == task_id).order_by(t.tasks.c.seq))
            return [from_row(TaskRow, row) for row in rows.mappings()]

        return await self._database.run(work)


def _links(connection: Connection, query: LinkQuery) -> list[Link]:
    c, made, by = t.artifact_tasks.c, t.artifacts.c, t.tasks.alias("producers")
    written = t.artifact_tasks.alias("written")
    select = (
        sa.select(
            t.artifact_tasks,
            t.runs.c.display_name.label("run_name"),
            t.tasks.c.name.label("task_name"),
            t.tasks.c.type.label("task_type"),
            made.task_id.label("maker"),
            by.c.name.label("producer_task_name"),
            written.c.key.label("producer_key"),
        )
        .join(t.runs, t.runs.c.id == c.run_id)
        .join(t.tasks, t.tasks.c.id == c.task_id)
        .join(t.artifacts, made.id == c.artifact_id)
        .outerjoin(by, by.c.id == made.task_id)
        .outerjoin(
            written,
            sa.and_(
                written.c.artifact_id == c.artifact_id,
                written.c.task_id == made.task_id,
                written.c.direction == Direction.OUTPUT.value,
            ),
        )
        .where(t.runs.c.namespace == query.namespace)
    )
    for column, wanted in ((c.artifact_id, query.artifact_ids), (c.task_id, query.task_ids), (c.run_id, query.run_ids)):
        if wanted:
            select = select.where(column.in_(wanted))
    if query.direction:
        select = select.where(c.direction == query.direction)
    order = (c.artifact_id, c.task_id, c.direction, c.key)
    if query.after:
        select = select.where(sa.tuple_(*order) > sa.tuple_(*(sa.literal(part) for part in query.after)))
    rows = connection.execute(select.order_by(*order).limit(query.limit))
    return [
        Link(
            artifact_id=row.artifact_id,
            task_id=row.task_id,
            direction=Direction(row.direction),
            key=row.key,
            run_id=row.run_id,
            run_name=row.run_name,
            task_name=row.task_name,
            producer_task_name=row.producer_task_name or "",
            step=row.task_type in _STEPS,
            again=row.direction == Direction.OUTPUT.value and row.maker != row.task_id,
            producer_key=row.producer_key or "",
        )
        for row in rows
    ]
