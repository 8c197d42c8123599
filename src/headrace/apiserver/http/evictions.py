"""Evictions: deletions of pods that a PodDisruptionBudget may refuse (upstream: registry/core/pod/storage/eviction.go).

An eviction takes one from the budget's `disruptionsAllowed` before the pod is deleted, at the revision that it read:
two evictions cannot share the last place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.core import Pod
from headrace.api.errors import BadRequest, Cause, Conflict, Forbidden, InternalError, Timeout, TooManyRequests
from headrace.api.meta import LabelSelector
from headrace.api.policy import PodDisruptionBudget
from headrace.apiserver.admission.dynamic.gate import admit_part
from headrace.apiserver.authn.tokens import SYSTEM
from headrace.apiserver.http.messages import success, warning_headers
from headrace.apiserver.http.resources import as_object, dry_run, is_dry

if TYPE_CHECKING:
    from headrace.api.identity import User
    from headrace.apiserver.http.messages import Request, Sendable
    from headrace.apiserver.http.targets import Target
    from headrace.apiserver.registry import Registry
    from headrace.machinery.clock import Clock

Json = dict[str, Any]

ATTEMPTS = 20
MAX_DISRUPTED = 2000
REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."
CAUSE = "DisruptionBudget"
TARGET = "DisruptionTarget"


class Evictions:
    """Answers POST pods/NAME/eviction, after authorization."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry, self._clock = registry, clock

    async def evict(self, request: Request, user: User, target: Target) -> Sendable:
        """Evict. Raises TooManyRequests when the budget is used up."""
        body = as_object(await request.decoded(), Pod.INFO)
        named = as_object(body.get("metadata") or {}, Pod.INFO).get("name")
        if named and named != target.name:
            raise BadRequest("name in URL does not match name in Eviction object")
        meta = {"name": target.name, "namespace": target.namespace}
        sent = {
            **body,
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {**(body.get("metadata") or {}), **meta},
        }
        warnings: list[str] = []
        options = as_object(body.get("deleteOptions") or {}, Pod.INFO)
        dry = dry_run(request) or is_dry(options.get("dryRun") or [])
        body = await admit_part(
            self._registry, user, Pod.INFO, meta, part="eviction", sent=sent, dry_run=dry, warnings=warnings
        )
        options = as_object(body.get("deleteOptions") or {}, Pod.INFO)
        preconditions = options.get("preconditions") or {}
        version = str(preconditions.get("resourceVersion") or "")
        for _ in range(ATTEMPTS):
            pod = _wire.decode(Pod, await self._registry.get(SYSTEM, Pod.INFO, target.name, target.namespace))
            guarded, budget = await self._allowed(pod, dry=dry)
            seen = version or (pod.metadata.resource_version if guarded else "")
            if not dry and version in {"", pod.metadata.resource_version}:
                marked = await self._mark(pod)
                seen = marked if seen else ""
            try:
                await self._registry.delete(
                    SYSTEM,
                    Pod.INFO,
                    target.name,
                    target.namespace,
                    uid=str(preconditions.get("uid") or ""),
                    resource_version=seen,
                    grace_period_seconds=options.get("gracePeriodSeconds"),
                    dry_run=dry,
                )
            except Conflict:
                if version or preconditions.get("uid") or not guarded:
                    raise
                if budget:
                    raise _being_processed(budget) from None
                continue
            return success({}, 201, warning_headers(warnings))
        raise Timeout(f"couldn't evict pod {target.name!r} due to conflicts", retry_after=10)

    async def _allowed(self, pod: Pod, *, dry: bool) -> tuple[bool, str]:
        """Whether the pod must be as it was read when it is deleted, and the budget that has been asked. Raises
        TooManyRequests, Forbidden.
        """
        ended = pod.status.phase in {"Succeeded", "Failed"} or pod.metadata.deletion_timestamp is not None
        if ended:
            return False, ""
        if pod.status.phase in {"", "Pending"}:
            return True, ""
        for _ in range(ATTEMPTS):
            budgets = await self._budgets(pod)
            if not budgets:
                return False, ""
            if len(budgets) > 1:
                raise InternalError(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
                )
            budget = budgets[0]
            name = budget["metadata"]["name"]
            if not _ready(pod) and _unhealthy_may_go(budget):
                return True, name
            try:
                await self._take(budget, pod, dry=dry)
            except Conflict:
                continue
            return False, name
        raise Timeout(f"couldn't update PodDisruptionBudget {name!r} due to conflicts", retry_after=10)

    async def _budgets(self, pod: Pod) -> list[Json]:
        page = await self._registry.list(SYSTEM, PodDisruptionBudget.INFO, pod.metadata.namespace)
        found: list[Json] = [_wire.decode_any(raw) for raw in page.items]
        return [b for b in found if _selects(b, pod)]

    async def _take(self, budget: Json, pod: Pod, *, dry: bool) -> None:
        """One fewer disruption is allowed. Raises Conflict when the budget has moved."""
        meta, status = budget["metadata"], budget.get("status") or {}
        name = meta["name"]
        allowed = status.get("disruptionsAllowed") or 0
        if (status.get("observedGeneration") or 0) < meta.get("generation", 0):
            raise _being_processed(name)
        if allowed < 0 or len(status.get("disruptedPods") or {}) > MAX_DISRUPTED:
            why = (
                "pdb disruptions allowed is negative"
                if allowed < 0
                else "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
            )
            raise Forbidden(f'poddisruptionbudgets.policy "{name}" is forbidden: {why}', name=name)
        if allowed == 0:
            needed, healthy = status.get("desiredHealthy") or 0, status.get("currentHealthy") or 0
            why = f"The disruption budget {name} needs {needed} healthy pods and has {healthy} currently"
            raise TooManyRequests(REFUSED, causes=[Cause("", why, CAUSE)])
        if dry:
            return
        now = self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        change: Json = {"disruptionsAllowed": allowed - 1, "disruptedPods": {pod.metadata.name: now}}
        if allowed == 1:
            change["conditions"] = [_exhausted(c, now) for c in status.get("conditions") or ()]
        patch = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "status": change}
        await self._registry.patch(
            SYSTEM, PodDisruptionBudget.INFO, name, patch, meta["namespace"], subresource="status"
        )

    async def _mark(self, pod: Pod) -> str:
        """Say on the pod why it goes, for what reads it afterwards (a Job's podFailurePolicy). The new revision."""
        if pod.status.phase in {"Succeeded", "Failed"} or pod.metadata.deletion_timestamp is not None:
            return pod.metadata.resource_version
        kept = [c for c in _wire.to_builtins(pod.status.conditions) if c["type"] != TARGET]
        made = {
            "type": TARGET,
            "status": "True",
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
            "lastTransitionTime": self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        meta = pod.metadata
        patch: Json = {
            "metadata": {"resourceVersion": meta.resource_version},
            "status": {"conditions": [*kept, made]},
        }
        try:
            raw = await self._registry.patch(SYSTEM, Pod.INFO, meta.name, patch, meta.namespace, subresource="status")
        except Conflict:
            return meta.resource_version
        return str(_wire.decode_any(raw)["metadata"]["resourceVersion"])


def _selects(budget: Json, pod: Pod) -> bool:
    selector = (budget.get("spec") or {}).get("selector")
    return selector is not None and _wire.convert(LabelSelector, selector).matches(pod.metadata.labels)


def _ready(pod: Pod) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)


def _unhealthy_may_go(budget: Json) -> bool:
    """Whether a pod that is not ready may go without being counted."""
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    desired = status.get("desiredHealthy") or 0
    return desired > 0 and (status.get("currentHealthy") or 0) >= desired


def _exhausted(condition: Json, now: str) -> Json:
    if condition.get("type") != "DisruptionAllowed":
        return condition
    return {**condition, "status": "False", "reason": "InsufficientPods", "lastTransitionTime": now}


def _being_processed(name: str) -> TooManyRequests:
    why = f"The disruption budget {name} is still being processed by the server."
    return TooManyRequests(REFUSED, causes=[Cause("", why, CAUSE)], retry_after=10)
