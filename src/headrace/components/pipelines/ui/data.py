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
    import datetime as dt

    from sqlalchemy.engine import Connection

    from headrace.machinery.sql import Database

PAGE_SIZE = 50
NAMED_RUNS = 1000
"""The filter by pipeline offers what so many runs ran; an address may name any other."""
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
        archived: bool = False,
        since: dt.datetime | None = None,
    ) -> RunList:
        """Runs that are not archived, or those that are. Raises ListError for a token that is not one."""
        storage = StorageState.ARCHIVED if archived else StorageState.AVAILABLE
        scope = [t.runs.c.namespace == namespace, t.runs.c.storage_state == storage.value]
        if since is not None:
            scope.append(t.runs.c.created_at >= since)
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

    async def pipeline_names(self, namespace: str) -> list[str]:
        """What the newest runs of a namespace ran, in the order of the alphabet."""
        newest = sa.select(t.runs.c.pipeline_name).where(t.runs.c.namespace == namespace)
        names = newest.order_by(t.runs.c.created_at.desc()).limit(NAMED_RUNS).subquery()

        def work(connection: Connection) -> list[str]:
            return sorted(name for name in connection.scalars(sa.select(names.c.pipeline_name).distinct()) if name)

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
