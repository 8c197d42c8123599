"""What every client must do, over whatever API server.

A subclass gives three fixtures:

- `client`: acts as an administrator; the kind Widget is served and namespace `default` exists;
- `stranger`: acts as a service account that nothing was granted to;
- `namespace`: a namespace that this test has for itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

import msgspec
import pytest

from headrace.api.apps import Deployment
from headrace.api.core import ConfigMap, Container, Namespace, Pod
from headrace.api.errors import AlreadyExists, BadRequest, Conflict, Forbidden, Gone, Invalid, NotFound
from headrace.api.identity import service_account
from headrace.api.meta import KindInfo, LabelSelector, Object, ObjectMeta, Struct
from headrace.api.rbac import PolicyRule, Role, RoleBinding, RoleRef, Subject
from headrace.client.base import EventType

if TYPE_CHECKING:
    from headrace.client.base import Client

STRANGER = service_account("default", "stranger")


class WidgetSpec(Struct):
    """What somebody wants."""

    size: int
    color: str = ""


class WidgetStatus(Struct):
    """What there is."""

    phase: str = ""
    seen: list[str] = []


class Widget(Object, kw_only=True):
    """A custom kind with a status."""

    INFO: ClassVar[KindInfo] = KindInfo("contract.headrace.dev", "v1", "Widget", "widgets")
    spec: WidgetSpec
    status: WidgetStatus = msgspec.field(default_factory=WidgetStatus)


def config(namespace: str, name: str, **data: str) -> ConfigMap:
    """A ConfigMap."""
    return ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace), data=data)


def widget(namespace: str, name: str, size: int = 1) -> Widget:
    """A Widget."""
    return Widget(metadata=ObjectMeta(name=name, namespace=namespace), spec=WidgetSpec(size=size))


def pod(namespace: str, name: str) -> Pod:
    """A Pod."""
    made = Pod(metadata=ObjectMeta(name=name, namespace=namespace))
    made.spec.containers = [Container(name="c", image="python:3.11")]
    return made


class ClientContract:
    """One test a promise of `client.base.Client`."""

    async def test_create_and_get(self, client: Client, namespace: str) -> None:
        """What comes back is what is there."""
        made = await client.create(config(namespace, "a", x="1"))
        assert made.metadata.uid
        assert made.metadata.resource_version
        assert made.metadata.creation_timestamp is not None
        assert await client.get(ConfigMap, "a", namespace) == made

    async def test_errors_are_told_apart(self, client: Client, namespace: str) -> None:
        """Both 409s, 404, 422, 400."""
        with pytest.raises(NotFound, match='configmaps "a" not found'):
            await client.get(ConfigMap, "a", namespace)
        made = await client.create(config(namespace, "a"))
        with pytest.raises(AlreadyExists, match='configmaps "a" already exists'):
            await client.create(config(namespace, "a"))
        await client.patch(ConfigMap, "a", {"data": {"x": "1"}}, namespace)
        made.data = {"x": "2"}
        with pytest.raises(Conflict, match="the object has been modified"):
            await client.update(made)
        with pytest.raises(Invalid) as caught:
            await client.create(config(namespace, "Wrong_Name"))
        assert [c.field for c in caught.value.causes] == ["metadata.name"]
        with pytest.raises(BadRequest):
            await client.patch(ConfigMap, "a", {"data": {"x": 1}}, namespace)
        with pytest.raises(NotFound, match='namespaces "nowhere" not found'):
            await client.create(config("nowhere", "a"))

    async def test_every_cause_is_named(self, client: Client, namespace: str) -> None:
        """Of a built-in kind and of a custom one."""
        wrong = pod(namespace, "p")
        wrong.spec.containers[0].image = ""
        wrong.spec.restart_policy = "Sometimes"
        with pytest.raises(Invalid) as caught:
            await client.create(wrong)
        assert {c.field for c in caught.value.causes} == {"spec.containers[0].image", "spec.restartPolicy"}
        await client.create(widget(namespace, "w"))
        with pytest.raises(Invalid) as caught:
            await client.patch(Widget, "w", {"spec": {"size": "big", "color": 7}}, namespace)
        assert {c.field for c in caught.value.causes} == {"spec.size", "spec.color"}

    async def test_update(self, client: Client, namespace: str) -> None:
        """Replaces what the caller holds."""
        made = await client.create(config(namespace, "a", x="1", y="1"))
        made.data = {"x": "2"}
        updated = await client.update(made)
        assert updated.data == {"x": "2"}
        assert updated.metadata.uid == made.metadata.uid
        assert updated.metadata.resource_version != made.metadata.resource_version

    async def test_patch(self, client: Client, namespace: str) -> None:
        """Merges; null removes; a stale version conflicts; nothing changed is nothing written."""
        made = await client.create(config(namespace, "a", x="1", y="1"))
        patched = await client.patch(ConfigMap, "a", {"data": {"x": None, "z": "3"}}, namespace)
        assert patched.data == {"y": "1", "z": "3"}
        with pytest.raises(Conflict):
            await client.patch(ConfigMap, "a", {"data": {}}, namespace, resource_version=made.metadata.resource_version)
        same = await client.patch(ConfigMap, "a", {"data": {"y": "1"}}, namespace)
        assert same.metadata.resource_version == patched.metadata.resource_version
        with pytest.raises(NotFound):
            await client.patch(ConfigMap, "b", {"data": {}}, namespace)

    async def test_patches_from_all_sides_land(self, client: Client, namespace: str) -> None:
        """Without versions nothing conflicts and nothing is lost."""
        await client.create(config(namespace, "a"))
        await asyncio.gather(*(client.patch(ConfigMap, "a", {"data": {f"k{i}": "v"}}, namespace) for i in range(10)))
        assert len((await client.get(ConfigMap, "a", namespace)).data) == 10

    async def test_status_and_generation(self, client: Client, namespace: str) -> None:
        """Status is written by itself; generation counts what people want."""
        made = await client.create(widget(namespace, "w"))
        assert made.metadata.generation == 1
        await client.patch(Widget, "w", {"status": {"phase": "Ready"}, "spec": {"size": 2}}, namespace)
        changed = await client.get(Widget, "w", namespace)
        assert (changed.spec.size, changed.status.phase, changed.metadata.generation) == (2, "", 2)
        patch = {"status": {"phase": "Ready"}, "spec": {"size": 3}}
        changed = await client.patch(Widget, "w", patch, namespace, subresource="status")
        assert (changed.spec.size, changed.status.phase, changed.metadata.generation) == (2, "Ready", 2)

    async def test_scale(self, client: Client, namespace: str) -> None:
        """By the scale subresource."""
        labels = {"app": "x"}
        made = Deployment(metadata=ObjectMeta(name="d", namespace=namespace))
        made.spec.selector = LabelSelector(match_labels=labels)
        made.spec.template.metadata.labels = labels
        made.spec.template.spec.containers = [Container(name="c", image="python:3.11")]
        await client.create(made)
        scaled = await client.patch(Deployment, "d", {"spec": {"replicas": 0}}, namespace, subresource="scale")
        assert scaled.spec.replicas == 0

    async def test_apply(self, client: Client, namespace: str) -> None:
        """Creates, merges, and then rests; also over defaults that the server has set."""
        await client.apply(config(namespace, "a", x="1"))
        merged = await client.apply(config(namespace, "a", y="2"))
        assert merged.data == {"x": "1", "y": "2"}
        again = await client.apply(config(namespace, "a", y="2"))
        assert again.metadata.resource_version == merged.metadata.resource_version
        first = await client.apply(widget(namespace, "w", 2))
        assert await client.apply(widget(namespace, "w", 2)) == first

    async def test_list_and_selectors(self, client: Client, namespace: str) -> None:
        """Namespace, labels, fields; in name order."""
        for name, labels in {"b": {"app": "y"}, "a": {"app": "x"}, "c": {}}.items():
            made = config(namespace, name)
            made.metadata.labels = labels
            await client.create(made)

        async def names(labels: str = "", fields: str = "") -> list[str]:
            listed = await client.list(ConfigMap, namespace, labels=labels, fields=fields)
            assert listed.resource_version
            return [o.metadata.name for o in listed.items if o.metadata.name != "kube-root-ca.crt"]

        assert await names() == ["a", "b", "c"]
        assert await names("app in (x,y),app!=y") == ["a"]
        assert await names("!app") == ["c"]
        assert await names(fields="metadata.name=b") == ["b"]
        with pytest.raises(BadRequest):
            await names(fields="data.x=1")
        everywhere = await client.list(ConfigMap, labels="app=x")
        assert namespace in {o.metadata.namespace for o in everywhere.items}

    async def test_watch_from_a_list(self, client: Client, namespace: str) -> None:
        """Nothing that happens after the list is missed."""
        listed = await client.list(ConfigMap, namespace)
        await client.create(config(namespace, "a"))
        watch = client.watch(ConfigMap, namespace, resource_version=listed.resource_version, labels="!ignored")
        await client.patch(ConfigMap, "a", {"data": {"x": "1"}}, namespace)
        await client.patch(ConfigMap, "a", {"metadata": {"labels": {"ignored": "yes"}}}, namespace)
        await client.delete(ConfigMap, "a", namespace)
        seen = [await asyncio.wait_for(anext(watch), 10) for _ in range(3)]
        assert [e.type for e in seen] == [EventType.ADDED, EventType.MODIFIED, EventType.DELETED]
        assert seen[1].object.data == {"x": "1"}

    async def test_watchers_see_the_same(self, client: Client, namespace: str) -> None:
        """Whoever watches a kind, with a selector or without."""
        listed = await client.list(ConfigMap, namespace)
        version = listed.resource_version
        watches = [client.watch(ConfigMap, namespace, resource_version=version, labels=s) for s in ("", "app=x")]
        made = config(namespace, "a")
        made.metadata.labels = {"app": "x"}
        await client.create(made)
        one, other = [await asyncio.wait_for(anext(watch), 10) for watch in watches]
        assert one == other
        assert one.object.metadata.labels == {"app": "x"}

    async def test_watch_of_a_custom_kind(self, client: Client, namespace: str) -> None:
        """Status changes are seen too."""
        listed = await client.list(Widget, namespace)
        watch = client.watch(Widget, namespace, resource_version=listed.resource_version)
        await client.create(widget(namespace, "w"))
        await client.patch(Widget, "w", {"status": {"seen": ["a"]}}, namespace, subresource="status")
        seen = [await asyncio.wait_for(anext(watch), 10) for _ in range(2)]
        assert seen[1].object.status.seen == ["a"]

    async def test_delete(self, client: Client, namespace: str) -> None:
        """By name; by uid; what is held by a finalizer stays until that is gone."""
        made = await client.create(config(namespace, "a"))
        with pytest.raises(Conflict):
            await client.delete(ConfigMap, "a", namespace, uid="another")
        await client.delete(ConfigMap, "a", namespace, uid=made.metadata.uid)
        with pytest.raises(NotFound):
            await client.delete(ConfigMap, "a", namespace)
        held = config(namespace, "b")
        held.metadata.finalizers = ["example.com/hold"]
        await client.create(held)
        await client.delete(ConfigMap, "b", namespace)
        assert (await client.get(ConfigMap, "b", namespace)).metadata.deletion_timestamp is not None
        await client.patch(ConfigMap, "b", {"metadata": {"finalizers": None}}, namespace)
        with pytest.raises(NotFound):
            await client.get(ConfigMap, "b", namespace)

    async def test_cluster_scoped_kinds(self, client: Client, namespace: str) -> None:
        """Have no namespace."""
        found = await client.get(Namespace, namespace)
        assert found.status.phase == "Active"
        assert namespace in {o.metadata.name for o in (await client.list(Namespace)).items}

    async def test_an_impossible_version_is_refused(self, client: Client, namespace: str) -> None:
        """A version that is no number is a bad request, never an endless watch."""

        async def first() -> None:
            await anext(client.watch(ConfigMap, namespace, resource_version="yesterday"))

        with pytest.raises((BadRequest, Gone)):
            await asyncio.wait_for(first(), 10)

    async def test_strangers_may_nothing_until_it_is_granted(
        self, client: Client, stranger: Client, namespace: str
    ) -> None:
        """RBAC holds for every verb, and a grant for the very next request."""
        with pytest.raises(Forbidden, match="cannot get resource"):
            await stranger.get(ConfigMap, "a", namespace)
        with pytest.raises(Forbidden):
            await stranger.list(ConfigMap, namespace)
        with pytest.raises(Forbidden):
            await stranger.create(config(namespace, "a"))
        with pytest.raises(Forbidden):
            await anext(stranger.watch(ConfigMap, namespace, resource_version=""))
        role = Role(metadata=ObjectMeta(name="reader", namespace=namespace))
        role.rules = [PolicyRule(verbs=["get"], api_groups=[""], resources=["configmaps"])]
        await client.create(role)
        binding = RoleBinding(
            metadata=ObjectMeta(name="reader", namespace=namespace),
            role_ref=RoleRef(kind="Role", name="reader"),
            subjects=[Subject(kind="ServiceAccount", name="stranger", namespace="default")],
        )
        await client.create(binding)
        with pytest.raises(NotFound):
            await stranger.get(ConfigMap, "a", namespace)
        with pytest.raises(Forbidden):
            await stranger.delete(ConfigMap, "a", namespace)
        allowed = await client.review_access(STRANGER, "get", resource="configmaps", namespace=namespace)
        denied = await client.review_access(STRANGER, "get", resource="secrets", namespace=namespace)
        assert (allowed, denied) == (True, False)
