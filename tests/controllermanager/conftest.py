"""A cluster with all controllers, and a hand in place of the node agent."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect

import pytest

from headrace.api.core import Pod
from headrace.api.errors import NotFound
from headrace.api.meta import ObjectMeta
from headrace.api.storage import StorageClass
from headrace.controllermanager import controllers
from headrace.machinery.component import ContainerUsage, NodeUsage
from headrace.testing.clock import FakeClock
from headrace.testing.cluster import embedded_cluster

NS = "default"
CA = "-----BEGIN CERTIFICATE-----\n"
TEMPLATE = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "main", "image": "python:3.11"}]},
}


class Meter:
    """What pods use: as many cores and bytes in each container as a test says."""

    def __init__(self):
        self.pods = {}

    def set(self, pod, cores, memory=0, container="main"):
        used = ContainerUsage(container, cores, memory)
        self.pods[pod.metadata.uid] = (used,)

    async def usage(self):
        return NodeUsage(15.0, 0.0, 0, dict(self.pods))


class Adapter:
    """A metrics adapter: answers as a test says, by path, and keeps what it was asked in whose name."""

    def __init__(self):
        self.served, self.answers, self.asked, self.left = {}, {}, [], {}

    def local(self):
        return {}

    async def check(self, group, version):
        return ""

    async def clear(self, namespace):
        if isinstance(self.left, Exception):
            raise self.left
        return self.left

    def versions(self, group):
        return self.served.get(group, [])

    async def json(self, user, key, path):
        self.asked.append((user.name, key, path))
        if path not in self.answers:
            raise NotFound(f"{path} not found")
        return self.answers[path]


class World:
    """The cluster, and what a node agent would do to its pods."""

    def __init__(self, cluster, meter, adapter):
        self.adapter = adapter
        self.cluster, self.client, self.clock, self.meter = cluster, cluster.client, cluster.clock, meter
        self._address = 1

    async def until(self, predicate, *, step=0.01, rounds=1500):
        """Let time pass in small steps until the predicate holds, and return what it returned."""
        last = None
        for _ in range(rounds):
            try:
                last = predicate()
                if inspect.isawaitable(last):
                    last = await last
                if last:
                    return last
            except (AssertionError, NotFound) as error:
                last = error
            self.clock.step(step)
            await asyncio.sleep(0.001)
        raise AssertionError(f"it did not come to that; last: {last!r}")

    async def quiet(self):
        """Wait until no controller has anything to do at this moment."""
        calm = 0
        for _ in range(3000):
            await asyncio.sleep(0.001)
            calm = calm + 1 if self.cluster.manager.idle else 0
            if calm > 20:
                return
        raise AssertionError("controllers do not come to rest")

    async def pods(self, namespace=NS, **labels):
        listed = await self.client.list(Pod, namespace, labels=",".join(f"{k}={v}" for k, v in labels.items()))
        return sorted(listed.items, key=lambda p: p.metadata.name)

    async def set_phase(self, pod, phase, *, ready=None, exit_code=0):
        """What the agent writes; a running pod is ready unless told otherwise."""
        now = self.clock.now().isoformat().replace("+00:00", "Z")
        is_ready = phase == "Running" if ready is None else ready
        status = {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": str(is_ready), "lastTransitionTime": now}],
        }
        if phase == "Running":
            self._address += 1
            status["podIP"] = f"10.199.0.{self._address}"
        if phase in {"Succeeded", "Failed"}:
            ended = {"exitCode": exit_code, "finishedAt": now}
            status["containerStatuses"] = [
                {"name": "main", "image": "i", "ready": False, "restartCount": 0, "state": {"terminated": ended}}
            ]
        meta = pod.metadata
        return await self.client.patch(Pod, meta.name, {"status": status}, meta.namespace, subresource="status")

    async def finish_deletion(self, pod):
        """The agent has stopped the pod."""
        await self.client.delete(Pod, pod.metadata.name, pod.metadata.namespace, grace_period_seconds=0)

    async def gone(self, kind, name, namespace=NS):
        async def is_gone():
            try:
                await self.client.get(kind, name, namespace)
            except NotFound:
                return True
            return False

        await self.until(is_gone)


@pytest.fixture
async def world(tmp_path):
    async with embedded_cluster(clock=FakeClock()) as cluster:
        cluster.settings = dataclasses.replace(cluster.settings, home=tmp_path)
        await cluster.client.apply(
            StorageClass(
                metadata=ObjectMeta(
                    name="standard", annotations={"storageclass.kubernetes.io/is-default-class": "true"}
                ),
                provisioner="headrace.dev/local",
            )
        )
        meter, adapter, kinds = Meter(), Adapter(), cluster.registry.kinds
        made = controllers(cluster.settings, cluster.client, cluster.clock, CA, kinds, usages=meter, apis=adapter)
        for controller in made:
            cluster.manager.add(controller, cluster.client)
        await cluster.manager.start()
        yield World(cluster, meter, adapter)
        await cluster.manager.stop()  # a test may have put another one there
