"""The status writer against a real API, and probes on a clock that is stepped."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from headrace.api.core import Container, ExecAction, Pod, PodCondition, PodSpec, PodStatus, Probe
from headrace.api.meta import ObjectMeta
from headrace.client.embedded import EmbeddedClient
from headrace.node.agent import prober
from headrace.node.agent.owner import AT_ONCE, SOON
from headrace.node.agent.probing import Target
from headrace.node.agent.writer import StatusWriter
from headrace.node.runtime.base import ExecResult
from headrace.testing import FakeClock, embedded_cluster, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headrace.testing import EmbeddedCluster


@pytest.fixture
async def cluster() -> AsyncIterator[EmbeddedCluster]:
    async with embedded_cluster() as made:
        yield made


async def new_pod(cluster: EmbeddedCluster) -> Pod:
    spec = PodSpec(containers=[Container(name="c", image="i")], automount_service_account_token=False)
    return await cluster.client.create(Pod(metadata=ObjectMeta(name="p", namespace="default"), spec=spec))


def running(pod: Pod) -> PodStatus:
    """As the agent computes it: own condition, others kept."""
    result = copy.deepcopy(pod.status)
    result.phase = "Running"
    result.conditions = [c for c in result.conditions if c.type != "Ready"]
    result.conditions.append(PodCondition(type="Ready", status="True"))
    return result


async def test_a_conflict_is_computed_again(cluster: EmbeddedCluster) -> None:
    pod = await new_pod(cluster)
    stale = copy.deepcopy(pod)
    theirs = [{"type": "example.com/x", "status": "True"}]
    await cluster.client.patch(Pod, "p", {"status": {"conditions": theirs}}, "default", subresource="status")
    writer = StatusWriter(cluster.client, cluster.clock, stale, running)
    task = asyncio.create_task(writer.run())
    writer.bind("node")
    writer.changed(within=AT_ONCE)
    await writer.settled()
    found = await cluster.client.get(Pod, "p", "default")
    assert found.spec.node_name == "node"
    assert {c.type for c in found.status.conditions} == {"example.com/x", "Ready"}
    version = found.metadata.resource_version
    writer.changed(within=AT_ONCE)
    await writer.settled()
    assert (await cluster.client.get(Pod, "p", "default")).metadata.resource_version == version, "nothing to write"
    task.cancel()


async def test_changes_nobody_waits_for_go_together(cluster: EmbeddedCluster) -> None:
    pod = await new_pod(cluster)
    computed = 0

    def compute(current: Pod) -> PodStatus:
        nonlocal computed
        computed += 1
        return running(current)

    writer = StatusWriter(cluster.client, cluster.clock, pod, compute)
    task = asyncio.create_task(writer.run())
    for _ in range(5):
        writer.changed()
        await asyncio.sleep(0)
    await writer.settled()
    assert computed == 1
    task.cancel()


async def test_binding_and_status_are_one_write(cluster: EmbeddedCluster) -> None:
    pod = await new_pod(cluster)
    changes = cluster.client.watch(Pod, "default", resource_version=pod.metadata.resource_version)
    writer = StatusWriter(cluster.client, cluster.clock, pod, running)
    task = asyncio.create_task(writer.run())
    writer.bind("node")
    writer.changed(within=SOON)
    await writer.settled()
    written = (await asyncio.wait_for(anext(changes), 10)).object
    assert (written.spec.node_name, written.status.phase) == ("node", "Running")
    assert written.metadata.resource_version == writer.pod.metadata.resource_version, "there was no other"
    task.cancel()


async def test_who_waits_longer_goes_with_who_hurries(cluster: EmbeddedCluster) -> None:
    pod = await new_pod(cluster)
    writer = StatusWriter(cluster.client, cluster.clock, pod, running)
    task = asyncio.create_task(writer.run())
    writer.changed(within=1000)
    await asyncio.sleep(0)
    writer.changed(within=AT_ONCE)
    await asyncio.wait_for(writer.settled(), 10)
    assert (await cluster.client.get(Pod, "p", "default")).status.phase == "Running"
    task.cancel()


async def test_another_pod_of_the_same_name_is_left_alone(cluster: EmbeddedCluster) -> None:
    pod = await new_pod(cluster)
    await cluster.client.delete(Pod, "p", "default", grace_period_seconds=0)
    other = await new_pod(cluster)
    writer = StatusWriter(cluster.client, cluster.clock, pod, running)
    task = asyncio.create_task(writer.run())
    writer.changed(within=AT_ONCE)
    await asyncio.wait_for(writer.gone.wait(), 2)
    await writer.settled()
    found = await cluster.client.get(Pod, "p", "default")
    assert (found.metadata.uid, found.status.phase) == (other.metadata.uid, other.status.phase)
    await task


async def test_a_pod_that_is_gone(cluster: EmbeddedCluster) -> None:
    pod = await new_pod(cluster)
    await cluster.client.delete(Pod, "p", "default", grace_period_seconds=0)
    writer = StatusWriter(EmbeddedClient(cluster.registry, cluster.client.user), cluster.clock, pod, running)
    task = asyncio.create_task(writer.run())
    writer.changed(within=AT_ONCE)
    await writer.settled()
    assert writer.gone.is_set()
    await task


@dataclass
class Heard:
    """What a prober's listener was told."""

    said: list[str] = field(default_factory=list)

    def probe_failed(self, kind: str, message: str) -> None:
        self.said.append(f"{kind}: {message}")

    def set_started(self) -> None:
        self.said.append("started")

    def set_ready(self, *, ready: bool) -> None:
        self.said.append("ready" if ready else "unready")


