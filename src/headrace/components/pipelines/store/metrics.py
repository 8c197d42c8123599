"""Metrics of runs: a number by run, node and name, for lists to show and to sort by.

They come from two sides: clients of v1beta1 report them, and the metadata of a `system.Metrics` artifact holds them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from headrace.components.pipelines.store import schema as t
from headrace.components.pipelines.store.models import Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from headrace.machinery.sql import Database

METRICS = "system.Metrics"
MAX_METRICS = 50
"""By artifact; more than a list could show."""
MAX_NAME = 191


class Metrics:
    """Metrics in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(self, run_id: str, metrics: Sequence[Metric]) -> list[bool]:
        """Record what is new; False for each that the run has already."""

        def work(connection: Connection) -> list[bool]:
            return [_insert(connection, run_id, metric) for metric in metrics]

        return await self._database.run(work)

    async def of_runs(self, run_ids: Iterable[str]) -> dict[str, list[Metric]]:
        """By run, in the order of their names."""
        wanted = list(run_ids)

        def work(connection: Connection) -> dict[str, list[Metric]]:
            c = t.run_metrics.c
            found: dict[str, list[Metric]] = {}
            query = sa.select(t.run_metrics).where(c.run_id.in_(wanted)).order_by(c.name, c.node_id)
            for row in connection.execute(query):
                found.setdefault(row.run_id, []).append(Metric(row.name, row.node_id, row.number_value, row.format))
            return found

        return await self._database.run(work)


def record(connection: Connection, run_id: str, node_id: str, kind: str, metadata: Mapping[str, Any]) -> None:
    """Keep the numbers of a metrics artifact; an artifact of another kind has none."""
    if kind != METRICS:
        return
    numbers = {
        name: float(value)
        for name, value in metadata.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    for name in sorted(numbers)[:MAX_METRICS]:
        if len(name) <= MAX_NAME:
            _insert(connection, run_id, Metric(name, node_id, numbers[name]))


def _insert(connection: Connection, run_id: str, metric: Metric) -> bool:
    c = t.run_metrics.c
    mine = (c.run_id == run_id, c.node_id == metric.node_id, c.name == metric.name)
    if connection.scalar(sa.select(c.name).where(*mine)) is not None:
        return False
    values = {
        "run_id": run_id,
        "node_id": metric.node_id,
        "name": metric.name,
        "number_value": metric.number_value,
        "format": metric.format,
    }
    connection.execute(t.run_metrics.insert().values(values))
    return True
