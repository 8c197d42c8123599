"""NoExecute taints: pods that do not tolerate them leave the node (upstream: pkg/controller/tainteviction).

When a pod's time began is kept in memory, as upstream: after a restart a toleration's seconds begin again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import _wire, core
from headrace.api.errors import NotFound
from headrace.controllermanager import pods
from headrace.controllermanager import taints_policy as policy
from headrace.machinery.controller import DONE, Controller, Result, Watch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.client.base import Client
    from headrace.machinery.clock import Clock
    from headrace.machinery.events import EventRecorder

Json = dict[str, Any]
TARGET = "DisruptionTarget"


class TaintEvictionController(Controller[core.Node]):
    """See module."""

    name = "tainteviction"
    kind = core.Node

    def __init__(self, client: Client, clock: Clock, events: EventRecorder) -> None:
        self._client, self._clock, self._events = client, clock, events
        self.watches = (Watch(core.Pod, self._nodes),)
        self._since: dict[str, float] = {}

    def _nodes(self, pod: core.Pod) -> Iterable[str]:
        """The pod's node, where it has taints of this kind: without them nobody needs to be asked."""
        node = self.cache(core.Node).get(pod.spec.node_name) if pod.spec.node_name else None
        return (node.key,) if node is not None and policy.no_execute(node.spec.taints) else ()

    async def reconcile(self, obj: core.Node) -> Result:
        """Delete the pods whose time is up."""
        taints = policy.no_execute(obj.spec.taints)
        if not taints:
            self._since.clear()
            return DONE
        name, now = obj.metadata.name, self._clock.monotonic()
        there = [p for p in self.cache(core.Pod).all() if p.spec.node_name == name and pods.active(p)]
        graces = {p.metadata.uid: policy.grace(p.spec.tolerations, taints) for p in there}
        self._since = {uid: self._since.get(uid, now) for uid, seconds in graces.items() if seconds is not None}
        waits: list[float] = []
        for pod in there:
            seconds = graces[pod.metadata.uid]
            if seconds is None:
                continue
            left = self._since[pod.metadata.uid] + seconds - now
            if left <= 0:
                await self._evict(pod)
            else:
                waits.append(left)
        return Result(after=min(waits)) if waits else DONE

    async def _evict(self, pod: core.Pod) -> None:
        meta = pod.metadata
        await self._events.normal(pod, "TaintManagerEviction", f"Marking for deletion Pod {pod.key}")
        kept = [c for c in _wire.to_builtins(pod.status.conditions) if c["type"] != TARGET]
        made: Json = {
            "type": TARGET,
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        try:
            await self._client.patch(
                core.Pod,
                meta.name,
                {"metadata": {"uid": meta.uid}, "status": {"conditions": [*kept, made]}},
                meta.namespace,
                subresource="status",
                resource_version=meta.resource_version,
            )
            await self._client.delete(core.Pod, meta.name, meta.namespace, uid=meta.uid)
        except NotFound:
            return
