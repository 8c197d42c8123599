"""The probes of one running container: has it started, does it live, is it ready.

As in the kubelet a probe counts once a period. Until a container has first said yes, startup and readiness
probes are also tried in between, more and more seldom: those tries can only find success sooner, they neither
count as failures nor make events.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from headrace.node.agent import probing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headrace.api.core import Probe
    from headrace.machinery.clock import Clock
    from headrace.node.agent.probing import Answer, Target

FIRST_GAP = 0.025
LAST_GAP = 1.0


class Listener(Protocol):
    """Who hears what the probes find."""

    def probe_failed(self, kind: str, message: str) -> None:
        """A counted probe failed."""
        ...

    def set_started(self) -> None:
        """The startup probe succeeded."""
        ...

    def set_ready(self, *, ready: bool) -> None:
        """The readiness probe's answer, after its thresholds."""
        ...


async def watch(target: Target, clock: Clock, listener: Listener, *, age: float, started: bool, ready: bool) -> str:
    """Probes until the container must be restarted; returns why. `age`: seconds since the container's start."""
    container = target.container
    if not started:
        if container.startup_probe is not None and not await _startup(
            container.startup_probe, target, clock, listener, age
        ):
            return f"Container {container.name} failed startup probe, will be restarted"
        listener.set_started()
        age = 0.0
    readiness = None
    if container.readiness_probe is not None:
        readiness = asyncio.create_task(
            _readiness(container.readiness_probe, target, clock, listener, age, eager=not ready)
        )
    else:
        listener.set_ready(ready=True)
    try:
        if container.liveness_probe is not None:
            await _liveness(container.liveness_probe, target, clock, listener, age)
            return f"Container {container.name} failed liveness probe, will be restarted"
        await asyncio.Event().wait()
    finally:
        if readiness is not None:
            readiness.cancel()
    return ""


async def _startup(probe: Probe, target: Target, clock: Clock, listener: Listener, age: float) -> bool:
    failures = 0
    async for answer, counted in _answers(probe, target, clock, age, eager=True):
        if answer.ok:
            return True
        if counted:
            failures += 1
            listener.probe_failed("Startup", answer.message)
            if failures >= max(1, probe.failure_threshold):
                return False
    return False


async def _readiness(
    probe: Probe, target: Target, clock: Clock, listener: Listener, age: float, *, eager: bool
) -> None:
    successes = failures = 0
    async for answer, counted in _answers(probe, target, clock, age, eager=eager):
        if answer.ok:
            successes, failures = successes + 1, 0
            if successes >= max(1, probe.success_threshold):
                listener.set_ready(ready=True)
        elif counted:
            successes, failures = 0, failures + 1
            listener.probe_failed("Readiness", answer.message)
            if failures >= max(1, probe.failure_threshold):
                listener.set_ready(ready=False)


async def _liveness(probe: Probe, target: Target, clock: Clock, listener: Listener, age: float) -> None:
    failures = 0
    async for answer, _counted in _answers(probe, target, clock, age, eager=False):
        failures = 0 if answer.ok else failures + 1
        if not answer.ok:
            listener.probe_failed("Liveness", answer.message)
        if failures >= max(1, probe.failure_threshold):
            return


async def _answers(
    probe: Probe, target: Target, clock: Clock, age: float, *, eager: bool
) -> AsyncIterator[tuple[Answer, bool]]:
    """Answers, and whether each counts."""
    await clock.sleep(max(0.0, probe.initial_delay_seconds - age))
    period = float(max(1, probe.period_seconds))
    gap = FIRST_GAP
    # An eager probe first counts after a period: a container is not unhealthy for not being up at once.
    due = clock.monotonic() + (period if eager else 0.0)
    while True:
        now = clock.monotonic()
        counted = now >= due
        if counted:
            due = now + period
        answer = await probing.ask(probe, target)
        yield answer, counted
        eager = eager and not answer.ok
        pause = due - clock.monotonic()
        if eager:
            pause, gap = min(pause, gap), min(gap * 2, LAST_GAP)
        await clock.sleep(max(pause, 0.001))
