"""What is done after runs have ended: their objects cleaned away in time, and people told.

`plan` says what is to be done and is recorded with the run's end; a loop does what is due. Nothing is polled: the loop
waits for the next due time or until a run ends, at most a minute, because a machine that slept wakes no timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import uuid
from typing import TYPE_CHECKING

from headrace.api.core import ConfigMap, Pod
from headrace.api.errors import NotFound
from headrace.components.pipelines.controller import claims
from headrace.components.pipelines.controller.deliveries import Deliveries, Undeliverable
from headrace.components.pipelines.policy import notifications
from headrace.components.pipelines.policy.configuration import configuration
from headrace.components.pipelines.render.step import RUN_LABEL
from headrace.components.pipelines.store.models import ChangeKind, FollowUp, FollowUpKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.client.base import Client
    from headrace.components.pipelines.policy.plan import Finish
    from headrace.components.pipelines.store.followups import FollowUps
    from headrace.components.pipelines.store.models import Change, Run
    from headrace.components.pipelines.store.repository import RunRepository
    from headrace.components.pipelines.types.ir import PipelineSpec
    from headrace.machinery.clock import Clock
    from headrace.machinery.events import EventRecorder

log = logging.getLogger(__name__)

LONGEST_WAIT, AGAIN_SECONDS, AT_ONCE = 60.0, 5.0, 8
GRACE_SECONDS = 2
_CLEANINGS = uuid.UUID("b3a0c7d4-7a53-4a0f-b1b6-5f8f6b0a91f2")


class Afterwards:
    """See the module."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        runs: RunRepository,
        followups: FollowUps,
        events: EventRecorder,
    ) -> None:
        self._client, self._clock, self._runs, self._followups = client, clock, runs, followups
        self._events = events
        self._deliveries = Deliveries(client)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._unsubscribe: Callable[[], None] | None = None

    async def start(self) -> None:
        """Begin with what fell due while nothing ran."""
        self._unsubscribe = self._runs.subscribe(self._on_change)
        self._task = asyncio.create_task(self._work(), name="pipelines afterwards")

    async def stop(self) -> None:
        """Do no more; what is not done is done after the next start."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        tasks = [*self._busy.values(), *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def plan(self, run: Run, spec: PipelineSpec | None, end: Finish) -> list[FollowUp]:
        """What is to be done after this end."""
        now = self._clock.precise()
        found = await self._messages(run, end, now)
        seconds = configuration(spec).keep_seconds(end.state) if spec is not None else 0
        if seconds:
            ident = str(uuid.uuid5(_CLEANINGS, f"{run.id}/{len(run.state_history)}/{now.isoformat()}"))
            due = now + dt.timedelta(seconds=seconds)
            found.append(FollowUp(ident, run.id, run.namespace, FollowUpKind.CLEAN, due))
        return found

    async def _messages(self, run: Run, end: Finish, now: dt.datetime) -> list[FollowUp]:
        try:
            rules = await self._client.get(ConfigMap, notifications.CONFIG_MAP, run.namespace)
        except NotFound:
            return []
        except Exception:
            log.exception("run %s: the notifications of namespace %s cannot be read", run.id, run.namespace)
            return []
        found, problems = notifications.read_rules(rules.data)
        for problem in problems:
            await self._events.warning(rules, "NotificationRuleInvalid", problem)
        # A run as it is recorded says more of itself than the engine keeps up to date.
        recorded = await self._runs.get_run(run.id)
        return notifications.followups(found, recorded or run, end, now)

    def _on_change(self, change: Change) -> None:
        if change.kind is ChangeKind.FINISHED:
            self._wake.set()

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            seconds = LONGEST_WAIT
            try:
                for followup in await self._followups.due(self._clock.precise(), self._busy):
                    if len(self._busy) >= AT_ONCE:
                        break
                    task = asyncio.create_task(self._do(followup))
                    self._busy[followup.id] = task
                due = await self._followups.next_due(self._busy)
                if due is not None and len(self._busy) < AT_ONCE:
                    seconds = min(max((due - self._clock.precise()).total_seconds(), 0.0), LONGEST_WAIT)
            except Exception:
                log.exception("what is to be done after runs cannot be read, again in %.0f s", LONGEST_WAIT)
            await self._wait(seconds)

    async def _wait(self, seconds: float) -> None:
        waits = [asyncio.create_task(self._wake.wait()), asyncio.create_task(self._clock.sleep(seconds))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _do(self, followup: FollowUp) -> None:
        try:
            await self._try(followup)
        except Exception:
            log.exception("what was done after run %s could not be recorded", followup.run_id)
            await self._clock.sleep(AGAIN_SECONDS)
        finally:
            self._busy.pop(followup.id, None)
            self._wake.set()

    async def _try(self, followup: FollowUp) -> None:
        final = False
        try:
            match followup.kind:
                case FollowUpKind.CLEAN:
                    await self._clean(followup)
                case FollowUpKind.WEBHOOK:
                    await self._deliveries.post(followup)
                case FollowUpKind.EMAIL:
                    await self._deliveries.mail(followup)
        except Undeliverable as error:
            problem, final = str(error), error.final
        except Exception as error:  # noqa: BLE001 - whatever it was, it is tried again
            problem = f"{type(error).__name__}: {error}"
        else:
            await self._followups.done(followup.id)
            return
        due = None if final else notifications.next_try(followup, self._clock.precise())
        await self._say(followup, problem, due)
        if due is None:
            await self._followups.done(followup.id)
        else:
            await self._followups.again(followup.id, due, followup.attempts + 1, problem)

    async def _say(self, followup: FollowUp, problem: str, due: dt.datetime | None) -> None:
        what = f"rule {followup.payload['rule']!r}" if "rule" in followup.payload else "cleaning"
        ending = "it is not tried again" if due is None else f"again at {due:%H:%M:%S}Z"
        log.warning("after run %s: %s: %s (%s)", followup.run_id, what, problem, ending)
        if followup.kind is FollowUpKind.CLEAN or (followup.attempts and due is not None):
            return
        with contextlib.suppress(Exception):
            rules = await self._client.get(ConfigMap, notifications.CONFIG_MAP, followup.namespace)
            reason = "NotificationGivenUp" if due is None else "NotificationFailed"
            await self._events.warning(rules, reason, f"Run {followup.run_id}, {what}: {problem}")

    async def _clean(self, followup: FollowUp) -> None:
        """The pods of a run that is over, and its workspace. A run that was retried meanwhile has no such follow-up."""
        found = await self._client.list(Pod, followup.namespace, labels=f"{RUN_LABEL}={followup.run_id}")
        for pod in found.items:
            with contextlib.suppress(NotFound):
                await self._client.delete(
                    Pod, pod.metadata.name, followup.namespace, grace_period_seconds=GRACE_SECONDS
                )
        await claims.drop_workspace(self._client, followup.namespace, followup.run_id)
