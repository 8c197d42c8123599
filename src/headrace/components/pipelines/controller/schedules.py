"""Starts the runs of recurring runs when they are due.

Nothing is polled: the loop waits for the next due time, or until a recurring run changes or one of its runs ends. A
wait is never longer than a minute, because neither a machine that slept nor a clock that was set wakes a timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from headrace.components.pipelines.policy.schedule import next_due, parse_trigger, resource_name, run_name
from headrace.components.pipelines.store.models import ChangeKind, Run
from headrace.components.pipelines.types.rest import RpcError, not_found

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable
    from typing import Any

    from headrace.components.pipelines.store.models import Change, RecurringRun, Spec
    from headrace.components.pipelines.store.recurring import RecurringRuns
    from headrace.components.pipelines.store.repository import RunRepository
    from headrace.machinery.clock import Clock

log = logging.getLogger(__name__)

LONGEST_WAIT, AGAIN_SECONDS = 60.0, 5.0
_WAKING = frozenset({ChangeKind.SCHEDULE, ChangeKind.FINISHED, ChangeKind.DELETED, ChangeKind.RETRIED})


class Scheduler:
    """`check(spec, parameters)` gives the pipeline's name, or raises RpcError when it cannot run with these."""

    def __init__(
        self,
        clock: Clock,
        recurring: RecurringRuns,
        runs: RunRepository,
        check: Callable[[Spec, dict[str, Any]], str],
    ) -> None:
        self._clock, self._recurring, self._runs, self._check = clock, recurring, runs, check
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] | None = None

    async def start(self) -> None:
        """Begin with what fell due while nothing ran."""
        self._unsubscribe = self._runs.subscribe(self._on_change)
        self._task = asyncio.create_task(self._work(), name="pipelines schedules")

    async def stop(self) -> None:
        """Start no more."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _on_change(self, change: Change) -> None:
        if change.kind in _WAKING:
            self._wake.set()

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            seconds: float | None
            try:
                due = await self._turn()
                seconds = None
                if due is not None:
                    seconds = min(max((due - self._clock.precise()).total_seconds(), 0.0), LONGEST_WAIT)
            except Exception:
                log.exception("recurring runs: a turn failed, again in %.0f s", AGAIN_SECONDS)
                seconds = AGAIN_SECONDS
            await self._wait(seconds)

    async def _wait(self, seconds: float | None) -> None:
        woken = asyncio.create_task(self._wake.wait())
        waits: set[asyncio.Task[Any]] = {woken}
        if seconds is not None:
            waits.add(asyncio.create_task(self._clock.sleep(seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _turn(self) -> dt.datetime | None:
        """Start what is due; when the next start is due, as far as that depends on time."""
        coming: list[dt.datetime] = []
        for recurring, active in await self._recurring.enabled():
            due = await self._catch_up(recurring, active)
            if due is not None:
                coming.append(due)
        return min(coming, default=None)

    async def _catch_up(self, recurring: RecurringRun, active: int) -> dt.datetime | None:
        trigger = parse_trigger(recurring.trigger)
        while True:
            now = self._clock.precise()
            due = next_due(
                trigger,
                recurring.last_triggered_at,
                recurring.created_at or now,
                now,
                no_catchup=bool(recurring.no_catchup),
            )
            if due is None or due > now:
                return due
            if active >= recurring.max_concurrency:
                return None
            if not await self._start(recurring, due, now):
                self._wake.set()
                return None
            active += not recurring.error_message

    async def _start(self, recurring: RecurringRun, due: dt.datetime, now: dt.datetime) -> bool:
        """False when the recurring run has changed meanwhile."""
        source = await self._recurring.source(recurring)
        if source is None:
            return await self._skip(
                recurring, due, now, not_found("Pipeline", f"{recurring.pipeline_id} with a version")
            )
        try:
            pipeline_name = self._check(source.spec, recurring.parameters)
        except RpcError as error:
            return await self._skip(recurring, due, now, error)
        run = Run(
            id="",
            namespace=recurring.namespace,
            experiment_id=recurring.experiment_id,
            display_name=run_name(resource_name(recurring.display_name, recurring.id), recurring.last_index + 1),
            service_account=recurring.service_account,
            pipeline_id=recurring.pipeline_id,
            pipeline_version_id=source.pipeline_version_id,
            pipeline_name=pipeline_name,
            parameters=recurring.parameters,
            pipeline_root=recurring.pipeline_root,
        )
        if not await self._recurring.start(recurring, due, run, source.spec):
            return False
        recurring.last_index += 1
        recurring.last_triggered_at, recurring.error_code, recurring.error_message = due, 0, ""
        return True

    async def _skip(self, recurring: RecurringRun, due: dt.datetime, now: dt.datetime, error: RpcError) -> bool:
        """Say why; what is due by now would fail alike."""
        log.warning("recurring run %s (%s): %s", recurring.id, recurring.display_name, error.message)
        recurring.last_triggered_at = max(due, now.replace(microsecond=0))
        recurring.error_code, recurring.error_message = int(error.code), error.message
        return await self._recurring.skip(recurring, recurring.last_triggered_at, int(error.code), error.message)
