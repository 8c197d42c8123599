"""Namespaces: what each must have, and its end, in which everything in it is deleted first
(upstream: pkg/controller/namespace, serviceaccount, certificates/rootcacertpublisher).
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from headrace.api import core
from headrace.api.errors import AlreadyExists, Conflict, MethodNotAllowed, NotFound, StatusError
from headrace.api.meta import KindInfo, Object, ObjectMeta
from headrace.machinery.controller import DONE, Controller, Result, Watch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.api.meta import Time
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock

ACCOUNT = "default"
CA_CONFIG_MAP = "kube-root-ca.crt"
CA_ANNOTATIONS = {
    "kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using "
    "internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed "
    "across distributions of Kubernetes clusters."
}
FINALIZER = "kubernetes"
LOOK_AGAIN, MAX_LOOK_AGAIN = 0.5, 15.0
"""Seconds between looks at what is left in a namespace that ends: pods take their time. The pause grows with what
has passed, because a finalizer may hold something for days.
"""
EXPLAIN_AFTER = 2.0
"""Most namespaces are gone by then and need no explanation."""
REMAINING, HELD = "NamespaceContentRemaining", "NamespaceFinalizersRemaining"
UNKNOWN = "NamespaceDeletionDiscoveryFailure"
REASONS = {REMAINING: "SomeResourcesRemain", HELD: "SomeFinalizersRemain", UNKNOWN: "DiscoveryFailed"}


class Kinds(Protocol):
    """Which kinds the server has now; the API server's catalogue."""

    def all(self) -> list[KindInfo]:
        """Every served kind in every version."""
        ...

    def by_kind(self, group: str, version: str, kind: str) -> KindInfo | None:
        """The kind that an apiVersion and kind name."""
        ...


class Elsewhere(Protocol):
    """What other API servers keep in namespaces."""

    async def clear(self, namespace: str) -> dict[str, int]:
        """Delete it; how many there still are, by `plural.group`. Raises StatusError when a server does not say."""
        ...


def one_version_each(infos: Sequence[KindInfo]) -> list[KindInfo]:
    """The first version of each kind."""
    return list({(info.group, info.plural): info for info in reversed(infos)}.values())


@cache
def stub(info: KindInfo) -> type[Object]:
    """A type for any kind that keeps only metadata; one for each kind, decoders are kept by type."""
    return type(info.kind, (Object,), {"INFO": info, "__module__": __name__})


def explained(
    before: list[core.PodCondition],
    left: Mapping[KindInfo, Sequence[Object]],
    now: Time,
    elsewhere: Mapping[str, int],
    failure: str,
) -> list[core.PodCondition]:
    """The namespace's conditions with what is left in it, here and elsewhere, which finalizers hold it, and why it is
    not known what other servers have.
    """
    resources = {f"{info.plural}.{info.group}".rstrip("."): len(found) for info, found in left.items()} | {**elsewhere}
    finalizers = Counter(name for found in left.values() for obj in found for name in obj.metadata.finalizers)
    said = {REMAINING: "", HELD: "", UNKNOWN: failure}
    if resources:
        parts = [f"{name} has {count} resource instances" for name, count in sorted(resources.items())]
        said[REMAINING] = f"Some resources are remaining: {', '.join(parts)}"
    if finalizers:
        parts = [f"{name} in {count} resource instances" for name, count in sorted(finalizers.items())]
        said[HELD] = f"Some content in the namespace has finalizers remaining: {', '.join(parts)}"
    times = {c.type: c.last_transition_time for c in before}
    return [c for c in before if c.type not in said] + [
        core.PodCondition(
            type=type_,
            status="True",
            reason=REASONS[type_],
            message=message,
            last_transition_time=times.get(type_) or now,
        )
        for type_, message in said.items()
        if message
    ]


