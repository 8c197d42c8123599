"""What the pages ask the database beyond the API's own questions: lists of runs without their specs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from headrace.components.pipelines.store import listing
from headrace.components.pipelines.store import schema as t
from headrace.components.pipelines.store.listing import ListQuery, Operation, Predicate
from headrace.components.pipelines.store.models import Run, RuntimeState, StorageState
from headrace.components.pipelines.store.rows import from_row

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from headrace.machinery.sql import Database

PAGE_SIZE = 50
FILTERS: dict[str, tuple[RuntimeState, ...]] = {
    "running": (RuntimeState.RUNNING, RuntimeState.PENDING, RuntimeState.CANCELING, RuntimeState.PAUSED),
    "succeeded": (RuntimeState.SUCCEEDED,),
    "failed": (RuntimeState.FAILED,),
    "canceled": (RuntimeState.CANCELED, RuntimeState.SKIPPED),
}


@dataclass(frozen=True, slots=True)
class RunList:
    """A page of runs, the newest first; how many there are by filter; where the next page begins."""

    runs: list[Run]
    counts: dict[str, int]
    next_page_token: str


class RunLists:
    """Reads only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        namespace: str,
        *,
        state: str = "",
        text: str = "",
        experiment: str = "",
        pipeline: str = "",
        token: str = "",
    ) -> RunList:
        """Runs that are not archived. Raises ListError for a token that is not one."""
        scope = [t.runs.c.namespace == namespace, t.runs.c.storage_state == StorageState.AVAILABLE.value]
        if experiment:
            scope.append(t.runs.c.experiment_id == experiment)
        if pipeline:
            scope.append(sa.or_(t.runs.c.pipeline_id == pipeline, t.runs.c.pipeline_name == pipeline))
        if text:
            wanted = (t.runs.c.display_name, t.runs.c.pipeline_name, t.runs.c.error_message, t.runs.c.id)
            scope.append(sa.or_(*(column.icontains(text, autoescape=True) for column in wanted)))
        chosen = FILTERS.get(state)
        predicates = (Predicate("state", Operation.IN, [s.value for s in chosen]),) if chosen else ()
        query = ListQuery(PAGE_SIZE, token, "created_at", descending=True, predicates=predicates)

        def work(connection: Connection) -> RunList:
            rows = listing.list_rows(connection, listing.RUNS, query, *scope)
            found = sa.select(t.runs.c.state, sa.func.count()).where(*scope).group_by(t.runs.c.state)
            by_state = {row[0]: int(row[1]) for row in connection.execute(found)}
            counts = {key: sum(by_state.get(s.value, 0) for s in states) for key, states in FILTERS.items()}
            return RunList([from_row(Run, row) for row in rows.rows], counts, rows.next_page_token)

        return await self._database.run(work)

    async def recent(self, namespace: str, count: int) -> list[Run]:
        """The newest runs of a namespace."""
        return await self._select(count, t.runs.c.namespace == namespace)

    async def failures(self, namespace: str, count: int) -> list[Run]:
        """The newest failed runs of a namespace."""
        return await self._select(count, t.runs.c.namespace == namespace, t.runs.c.state == RuntimeState.FAILED.value)

    async def experiment(self, ident: str) -> tuple[str, str] | None:
        """Namespace and name of an experiment."""
        query = sa.select(t.experiments.c.namespace, t.experiments.c.display_name).where(t.experiments.c.id == ident)

        def work(connection: Connection) -> tuple[str, str] | None:
            row = connection.execute(query).first()
            return (row[0], row[1]) if row else None

        return await self._database.run(work)

    async def _select(self, count: int, *where: Any) -> list[Run]:
        available = t.runs.c.storage_state == StorageState.AVAILABLE.value
        query = sa.select(t.runs).where(available, *where).order_by(t.runs.c.created_at.desc()).limit(count)

        def work(connection: Connection) -> list[Run]:
            return [from_row(Run, row) for row in connection.execute(query).mappings()]

        return await self._database.run(work)
