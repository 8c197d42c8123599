"""Where runs and steps wait until they may begin: `policy.limits` with the numbers that people set and the machine has.

Nothing of it is recorded: after a restart it follows from the runs and the pods that there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from headrace.api import quantity
from headrace.api.core import ConfigMap, Node
from headrace.components.pipelines.policy import limits
from headrace.components.pipelines.policy.limits import Ask, Limits, Turnstile
from headrace.machinery.informer import Informer
from headrace.machinery.settings import SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.core import Pod
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock

log = logging.getLogger(__name__)

STARTING_PER_CPU, STARTING_AT_LEAST = 3, 4
"""How many steps begin at once."""
START_SECONDS = 1.0
"""A step that has not begun after this long waits for something (an image, a volume), and is in nobody's way."""


class Gate:
    """Runs and steps pass here."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self.steps = Turnstile()
        self._informer = Informer(client, clock, ConfigMap, fields=f"metadata.name={limits.CONFIG_MAP}")
        self._nodes = Informer(client, clock, Node)
        self._tasks: list[asyncio.Task[None]] = []
        self._set: dict[str, Limits] = {}
        self._waiting: dict[str, tuple[str, Callable[[], None]]] = {}
        self._active: dict[str, str] = {}
        self._cpu = self._memory = 0.0

    async def start(self) -> None:
        """Learn the limits; returns when they are known. The node may come later, as at the first start."""
        self.steps.of_namespace = lambda namespace: self._of(namespace)[1]
        self._informer.on_change(self._changed)
        self._nodes.on_change(self._machine_changed)
        for informer, name in ((self._informer, "pipelines limits"), (self._nodes, "pipelines machine")):
            task = asyncio.create_task(informer.run(), name=name)
            self._tasks.append(task)
            waiter = asyncio.create_task(informer.synced.wait())
            await asyncio.wait({waiter, task}, return_when=asyncio.FIRST_COMPLETED)
            waiter.cancel()

    def close(self) -> None:
        """Let nobody in any more who waits."""
        self._waiting.clear()
        self.steps.close()

    async def stop(self) -> None:
        """Follow the limits no more."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    # Runs

    def enter_run(self, run_id: str, namespace: str, begin: Callable[[], None]) -> bool:
        """True when the run may begin at once; otherwise `begin` is called when it may."""
        if run_id in self._active:
            return True
        self._waiting[run_id] = (namespace, lambda: None)
        self._let_runs_in()
        if run_id in self._active:
            return True
        self._waiting[run_id] = (namespace, begin)
        return False

    def hold_run(self, run_id: str, namespace: str) -> None:
        """The run goes on already."""
        self._waiting.pop(run_id, None)
        self._active[run_id] = namespace

    def leave_run(self, run_id: str) -> None:
        """The run has ended, or is no longer worked on."""
        self._waiting.pop(run_id, None)
        self.steps.forget(run_id)
        if self._active.pop(run_id, None) is not None:
            self._let_runs_in()

    def run_reason(self, namespace: str) -> str:
        """Why a run of a namespace waits."""
        return limits.run_reason(namespace, self._system.runs, self._of(namespace)[0], self._counts())

    # Steps

    def ask(
        self, key: str, run_id: str, namespace: str, requests: tuple[float, float], begin: Callable[[], None]
    ) -> Ask:
        """A step's wish to begin, by what it requests (CPUs, bytes)."""
        share = limits.share_of(*requests, self._cpu, self._memory)

        def let_in() -> None:
            self._watch_start(key)
            begin()

        return Ask(key, run_id, namespace, share, let_in)

    def enter_step(self, ask: Ask) -> bool:
        """True when the step may begin at once; otherwise it is begun when it may."""
        at_once = self.steps.enter(ask)
        if at_once:
            self._watch_start(ask.key)
        return at_once

    def _watch_start(self, key: str) -> None:
        """Others wait for this step's start, but not for ever."""
        asyncio.get_running_loop().call_later(START_SECONDS, self.steps.begun, key)

    def hold_pod(self, run_id: str, pod: Pod) -> None:
        """A step that was found running, or waiting for the node."""
        asked = pod.spec.containers[0].resources
        given = {**asked.limits, **asked.requests}
        requests = tuple(float(quantity.parse(given.get(name, "0"))) for name in ("cpu", "memory"))
        metadata = pod.metadata
        self.steps.hold(self.ask(metadata.name, run_id, metadata.namespace, (requests[0], requests[1]), lambda: None))

    # Limits

    @property
    def _system(self) -> Limits:
        return self._set.get(SYSTEM_NAMESPACE, Limits())

    def _of(self, namespace: str) -> tuple[int | None, int | None]:
        own = self._set.get(namespace, Limits()) if namespace != SYSTEM_NAMESPACE else Limits()
        return limits.of_namespace(self._system, own)

    def _machine_changed(self, _old: Node | None, _new: Node | None) -> None:
        given = [node.status.allocatable for node in self._nodes.all()]
        self._cpu, self._memory = (
            sum(float(quantity.parse(amounts.get(name, "0"))) for amounts in given) for name in ("cpu", "memory")
        )
        self.steps.capacity = limits.AHEAD if self._cpu else float("inf")
        self.steps.starting = max(STARTING_AT_LEAST, int(STARTING_PER_CPU * self._cpu)) if self._cpu else None
        self.steps.pump()

    def _changed(self, old: ConfigMap | None, new: ConfigMap | None) -> None:
        found = new or old
        if found is None:
            return
        if new is None:
            self._set.pop(found.metadata.namespace, None)
        else:
            self._set[found.metadata.namespace], problems = limits.read_limits(new.data)
            for problem in problems:
                log.warning("namespace %s: %s", found.metadata.namespace, problem)
        self.steps.steps = self._system.steps
        self._let_runs_in()
        self.steps.pump()

    def _counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for namespace in self._active.values():
            counts[namespace] = counts.get(namespace, 0) + 1
        return counts

    def _let_runs_in(self) -> None:
        waiting = {run_id: namespace for run_id, (namespace, _) in self._waiting.items()}
        if not waiting:
            return
        for run_id in limits.next_runs(waiting, self._counts(), self._system.runs, lambda n: self._of(n)[0]):
            namespace, begin = self._waiting.pop(run_id)
            self._active[run_id] = namespace
            begin()
