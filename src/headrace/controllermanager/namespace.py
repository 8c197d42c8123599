"""Namespaces: what each must have, and its end, in which everything in it is deleted first
(upstream: pkg/controller/namespace, serviceaccount, certificates/rootcacertpublisher).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from headrace.api import core
from headrace.api.errors import AlreadyExists, Conflict, MethodNotAllowed, NotFound
from headrace.api.meta import KindInfo, Object, ObjectMeta
from headrace.machinery.controller import DONE, Controller, Result, Watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.client.base import Client

ACCOUNT = "default"
CA_CONFIG_MAP = "kube-root-ca.crt"
CA_ANNOTATIONS = {
    "kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using "
    "internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed "
    "across distributions of Kubernetes clusters."
}
FINALIZER = "kubernetes"
LOOK_AGAIN = 0.5
"""Seconds between looks at what is left in a namespace that ends: pods take their time."""


class Kinds(Protocol):
    """Which kinds the server has now; the API server's catalogue."""

    def all(self) -> list[KindInfo]:
        """Every served kind in every version."""
        ...

    def by_kind(self, group: str, version: str, kind: str) -> KindInfo | None:
        """The kind that an apiVersion and kind name."""
        ...


def one_version_each(infos: Sequence[KindInfo]) -> list[KindInfo]:
    """The first version of each kind."""
    return list({(info.group, info.plural): info for info in reversed(infos)}.values())


def stub(info: KindInfo) -> type[Object]:
    """A type for any kind that keeps only metadata."""
    return type(info.kind, (Object,), {"INFO": info, "__module__": __name__})


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

    def __init__(self, client: Client, kinds: Kinds) -> None:
        self._client, self._kinds = client, kinds

    async def reconcile(self, obj: core.Namespace) -> Result:
        """Delete everything in it; when nothing is left, let it go."""
        meta = obj.metadata
        if meta.deletion_timestamp is None or FINALIZER not in obj.spec.finalizers:
            return DONE
        left = 0
        for info in one_version_each(self._kinds.all()):
            if info.namespaced:
                left += await self._empty(stub(info), meta.name)
        if left:
            return Result(after=LOOK_AGAIN)
        finalizers = [name for name in obj.spec.finalizers if name != FINALIZER]
        patch: dict[str, Any] = {"spec": {"finalizers": finalizers}}
        await self._client.patch(core.Namespace, meta.name, patch, subresource="finalize")
        return DONE

    async def _empty(self, kind: type[Object], namespace: str) -> int:
        """Delete all objects of a kind; how many are still there."""
        try:
            listed = await self._client.list(kind, namespace)
        except (NotFound, MethodNotAllowed):
            return 0  # the kind has gone meanwhile, or its objects are not stored
        for obj in listed.items:
            if obj.metadata.deletion_timestamp is not None:
                continue
            try:
                await self._client.delete(kind, obj.metadata.name, namespace, uid=obj.metadata.uid)
            except (NotFound, Conflict):
                continue
        if not listed.items:
            return 0
        return len((await self._client.list(kind, namespace)).items)
