"""The record of runs with a signal: pages hear of every change, also of those that the engine itself makes.

The repository tells its subscribers only what does not come from the engine, because the engine is the subscriber. The
topic of the signal is the run's id; a change of tasks whose run is not named fires for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.components.pipelines.store.repository import RunRepository
from headrace.machinery.pages import Signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.components.pipelines.store.models import Change, FollowUp, RuntimeState, TaskRow, TaskUpdate
    from headrace.machinery.clock import Clock
    from headrace.machinery.sql import Database


class FollowedRuns(RunRepository):
    """See the module."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database, clock)
        self.changed = Signal()

    def notify(self, change: Change) -> None:
        """Tell the subscribers, then the pages."""
        super().notify(change)
        self.changed.fire(change.run_id)

    async def start_run(self, run_id: str) -> bool:
        """See RunRepository."""
        applied = await super().start_run(run_id)
        self.changed.fire(run_id)
        return applied

    async def finish_run(
        self,
        run_id: str,
        state: RuntimeState,
        *,
        error_code: int = 0,
        error_message: str = "",
        followups: Sequence[FollowUp] = (),
    ) -> bool:
        """See RunRepository."""
        applied = await super().finish_run(
            run_id, state, error_code=error_code, error_message=error_message, followups=followups
        )
        self.changed.fire(run_id)
        return applied

    async def create_tasks(self, run_id: str, tasks: Sequence[TaskRow]) -> list[TaskRow]:
        """See RunRepository."""
        made = await super().create_tasks(run_id, tasks)
        self.changed.fire(run_id)
        return made

    async def note_waiting(self, run_id: str, tasks: Sequence[TaskRow], message: str) -> None:
        """See RunRepository."""
        await super().note_waiting(run_id, tasks, message)
        self.changed.fire(run_id)

    async def update_tasks(self, updates: Sequence[TaskUpdate]) -> list[bool]:
        """See RunRepository."""
        applied = await super().update_tasks(updates)
        self.changed.fire()
        return applied
