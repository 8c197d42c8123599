"""PodDisruptionBudgets: how many pods may be evicted now (upstream: pkg/controller/disruption).

The API server's eviction takes from `status.disruptionsAllowed` and notes the pod in `disruptedPods`; this
controller counts again. Its writes carry the resourceVersion that it read, so that it never gives back what an
eviction has just taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import core
from headrace.api.errors import BadRequest, Conflict, NotFound, StatusError
from headrace.api.meta import dynamic_kind
from headrace.api.policy import PodDisruptionBudget
from headrace.controllermanager import disruption_policy as policy
from headrace.controllermanager import pods
from headrace.machinery.controller import DONE, Controller, Result, Watch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.api.meta import KindInfo, OwnerReference
    from headrace.client.base import Client
    from headrace.controllermanager.namespace import Kinds
    from headrace.machinery.clock import Clock
    from headrace.machinery.events import EventRecorder

Json = dict[str, Any]


class DisruptionController(Controller[PodDisruptionBudget]):
    """See module."""

    name = "disruption"
    kind = PodDisruptionBudget

    def __init__(self, client: Client, clock: Clock, events: EventRecorder, kinds: Kinds) -> None:
        self._client, self._clock, self._events, self._kinds = client, clock, events, kinds
        self.watches = (Watch(core.Pod, self._budgets),)

    def _budgets(self, pod: core.Pod) -> Iterable[str]:
        for budget in self.cache(PodDisruptionBudget).all(pod.metadata.namespace):
            if policy.selects(budget.spec, pod.metadata.labels):
                yield budget.key

    async def reconcile(self, obj: PodDisruptionBudget) -> Result:
        """Count, and write what has changed."""
        meta = obj.metadata
        if meta.deletion_timestamp is not None:
            return DONE
        live = await self._client.get(PodDisruptionBudget, meta.name, meta.namespace)
        listed = await self._client.list(core.Pod, meta.namespace)
        found = [pod for pod in listed.items if policy.selects(live.spec, pod.metadata.labels)]
        now, before = self._clock.now(), live.status
        disrupted = policy.still_disrupted(before, found, now)
        failure = ""
        try:
            scale = await self._scale(live, found) if policy.needs_scale(live.spec) else 0
        except StatusError as error:
            if isinstance(error, Conflict):
                raise
            failure = error.message
            await self._events.warning(
                obj, "CalculateExpectedPodCountFailed", f"Failed to calculate the number of expected pods: {failure}"
            )
            after = {**before, "disruptionsAllowed": 0, "observedGeneration": live.metadata.generation}
        else:
            wanted = policy.expected(live.spec, len(found), scale)
            after = policy.status(wanted, policy.healthy(found, disrupted), disrupted, live.metadata.generation)
            if not found:
                await self._events.normal(obj, "NoPods", "No matching pods found")
        conditions = before.get("conditions") or []
        allowed, generation = after["disruptionsAllowed"], live.metadata.generation
        after["conditions"] = policy.condition(allowed, generation, conditions, now, failure)
        if after != before:
            patch = {"status": {**dict.fromkeys(before), **after}}
            await self._client.patch(
                PodDisruptionBudget,
                meta.name,
                _replacing(patch, before),
                meta.namespace,
                subresource="status",
                resource_version=live.metadata.resource_version,
            )
        if not disrupted:
            return DONE
        first = min(disrupted.values()) + policy.DELETION_TIMEOUT
        return Result(after=max((first - now).total_seconds(), 0.0))

    async def _scale(self, budget: PodDisruptionBudget, found: list[core.Pod]) -> int:
        """How many pods their controllers want together. Raises BadRequest where one has no scale."""
        sizes: dict[str, int] = {}
        for pod in found:
            ref = pods.controller_of(pod)
            if ref is None or ref.uid in sizes:
                continue
            owner = await self._owner(ref, budget.metadata.namespace)
            if owner is not None:
                sizes[owner[0]] = owner[1]
                sizes.setdefault(ref.uid, 0)
        return sum(sizes.values())

    async def _owner(self, ref: OwnerReference, namespace: str) -> tuple[str, int] | None:
        """(uid, replicas) of what decides on the number: of a ReplicaSet its Deployment. None when it has gone."""
        info = self._info(ref)
        try:
            scale = await self._client.get(dynamic_kind(info), ref.name, namespace, subresource="scale")
            if scale.metadata.uid != ref.uid:
                return None
            if info.kind == "ReplicaSet":
                itself = await self._client.get(dynamic_kind(info), ref.name, namespace)
                above = pods.controller_of(itself)
                if above is not None and above.kind == "Deployment":
                    return await self._owner(above, namespace)
        except NotFound:
            return None
        return ref.uid, int(scale.spec.get("replicas") or 0)

    def _info(self, ref: OwnerReference) -> KindInfo:
        group, _, version = ref.api_version.rpartition("/")
        info = self._kinds.by_kind(group, version, ref.kind)
        if info is None or "scale" not in info.subresources:
            resource = info.resource if info is not None else f"{ref.kind} in {ref.api_version}"
            raise BadRequest(f"{resource} does not implement the scale subresource")
        return info


def _replacing(patch: Json, before: Json) -> Json:
    """A merge patch that replaces the map of disrupted pods and does not merge into it."""
    old = before.get("disruptedPods") or {}
    new = patch["status"].get("disruptedPods")
    if new is not None:
        patch["status"]["disruptedPods"] = {**dict.fromkeys(old), **new}
    return patch
