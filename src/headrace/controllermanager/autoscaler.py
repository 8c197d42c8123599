"""HorizontalPodAutoscalers: replicas that follow what pods use (upstream: pkg/controller/podautoscaler).

Nothing is measured while there is no autoscaler; autoscalers that are looked at together share one measurement.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from headrace.api import conditions, core, quantity
from headrace.api.autoscaling import HorizontalPodAutoscaler
from headrace.api.errors import BadRequest, StatusError
from headrace.api.meta import dynamic_kind
from headrace.controllermanager import autoscaler_metrics_policy as metrics
from headrace.controllermanager import autoscaler_policy as policy
from headrace.controllermanager.autoscaler_custom import OtherMetrics, Scaled
from headrace.machinery.controller import DONE, Controller, Result

if TYPE_CHECKING:
    from headrace.api.meta import Unstructured
    from headrace.client.base import Client
    from headrace.controllermanager.autoscaler_custom import MetricApis
    from headrace.controllermanager.namespace import Kinds
    from headrace.machinery.clock import Clock
    from headrace.machinery.component import Usages
    from headrace.machinery.events import EventRecorder

Json = dict[str, Any]

PERIOD = 15.0
FRESH_SECONDS = 5.0
"""A measurement of this age serves other autoscalers too."""
SOURCES = {
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "Object": "object",
    "Pods": "pods",
    "External": "external",
}


class MetricFailed(Exception):
    """One metric gave no number."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class AutoscalerController(Controller[HorizontalPodAutoscaler]):
    """See module. Without `usages` (no node here) metrics of resources fail and say so, without `apis` all others."""

    name = "horizontalpodautoscaler"
    kind = HorizontalPodAutoscaler

    def __init__(
        self,
        client: Client,
        clock: Clock,
        events: EventRecorder,
        kinds: Kinds,
        usages: Usages | None,
        *,
        apis: MetricApis | None = None,
    ) -> None:
        self._other = OtherMetrics(apis, kinds)
        self._client, self._clock, self._events, self._kinds, self._usages = client, clock, events, kinds, usages
        self._histories: dict[str, policy.History] = {}
        self._measured: tuple[float, metrics.Measured] | None = None
        self._looked: dict[str, tuple[tuple[str, int], float]] = {}
        self._pods: dict[str, set[str]] = {}
        """The pods that each autoscaler found when it looked last."""

    async def gone(self, key: str) -> None:
        """Forget what happened lately."""
        self._histories.pop(key, None)
        self._looked.pop(key, None)
        self._pods.pop(key, None)

    async def reconcile(self, obj: HorizontalPodAutoscaler) -> Result:
        """Look at the target's size and at what its pods use, and resize it."""
        if obj.metadata.deletion_timestamp is not None:
            return DONE
        wait = self._wait(obj)
        if wait > 0:
            return Result(after=wait)
        obj.status.observed_generation = obj.metadata.generation
        try:
            kind = self._target(obj)
            scale = await self._client.get(
                kind, obj.spec.scale_target_ref.name, obj.metadata.namespace, subresource="scale"
            )
        except StatusError as error:
            message = f"the HPA controller was unable to get the target's current scale: {error.message}"
            self._say(obj, "AbleToScale", "FailedGetScale", message, true=False)
            await self._events.warning(obj, "FailedGetScale", error.message)
            return Result(after=PERIOD)
        message = "the HPA controller was able to get the target's current scale"
        self._say(obj, "AbleToScale", "SucceededGetScale", message, true=True)
        current = int(scale.spec.get("replicas") or 0)
        obj.status.current_replicas = current
        wanted = await self._wanted(obj, scale, current)
        if wanted is None:
            return Result(after=PERIOD)
        replicas, reason = wanted
        if replicas != current:
            await self._resize(obj, kind, current, replicas, reason)
        obj.status.desired_replicas = replicas
        return Result(after=PERIOD)

    def _wait(self, obj: HorizontalPodAutoscaler) -> float:
        """Seconds until it is time: what a resize does is seen a period later, and its own status wakes nobody."""
        about, now = (obj.metadata.uid, obj.metadata.generation), self._clock.monotonic()
        known = self._looked.get(obj.key)
        if known is not None and known[0] == about and now < known[1] + PERIOD:
            return known[1] + PERIOD - now
        self._looked[obj.key] = about, now
        return 0.0

    async def _wanted(self, obj: HorizontalPodAutoscaler, scale: Unstructured, current: int) -> tuple[int, str] | None:
        """(replicas, why); None when the metrics say nothing."""
        least, most = 1 if obj.spec.min_replicas is None else obj.spec.min_replicas, obj.spec.max_replicas
        if current == 0 and least != 0:
            message = "scaling is disabled since the replica count of the target is zero"
            self._say(obj, "ScalingActive", "ScalingDisabled", message, true=False)
            return 0, ""
        replicas, reason = policy.bounded(current, least, most)
        if reason:
            return replicas, reason
        found = await self._computed(obj, scale, current)
        if found is None:
            return None
        proposed, name = found
        history = self._histories.setdefault(obj.key, policy.History())
        decision = policy.decide(
            current,
            proposed,
            history,
            self._clock.now(),
            least=least,
            most=most,
            behavior=obj.spec.behavior,
        )
        self._say(obj, "AbleToScale", *decision.able, true=True)
        limited, why, message = decision.limited
        self._say(obj, "ScalingLimited", why, message, true=limited)
        if decision.replicas > current:
            return decision.replicas, f"{name} above target"
        return decision.replicas, "All metrics below target"

    async def _computed(
        self, obj: HorizontalPodAutoscaler, scale: Unstructured, current: int
    ) -> tuple[int, str] | None:
        """The most that a metric asks for, and its name; None when it cannot be told."""
        selector = scale.status.get("selector")
        if not isinstance(selector, str) or not selector:
            self._say(
                obj, "ScalingActive", "InvalidSelector", "the HPA target's scale is missing a selector", true=False
            )
            await self._events.warning(obj, "SelectorRequired", "selector is required")
            return None
        listed = await self._client.list(core.Pod, obj.metadata.namespace, labels=selector)
        rivals = self._rivals(obj.key, {pod.metadata.uid for pod in listed.items})
        if rivals:
            message = f"pods by selector {selector} are controlled by multiple HPAs: [{' '.join(rivals)}]"
            self._say(obj, "ScalingActive", "AmbiguousSelector", message, true=False)
            await self._events.warning(obj, "AmbiguousSelector", message)
            return None
        failed: list[MetricFailed] = []
        statuses: list[Json] = []
        best: tuple[int, str] | None = None
        for spec in obj.spec.metrics:
            try:
                have = int(scale.status.get("replicas") or 0)
                about = Scaled(obj.metadata.namespace, selector, listed.items, current, have)
                proposal, status, name = await self._metric(spec, about)
            except MetricFailed as error:
                failed.append(error)
                await self._events.warning(obj, error.reason, str(error))
                continue
            statuses.append(status)
            if best is None or proposal.replicas > best[0]:
                best = proposal.replicas, name
        obj.status.current_metrics = statuses
        if failed and (best is None or best[0] < current):
            first = failed[0]
            message = f"the HPA was unable to compute the replica count: {first}"
            self._say(obj, "ScalingActive", first.reason, message, true=False)
            summary = f"invalid metrics ({len(failed)} invalid out of {len(obj.spec.metrics)}), first error is: {first}"
            await self._events.warning(obj, "FailedComputeMetricsReplicas", summary)
            return None
        if best is not None:
            message = f"the HPA was able to successfully calculate a replica count from {best[1]}"
            self._say(obj, "ScalingActive", "ValidMetricFound", message, true=True)
        return best

    def _rivals(self, key: str, found: set[str]) -> list[str]:
        """The autoscalers that want the same pods, this one among them; none when it has them for itself."""
        self._pods[key] = found
        rivals = [other for other, theirs in self._pods.items() if other != key and theirs & found]
        return sorted([key, *rivals]) if rivals else []

    async def _metric(self, spec: Json, about: Scaled) -> tuple[metrics.Proposal, Json, str]:
        """What one metric asks for, its status and its name. Raises MetricFailed."""
        type_ = str(spec.get("type") or "")
        field = SOURCES.get(type_, "")
        source = spec.get(field) or {}
        resource, container = str(source.get("name") or ""), str(source.get("container") or "")
        reason = f"FailedGet{type_}Metric"
        if type_ not in {"Resource", "ContainerResource"}:
            try:
                return await self._other.propose(spec, about, self._clock.now())
            except metrics.Unmeasured as error:
                raise MetricFailed(reason, f"failed to get {field} metric value: {error}") from error
        what = f"failed to get {resource} {'utilization' if 'averageUtilization' in source['target'] else 'usage'}"
        if resource not in {"cpu", "memory"}:
            raise MetricFailed(reason, f"{what}: only cpu and memory of pods are measured here")
        target = target_of(resource, container, source.get("target") or {})
        if target.utilization is None and target.average is None:
            raise MetricFailed(reason, f"{what}: the target needs averageUtilization or averageValue")
        try:
            measured = await self._measure()
            proposal = metrics.propose(about.wanted, list(about.pods), measured, target, self._clock.now())
        except metrics.Unmeasured as error:
            raise MetricFailed(reason, f"{what}: {error}") from error
        now: Json = {"averageValue": _amount(proposal.average, resource)}
        if proposal.utilization is not None:
            now["averageUtilization"] = proposal.utilization
        status = {"name": resource, **({"container": container} if container else {}), "current": now}
        name = f"{resource} {'container ' if container else ''}resource"
        if proposal.utilization is not None:
            name += " utilization (percentage of request)"
        return proposal, {"type": type_, field: status}, name

    async def _measure(self) -> metrics.Measured:
        """What pods use now. Raises Unmeasured."""
        if self._usages is None:
            raise metrics.Unmeasured("no node agent runs here, so nothing is measured")
        moment = self._clock.monotonic()
        if self._measured is None or moment - self._measured[0] > FRESH_SECONDS:
            usage = await self._usages.usage()
            seen = {
                uid: tuple(
                    metrics.Sample(c.container, {"cpu": round(c.cpu_cores * 1000), "memory": c.memory_bytes * 1000})
                    for c in containers
                )
                for uid, containers in usage.pods.items()
            }
            window = dt.timedelta(seconds=usage.window_seconds)
            self._measured = moment, metrics.Measured(self._clock.now(), window, seen)
        return self._measured[1]

    def _target(self, obj: HorizontalPodAutoscaler) -> type[Unstructured]:
        target = obj.spec.scale_target_ref
        group, _, version = target.api_version.rpartition("/")
        info = self._kinds.by_kind(group, version, target.kind)
        if info is None or "scale" not in info.subresources:
            raise BadRequest(f'no kind "{target.kind}" in "{target.api_version}" can be scaled', kind=target.kind)
        return dynamic_kind(info)

    async def _resize(
        self, obj: HorizontalPodAutoscaler, kind: type[Unstructured], before: int, after: int, reason: str
    ) -> None:
        patch = {"spec": {"replicas": after}}
        name = obj.spec.scale_target_ref.name
        try:
            await self._client.patch(kind, name, patch, obj.metadata.namespace, subresource="scale")
        except StatusError as error:
            message = f"the HPA controller was unable to update the target scale: {error.message}"
            self._say(obj, "AbleToScale", "FailedUpdateScale", message, true=False)
            await self._events.warning(
                obj, "FailedRescale", f"New size: {after}; reason: {reason}; error: {error.message}"
            )
            raise
        now = self._clock.now()
        self._histories.setdefault(obj.key, policy.History()).changed(now, before, after)
        obj.status.last_scale_time = now
        message = f"the HPA controller was able to update the target scale to {after}"
        self._say(obj, "AbleToScale", "SucceededRescale", message, true=True)
        await self._events.normal(obj, "SuccessfulRescale", f"New size: {after}; reason: {reason}")

    def _say(self, obj: HorizontalPodAutoscaler, type_: str, reason: str, message: str, *, true: bool) -> None:
        now = self._clock.now()
        conditions.upsert(obj.status.conditions, type_, true, reason=reason, message=message, now=now)


def target_of(resource: str, container: str, target: Json) -> metrics.Target:
    """The target as numbers."""
    average = target.get("averageValue")
    return metrics.Target(
        resource,
        container,
        target.get("averageUtilization"),
        None if average is None else metrics.amount_of(average),
    )


def _amount(thousandths: int, resource: str) -> str:
    if resource == "cpu":
        return f"{thousandths}m"
    return str(quantity.canonical(str(thousandths // 1000)))