class NamespaceDefaultsController(Controller[core.Namespace]):
    """The service account `default` and the CA's certificate, in every namespace, also after somebody deleted them."""

    name = "namespace-defaults"
    kind = core.Namespace

    def __init__(self, client: Client, ca_pem: str) -> None:
        self._client, self._ca_pem = client, ca_pem
        self.watches = (Watch(core.ServiceAccount, self._of_account), Watch(core.ConfigMap, self._of_config_map))

    def _of_account(self, account: core.ServiceAccount) -> tuple[str, ...]:
        return (account.metadata.namespace,) if account.metadata.name == ACCOUNT else ()

    def _of_config_map(self, found: core.ConfigMap) -> tuple[str, ...]:
        return (found.metadata.namespace,) if found.metadata.name == CA_CONFIG_MAP else ()

    async def reconcile(self, obj: core.Namespace) -> Result:
        """Create what is missing; a changed certificate is written again."""
        name = obj.metadata.name
        if obj.metadata.deletion_timestamp is not None or obj.status.phase == "Terminating":
            return DONE
        if self.cache(core.ServiceAccount).get(f"{name}/{ACCOUNT}") is None:
            await self._create(core.ServiceAccount(metadata=ObjectMeta(name=ACCOUNT, namespace=name)))
        wanted = core.ConfigMap(
            metadata=ObjectMeta(name=CA_CONFIG_MAP, namespace=name, annotations=dict(CA_ANNOTATIONS)),
            data={"ca.crt": self._ca_pem},
        )
        found = self.cache(core.ConfigMap).get(f"{name}/{CA_CONFIG_MAP}")
        if found is None:
            await self._create(wanted)
        elif found.data != wanted.data:
            gone = dict.fromkeys(found.data.keys() - wanted.data.keys())
            await self._client.patch(core.ConfigMap, CA_CONFIG_MAP, {"data": {**gone, **wanted.data}}, name)
        return DONE

    async def _create(self, obj: Object) -> None:
        try:
            await self._client.create(obj)
        except AlreadyExists:
            return


class NamespaceController(Controller[core.Namespace]):
    """The end of a namespace."""

    name = "namespace"
    kind = core.Namespace

    def __init__(self, client: Client, kinds: Kinds, clock: Clock, elsewhere: Elsewhere | None = None) -> None:
        self._client, self._kinds, self._clock, self._elsewhere = client, kinds, clock, elsewhere

    async def reconcile(self, obj: core.Namespace) -> Result:
        """Delete everything in it; when nothing is left, let it go. What is left is said in conditions."""
        meta = obj.metadata
        if meta.deletion_timestamp is None or FINALIZER not in obj.spec.finalizers:
            return DONE
        left: dict[KindInfo, list[Object]] = {}
        for info in one_version_each(self._kinds.all()):
            found = await self._empty(stub(info), meta.name) if info.namespaced else []
            if found:
                left[info] = found
        others, failure = await self._others(meta.name)
        if left or others or failure:
            now = self._clock.now()
            passed = (now - meta.deletion_timestamp).total_seconds()
            if passed > EXPLAIN_AFTER:
                obj.status.conditions = explained(obj.status.conditions, left, now, others, failure)
            return Result(after=min(max(LOOK_AGAIN, passed / 4), MAX_LOOK_AGAIN))
        finalizers = [name for name in obj.spec.finalizers if name != FINALIZER]
        patch: dict[str, Any] = {"spec": {"finalizers": finalizers}}
        await self._client.patch(core.Namespace, meta.name, patch, subresource="finalize")
        return DONE

    async def _others(self, namespace: str) -> tuple[dict[str, int], str]:
        """What is left on other servers, and why that is not known."""
        if self._elsewhere is None:
            return {}, ""
        try:
            return await self._elsewhere.clear(namespace), ""
        except StatusError as error:
            return {}, error.message

    async def _empty(self, kind: type[Object], namespace: str) -> list[Object]:
        """Delete all objects of a kind; which are still there."""
        try:
            listed = await self._client.list(kind, namespace)
        except (NotFound, MethodNotAllowed):
            return []  # the kind has gone meanwhile, or its objects are not stored
        for obj in listed.items:
            if obj.metadata.deletion_timestamp is not None:
                continue
            try:
                await self._client.delete(kind, obj.metadata.name, namespace, uid=obj.metadata.uid)
            except (NotFound, Conflict):
                continue
        if not listed.items:
            return []
        return list((await self._client.list(kind, namespace)).items)
