"""HorizontalPodAutoscalers: replicas are kept within the bounds; nothing is measured yet, and the status says so
(upstream: pkg/controller/podautoscaler).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from headrace.api import conditions
from headrace.api.autoscaling import HorizontalPodAutoscaler
from headrace.api.errors import BadRequest, StatusError
from headrace.api.meta import dynamic_kind
from headrace.machinery.controller import DONE, Controller, Result

if TYPE_CHECKING:
    from headrace.api.meta import KindInfo, Unstructured
    from headrace.client.base import Client
    from headrace.controllermanager.namespace import Kinds
    from headrace.machinery.clock import Clock
    from headrace.machinery.events import EventRecorder

PERIOD = 15.0
UNMEASURED = (
    "the HPA was unable to compute the replica count: this platform does not feed metrics to its autoscaler yet; "
    "between minReplicas and maxReplicas the number stays as it is, change it with kubectl scale"
)


@cache
def _plain(info: KindInfo) -> type[Unstructured]:
    """One type a kind, so that its decoder is made once."""
    return dynamic_kind(info)


def bounded(replicas: int, least: int, most: int) -> tuple[int, str]:
    """The replicas within the bounds, and why they change; no reason when they do not."""
    if replicas > most:
        return most, "Current number of replicas above Spec.MaxReplicas"
    if replicas < least:
        return least, "Current number of replicas below Spec.MinReplicas"
    return replicas, ""


class AutoscalerController(Controller[HorizontalPodAutoscaler]):
    """See module."""

    name = "horizontalpodautoscaler"
    kind = HorizontalPodAutoscaler

    def __init__(self, client: Client, clock: Clock, events: EventRecorder, kinds: Kinds) -> None:
        self._client, self._clock, self._events, self._kinds = client, clock, events, kinds

    async def reconcile(self, obj: HorizontalPodAutoscaler) -> Result:
        """Look at the target's size, and bring it within the bounds."""
        if obj.metadata.deletion_timestamp is not None:
            return DONE
        obj.status.observed_generation = obj.metadata.generation
        try:
            replicas = await self._replicas(obj)
        except StatusError as error:
            message = f"the HPA controller was unable to get the target's current scale: {error.message}"
            self._say(obj, "AbleToScale", "FailedGetScale", message, true=False)
            await self._events.warning(obj, "FailedGetScale", error.message)
            return Result(after=PERIOD)
        message = "the HPA controller was able to get the target's current scale"
        self._say(obj, "AbleToScale", "SucceededGetScale", message, true=True)
        obj.status.current_replicas = obj.status.desired_replicas = replicas
        if replicas == 0:
            message = "scaling is disabled since the replica count of the target is zero"
            self._say(obj, "ScalingActive", "ScalingDisabled", message, true=False)
            return Result(after=PERIOD)
        wanted, reason = bounded(replicas, obj.spec.min_replicas or 1, obj.spec.max_replicas)
        if reason:
            await self._resize(obj, wanted)
            obj.status.desired_replicas = wanted
            await self._events.normal(obj, "SuccessfulRescale", f"New size: {wanted}; reason: {reason}")
        self._say(obj, "ScalingActive", "FailedGetResourceMetric", UNMEASURED, true=False)
        return Result(after=PERIOD)

    def _target(self, obj: HorizontalPodAutoscaler) -> type[Unstructured]:
        target = obj.spec.scale_target_ref
        group, _, version = target.api_version.rpartition("/")
        info = self._kinds.by_kind(group, version, target.kind)
        if info is None or "scale" not in info.subresources:
            raise BadRequest(f'no kind "{target.kind}" in "{target.api_version}" can be scaled', kind=target.kind)
        return _plain(info)

    async def _replicas(self, obj: HorizontalPodAutoscaler) -> int:
        found = await self._client.get(self._target(obj), obj.spec.scale_target_ref.name, obj.metadata.namespace)
        replicas = found.spec.get("replicas", 1)
        return replicas if isinstance(replicas, int) else 1

    async def _resize(self, obj: HorizontalPodAutoscaler, replicas: int) -> None:
        kind, name = self._target(obj), obj.spec.scale_target_ref.name
        patch = {"spec": {"replicas": replicas}}
        await self._client.patch(kind, name, patch, obj.metadata.namespace, subresource="scale")

    def _say(self, obj: HorizontalPodAutoscaler, type_: str, reason: str, message: str, *, true: bool) -> None:
        now = self._clock.now()
        conditions.upsert(obj.status.conditions, type_, true, reason=reason, message=message, now=now)