class Program:
    """A runtime whose exec answers as the test says."""

    well = True
    asked = 0

    async def exec(self, _uid: str, _id: str, argv: tuple[str, ...], *, timeout: float | None = None) -> ExecResult:
        self.asked += 1
        return ExecResult(0 if self.well else 1, b"" if self.well else b"not well")


class Watched:
    """Probes of one container, on a fake clock."""

    def __init__(self, **probes: Probe) -> None:
        self.clock, self.heard, self.program = FakeClock(), Heard(), Program()
        container = Container(name="c", **probes)
        target = Target(self.program, "u", "c-0", container, "10.0.0.1")  # type: ignore[arg-type]
        watching = prober.watch(
            target, self.clock, self.heard, age=0.0, started="startup_probe" not in probes, ready=False
        )
        self.task = asyncio.create_task(watching)

    async def after(self, seconds: float) -> list[str]:
        """What was said in this time; stepped finely, so that every sleeper wakes at its time."""
        before = len(self.heard.said)
        for _ in range(round(seconds / 0.25)):
            await self._settle()
            self.clock.step(0.25)
        await self._settle()
        return self.heard.said[before:]

    async def _settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


ASK = ExecAction(command=["x"])


async def test_readiness_on_the_clock() -> None:
    watched = Watched(readiness_probe=Probe(exec=ASK, period_seconds=10, failure_threshold=2, success_threshold=1))
    watched.program.well = False
    assert await watched.after(9.5) == []
    assert watched.program.asked > 5, "tried between, so that success is found at once"
    assert await watched.after(1.5) == ["Readiness: not well"]
    watched.program.well = True
    assert await watched.after(1.5) == ["ready"]
    asked = watched.program.asked
    watched.program.well = False
    assert await watched.after(10) == ["Readiness: not well"]
    assert watched.program.asked <= asked + 2, "a ready container is asked once a period"
    assert await watched.after(10) == ["Readiness: not well", "unready"]
    watched.task.cancel()


async def test_liveness_on_the_clock() -> None:
    watched = Watched(liveness_probe=Probe(exec=ASK, period_seconds=5, failure_threshold=2, initial_delay_seconds=7))
    watched.program.well = False
    assert await watched.after(6.5) == ["ready"]
    assert watched.program.asked == 0
    assert await watched.after(1) == ["Liveness: not well"]
    assert not watched.task.done()
    assert await watched.after(5) == ["Liveness: not well"]
    assert await watched.task == "Container c failed liveness probe, will be restarted"


async def test_startup_holds_the_others_back() -> None:
    watched = Watched(
        startup_probe=Probe(exec=ASK, period_seconds=2, failure_threshold=3),
        liveness_probe=Probe(exec=ASK, period_seconds=1, failure_threshold=1),
    )
    watched.program.well = False
    assert await watched.after(5) == ["Startup: not well"] * 2
    watched.program.well = True
    assert await watched.after(1.5) == ["started", "ready"]
    watched.program.well = False
    assert await watched.after(1.5) == ["Liveness: not well"]
    assert await watched.task == "Container c failed liveness probe, will be restarted"


async def test_a_container_that_never_starts() -> None:
    watched = Watched(startup_probe=Probe(exec=ASK, period_seconds=2, failure_threshold=3))
    watched.program.well = False
    assert await watched.after(7) == ["Startup: not well"] * 3
    assert await watched.task == "Container c failed startup probe, will be restarted"


async def test_a_probe_without_a_handler() -> None:
    watched = Watched(readiness_probe=Probe(period_seconds=1, failure_threshold=1))
    said = await watched.after(1.5)
    assert said == ["Readiness: the probe has no handler", "unready"]
    watched.task.cancel()
    await eventually(watched.task.done)
