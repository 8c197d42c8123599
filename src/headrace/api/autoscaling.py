"""The autoscaling group, `autoscaling/v2`."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from headrace.api.meta import Condition, KindInfo, Object, Struct


class ScaleTarget(Struct):
    """The object whose replicas are changed."""

    kind: str = ""
    name: str = ""
    api_version: str = ""


class HorizontalPodAutoscalerSpec(Struct):
    """Bounds, and what is measured; metrics and behaviour stay plain JSON."""

    scale_target_ref: ScaleTarget = msgspec.field(default_factory=ScaleTarget)
    max_replicas: int = 0
    min_replicas: int | None = None
    metrics: list[dict[str, Any]] = []


class HorizontalPodAutoscalerStatus(Struct):
    """Replicas, and why they are what they are."""

    observed_generation: int = 0
    current_replicas: int = 0
    desired_replicas: int = 0
    conditions: list[Condition] = []


class HorizontalPodAutoscaler(Object):
    """Replicas that follow what is measured."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        short_names=("hpa",),
        categories=("all",),
    )
    spec: HorizontalPodAutoscalerSpec = msgspec.field(default_factory=HorizontalPodAutoscalerSpec)
    status: HorizontalPodAutoscalerStatus = msgspec.field(default_factory=HorizontalPodAutoscalerStatus)


KINDS: tuple[type[Object], ...] = (HorizontalPodAutoscaler,)
