"""What the pages of pipelines, experiments and schedules ask the database beyond the API: last runs, counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from headrace.components.pipelines.store import schema as t
from headrace.components.pipelines.store.models import Run, StorageState
from headrace.components.pipelines.store.rows import from_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from headrace.machinery.sql import Database


class Shelves:
    """Reads only; whoever calls has authorized."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def last_runs(self, column: str, idents: Sequence[str], namespace: str, count: int) -> dict[str, list[Run]]:
        """The newest runs of a namespace by their pipeline_id, experiment_id or recurring_run_id."""
        c = t.runs.c
        key = c[column]
        # One walk over the namespace's runs, whatever the number of lists: there is no index for each of the three.
        place = sa.func.row_number().over(partition_by=key, order_by=c.created_at.desc()).label("place")
        ranked = (
            sa.select(c.id, place)
            .where(
                c.namespace == namespace,
                c.storage_state == StorageState.AVAILABLE.value,
                key.in_(idents),
            )
            .subquery()
        )
        query = (
            sa.select(t.runs)
            .join(ranked, ranked.c.id == c.id)
            .where(ranked.c.place <= count)
            .order_by(c.created_at.desc())
        )

        def work(connection: Connection) -> dict[str, list[Run]]:
            found: dict[str, list[Run]] = {ident: [] for ident in idents}
            for row in connection.execute(query).mappings():
                found[row[column]].append(from_row(Run, row))
            return found

        return await self._database.run(work)

    async def version_counts(self, pipelines: Sequence[str]) -> dict[str, int]:
        """How many versions each pipeline has."""
        c = t.versions.c
        query = sa.select(c.pipeline_id, sa.func.count()).where(c.pipeline_id.in_(pipelines)).group_by(c.pipeline_id)

        def work(connection: Connection) -> dict[str, int]:
            return {row[0]: int(row[1]) for row in connection.execute(query)}

        return await self._database.run(work)
