"""A namespace is held until each part has forgotten it, also when somebody dies in between."""

from __future__ import annotations

from headrace.api.core import Container, Namespace, Pod, PodSpec
from headrace.api.errors import NotFound
from headrace.api.meta import ObjectMeta
from headrace.controllermanager.namespace import NamespaceController
from headrace.machinery.leaving import PROFILE_LABEL, Leaving
from headrace.machinery.manager import Manager
from headrace.testing import embedded_cluster, eventually

PROFILE = dict((PROFILE_LABEL,))


class Part:
    """Something that keeps things for namespaces."""

    def __init__(self) -> None:
        self.forgot: list[str] = []
        self.broken = False

    async def forget(self, namespace: str) -> None:
        if self.broken:
            raise OSError("the disk is not there")
        self.forgot.append(namespace)


async def finalizers(cluster, name) -> list[str] | None:
    try:
        return (await cluster.client.get(Namespace, name)).metadata.finalizers
    except NotFound:
        return None


async def begin(cluster, part) -> Manager:
    manager = Manager(cluster.client, cluster.clock)
    for name in ("rows", "logs"):
        manager.add(Leaving(name, cluster.client, part.forget), cluster.client)
    manager.add(NamespaceController(cluster.client, cluster.registry.kinds, cluster.clock), cluster.client)
    await manager.start()
    return manager


async def test_it_goes_when_everything_is_forgotten_and_not_before() -> None:
    part = Part()
    async with embedded_cluster() as cluster:
        manager = await begin(cluster, part)
        await cluster.client.create(Namespace(metadata=ObjectMeta(name="team", labels=PROFILE)))
        await cluster.client.create(Namespace(metadata=ObjectMeta(name="plain")))
        await eventually(lambda: _has(cluster, "team", {"headrace.dev/rows", "headrace.dev/logs"}))
        part.broken = True
        await cluster.client.delete(Namespace, "team")
        await cluster.client.delete(Namespace, "plain")
        await eventually(lambda: _has(cluster, "plain", None))
        await eventually(lambda: _ended(cluster, "team"))
        assert await finalizers(cluster, "team"), "held, though nothing is left in it"
        assert part.forgot == []
        await manager.stop()  # as a crash: the next one goes on
        part.broken = False
        manager = await begin(cluster, part)
        await eventually(lambda: _has(cluster, "team", None))
        assert set(part.forgot) == {"team"}
        await manager.stop()


async def test_the_last_look_comes_after_the_last_pod() -> None:
    part = Part()
    async with embedded_cluster() as cluster:
        manager = await begin(cluster, part)
        await cluster.client.create(Namespace(metadata=ObjectMeta(name="team", labels=PROFILE)))
        await eventually(lambda: _has(cluster, "team", {"headrace.dev/rows", "headrace.dev/logs"}))
        meta = ObjectMeta(name="step", namespace="team", finalizers=["test/hold"])
        await cluster.client.create(Pod(metadata=meta, spec=PodSpec(containers=[Container(name="c", image="i")])))
        await cluster.client.delete(Namespace, "team")
        await eventually(lambda: len(part.forgot) > 4)
        assert await finalizers(cluster, "team"), "the pod may still write"
        await cluster.client.patch(Pod, "step", {"metadata": {"finalizers": None}}, "team")
        await eventually(lambda: _has(cluster, "team", None))
        await manager.stop()


async def _has(cluster, name, wanted) -> bool:
    found = await finalizers(cluster, name)
    return found is None if wanted is None else found is not None and set(found) >= wanted


async def _ended(cluster, name) -> bool:
    return not (await cluster.client.get(Namespace, name)).spec.finalizers
