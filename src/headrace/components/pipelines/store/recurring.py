"""Recurring runs. A start is one transaction: the run is recorded together with that it was started, so that after a
crash at any moment each scheduled time has had exactly one run.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from headrace.components.pipelines.store import listing
from headrace.components.pipelines.store import schema as t
from headrace.components.pipelines.store.catalog import Page
from headrace.components.pipelines.store.models import (
    FINAL,
    Change,
    ChangeKind,
    RecurringRun,
    Run,
    RuntimeState,
    Spec,
    Status,
)
from headrace.components.pipelines.store.repository import drop_unused_specs, get_spec, insert_run, put_spec
from headrace.components.pipelines.store.rows import from_row, to_row

if TYPE_CHECKING:
    import datetime as dt

    from sqlalchemy.engine import Connection

    from headrace.components.pipelines.store.listing import ListQuery
    from headrace.components.pipelines.store.repository import RunRepository
    from headrace.machinery.clock import Clock
    from headrace.machinery.sql import Database

_RUN_IDS = uuid.UUID("0c5a8f16-54c5-49a1-8dbb-a0a0c1e4bfb4")
_NOT_FINAL = [s.value for s in RuntimeState if s not in FINAL]


@dataclass(frozen=True, slots=True)
class Source:
    """What a start runs: the version that it is pinned to, the latest one, or a spec of its own."""

    spec: Spec
    pipeline_version_id: str = ""


class RecurringRuns:
    """Recurring runs in SQL."""

    def __init__(self, database: Database, clock: Clock, runs: RunRepository) -> None:
        self._database, self._clock, self._runs = database, clock, runs

    async def create(self, recurring: RecurringRun, spec: Spec | None) -> RecurringRun:
        """Record it. `spec` is what its runs are pinned to."""
        recurring.id = str(uuid.uuid4())
        recurring.created_at = recurring.updated_at = self._clock.precise()

        def work(connection: Connection) -> None:
            recurring.spec_digest = put_spec(connection, spec) if spec else None
            connection.execute(t.recurring_runs.insert().values(to_row(recurring)))

        await self._database.run(work)
        self._changed(recurring.id)
        return recurring

    async def get(self, ident: str) -> tuple[RecurringRun, Spec | None] | None:
        """One recurring run and the spec that it is pinned to."""

        def work(connection: Connection) -> tuple[RecurringRun, Spec | None] | None:
            found = _get(connection, ident)
            return (found, _spec(connection, found)) if found else None

        return await self._database.run(work)

    async def page(
        self, query: ListQuery, namespace: str, experiment_id: str = ""
    ) -> tuple[Page[RecurringRun], dict[str, Spec]]:
        """A page, and the specs of those that name no pipeline. Raises ListError."""

        def work(connection: Connection) -> tuple[Page[RecurringRun], dict[str, Spec]]:
            c = t.recurring_runs.c
            scope = c.experiment_id == experiment_id if experiment_id else c.namespace == namespace
            found = listing.list_rows(connection, listing.RECURRING_RUNS, query, scope)
            items = [from_row(RecurringRun, row) for row in found.rows]
            digests = {r.spec_digest for r in items if r.spec_digest and not r.pipeline_id}
            specs = {digest: get_spec(connection, digest) for digest in digests}
            return Page(items, found.total, found.next_page_token), specs

        return await self._database.run(work)

    async def set_status(self, ident: str, status: Status) -> None:
        """Enable or disable; runs that have begun go on."""
        values = {"status": status.value, "updated_at": self._clock.precise()}
        update = t.recurring_runs.update().where(t.recurring_runs.c.id == ident).values(values)

        def work(connection: Connection) -> None:
            connection.execute(update)

        await self._database.run(work)
        self._changed(ident)

    async def delete(self, ident: str) -> None:
        """Forget it; its runs stay."""

        def work(connection: Connection) -> None:
            mine = t.recurring_runs.c.id == ident
            digests = [d for d in connection.scalars(sa.select(t.recurring_runs.c.spec_digest).where(mine)) if d]
            connection.execute(t.recurring_runs.delete().where(mine))
            drop_unused_specs(connection, digests)

        await self._database.run(work)
        self._changed(ident)

    async def enabled(self) -> list[tuple[RecurringRun, int]]:
        """Those that start runs, each with how many of its runs have not ended."""

        def work(connection: Connection) -> list[tuple[RecurringRun, int]]:
            c = t.recurring_runs.c
            rows = connection.execute(sa.select(t.recurring_runs).where(c.status == Status.ENABLED.value)).mappings()
            found = [from_row(RecurringRun, row) for row in rows]
            if not found:
                return []
            count = (
                sa.select(t.runs.c.recurring_run_id, sa.func.count())
                .where(t.runs.c.state.in_(_NOT_FINAL), t.runs.c.recurring_run_id != "")
                .group_by(t.runs.c.recurring_run_id)
            )
            active: dict[str, int] = {row[0]: row[1] for row in connection.execute(count)}
            return [(recurring, active.get(recurring.id, 0)) for recurring in found]

        return await self._database.run(work)

    async def source(self, recurring: RecurringRun) -> Source | None:
        """What a start would run now; None when the pipeline has no version (any more)."""

        def work(connection: Connection) -> Source | None:
            spec = _spec(connection, recurring)
            if spec is not None:
                return Source(spec, recurring.pipeline_version_id)
            c = t.versions.c
            newest = sa.select(c.id, c.spec_digest).where(c.pipeline_id == recurring.pipeline_id)
            row = connection.execute(newest.order_by(c.created_at.desc(), c.id.desc()).limit(1)).first()
            return Source(get_spec(connection, row.spec_digest), row.id) if row else None

        return await self._database.run(work)

    async def start(self, seen: RecurringRun, scheduled: dt.datetime, run: Run, spec: Spec) -> bool:
        """Record the next run and that it was started; False when the recurring run is not (any more) as `seen`."""
        now = self._clock.precise()
        index = seen.last_index + 1
        run.id = str(uuid.uuid5(_RUN_IDS, f"{seen.id}/{index}"))
        run.recurring_run_id, run.scheduled_at = seen.id, scheduled
        values = {"last_index": index, "last_triggered_at": scheduled, "error_code": 0, "error_message": ""}

        def work(connection: Connection) -> bool:
            if not _advance(connection, seen, values):
                return False
            insert_run(connection, now, run, spec)
            return True

        if not await self._database.run(work):
            return False
        self._runs.notify(Change(ChangeKind.CREATED, run.id))
        return True

    async def skip(self, seen: RecurringRun, until: dt.datetime, code: int, message: str) -> bool:
        """Record why starts up to a moment came to nothing."""
        values = {"last_triggered_at": until, "error_code": code, "error_message": message}
        return await self._database.run(lambda connection: _advance(connection, seen, values))

    def _changed(self, ident: str) -> None:
        self._runs.notify(Change(ChangeKind.SCHEDULE, ident))


def _advance(connection: Connection, seen: RecurringRun, values: dict[str, Any]) -> bool:
    c = t.recurring_runs.c
    same = (c.id == seen.id, c.status == Status.ENABLED.value, c.last_index == seen.last_index)
    return connection.execute(t.recurring_runs.update().where(*same).values(values)).rowcount == 1


def _get(connection: Connection, ident: str) -> RecurringRun | None:
    query = sa.select(t.recurring_runs).where(t.recurring_runs.c.id == ident)
    row = connection.execute(query).mappings().first()
    return from_row(RecurringRun, row) if row else None


def _spec(connection: Connection, recurring: RecurringRun) -> Spec | None:
    return get_spec(connection, recurring.spec_digest) if recurring.spec_digest else None
