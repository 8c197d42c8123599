"""metrics.k8s.io/v1beta1: what nodes and pods use, for `kubectl top` and autoscalers.

On a cluster an aggregated API server (metrics-server) answers these from what it has gathered; here each question
is measured when it is asked. They can be read and listed; every other verb is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.core import Node, Pod
from headrace.api.errors import MethodNotAllowed, NotFound, ServiceUnavailable
from headrace.api.meta import KindInfo
from headrace.apiserver.authn.tokens import SYSTEM
from headrace.apiserver.authz.rbac import Attributes
from headrace.apiserver.http.negotiation import negotiate
from headrace.apiserver.http.resources import include_object
from headrace.apiserver.registry.core import forbidden
from headrace.apiserver.registry.selectors import parse_labels
from headrace.client.base import Page

if TYPE_CHECKING:
    from headrace.api.identity import User
    from headrace.apiserver.http.messages import Request, Sendable
    from headrace.apiserver.http.representation import Representations
    from headrace.apiserver.http.targets import Target
    from headrace.apiserver.registry import Registry
    from headrace.machinery.clock import Clock
    from headrace.machinery.component import ContainerUsage, NodeUsage, Usages

GROUP = "metrics.k8s.io"
NODES = KindInfo(GROUP, "v1beta1", "NodeMetrics", "nodes", namespaced=False, subresources=frozenset())
PODS = KindInfo(GROUP, "v1beta1", "PodMetrics", "pods", subresources=frozenset())
KINDS = (NODES, PODS)
BY_PATH = {(k.group, k.version, k.plural): k for k in KINDS}

Json = dict[str, Any]


class ResourceMetrics:
    """Answers get and list."""

    def __init__(self, registry: Registry, shapes: Representations, clock: Clock, usages: Usages | None) -> None:
        self._registry, self._shapes, self._clock, self._usages = registry, shapes, clock, usages

    async def handle(self, request: Request, user: User, info: KindInfo, target: Target) -> Sendable:
        """One or many. Raises Forbidden, NotFound, MethodNotAllowed, ServiceUnavailable."""
        if request.method not in {"GET", "HEAD"} or request.flag("watch") or target.subresource:
            raise MethodNotAllowed(f"{info.plural}.{GROUP} can be read and listed only")
        if bool(target.namespace) != info.namespaced and (target.namespace or target.name):
            raise NotFound("the server could not find the requested resource")
        asked = Attributes("get" if target.name else "list", GROUP, info.plural, "", target.namespace, target.name)
        if not self._registry.authorizer.allows(user, asked):
            raise forbidden(user, asked)
        if self._usages is None:
            raise ServiceUnavailable("no node agent runs here, so nothing is measured", retry_after=5)
        wanted, include = negotiate(request.header(b"accept")), include_object(request)
        requirements = parse_labels(request.query.get("labelSelector", ""))
        source = Node.INFO if info is NODES else Pod.INFO
        page = await self._registry.list(SYSTEM, source, target.namespace)
        objects = [_wire.decode_any(raw) for raw in page.items]
        chosen = [
            obj
            for obj in objects
            if (not target.name or obj["metadata"]["name"] == target.name)
            and all(r.holds(obj["metadata"].get("labels") or {}) for r in requirements)
        ]
        if not chosen and target.name:
            raise NotFound.of(info, target.name)
        usage = await self._usages.usage()
        head = {
            "timestamp": self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "window": f"{max(usage.window_seconds, 0.001):.3f}s",
        }
        found = [m for obj in chosen if (m := _measured(info, obj, usage, head)) is not None]
        if target.name:
            if not found:
                raise NotFound.of(info, target.name)
            return self._shapes.one(info, _wire.encode(found[0]), wanted, include=include)
        return self._shapes.page(
            info, Page([_wire.encode(m) for m in found], page.resource_version), wanted, include=include
        )


def _measured(info: KindInfo, obj: Json, usage: NodeUsage, head: Json) -> Json | None:
    """The metrics of a node or a pod; None of a pod that does not run."""
    meta = obj["metadata"]
    kept = {k: meta[k] for k in ("name", "namespace", "labels") if k in meta}
    measured: Json = {
        "kind": info.kind,
        "apiVersion": info.api_version,
        "metadata": {**kept, "creationTimestamp": head["timestamp"]},
        **head,
    }
    if info is NODES:
        return {**measured, "usage": quantities(usage.cpu_cores, usage.memory_bytes)}
    containers = usage.pods.get(meta.get("uid", ""))
    return {**measured, "containers": [_container(c) for c in containers]} if containers else None


def _container(usage: ContainerUsage) -> Json:
    return {"name": usage.container, "usage": quantities(usage.cpu_cores, usage.memory_bytes)}


def quantities(cores: float, memory: int) -> Json:
    """As metrics-server writes them: nanocores and KiB."""
    return {"cpu": f"{round(cores * 1e9)}n", "memory": f"{memory >> 10}Ki"}
