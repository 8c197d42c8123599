"""What is to be done after a run has ended: an outbox.

Invariants: a follow-up is recorded in the transaction in which its run ends, so that neither is without the other; it
is deleted when it has been done, or is given up; until then it is tried again, also after a crash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from headrace.components.pipelines.store import schema as t
from headrace.components.pipelines.store.models import FollowUp
from headrace.components.pipelines.store.rows import from_row, to_row

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Sequence

    from sqlalchemy.engine import Connection

    from headrace.machinery.sql import Database

BATCH = 32


class FollowUps:
    """The outbox in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, now: dt.datetime, leave_out: Iterable[str] = ()) -> list[FollowUp]:
        """What is due, the oldest first, without what is being done already."""
        c = t.followups.c
        busy = list(leave_out)

        def work(connection: Connection) -> list[FollowUp]:
            query = sa.select(t.followups).where(c.due_at <= now, c.id.not_in(busy)).order_by(c.due_at).limit(BATCH)
            return [from_row(FollowUp, row) for row in connection.execute(query).mappings()]

        return await self._database.run(work)

    async def next_due(self, leave_out: Iterable[str] = ()) -> dt.datetime | None:
        """When the next one is due."""
        query = sa.select(sa.func.min(t.followups.c.due_at)).where(t.followups.c.id.not_in(list(leave_out)))
        return await self._database.run(lambda connection: connection.scalar(query))

    async def done(self, ident: str) -> None:
        """It has been done, or will never be."""
        await self._database.run(lambda c: c.execute(t.followups.delete().where(t.followups.c.id == ident)))

    async def again(self, ident: str, due_at: dt.datetime, attempts: int, error: str) -> None:
        """It failed and is tried again."""
        values = {"due_at": due_at, "attempts": attempts, "error": error}
        await self._database.run(
            lambda c: c.execute(t.followups.update().where(t.followups.c.id == ident).values(values))
        )

    async def of_run(self, run_id: str) -> list[FollowUp]:
        """What is still to be done after a run."""

        def work(connection: Connection) -> list[FollowUp]:
            query = sa.select(t.followups).where(t.followups.c.run_id == run_id).order_by(t.followups.c.id)
            return [from_row(FollowUp, row) for row in connection.execute(query).mappings()]

        return await self._database.run(work)


def insert(connection: Connection, now: dt.datetime, followups: Sequence[FollowUp]) -> None:
    """Record follow-ups of a run that ends in this transaction."""
    for one in followups:
        one.created_at = now
        connection.execute(t.followups.insert().values(to_row(one)))
