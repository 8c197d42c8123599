"""The autoscaling group: `autoscaling/v2`, and the name of `autoscaling/v1`, which is the same objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import msgspec

from headrace.api.meta import Condition, KindInfo, Object, Struct, Time


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
    behavior: dict[str, Any] | None = None


class HorizontalPodAutoscalerStatus(Struct, omit_defaults=False):
    """Replicas, and why they are what they are."""

    observed_generation: int = 0
    current_replicas: int = 0
    desired_replicas: int = 0
    last_scale_time: Time | None = None
    current_metrics: list[dict[str, Any]] = []
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


V1 = replace(HorizontalPodAutoscaler.INFO, version="v1")
"""As kubectl before 1.33 asks for autoscalers."""
KINDS: tuple[type[Object], ...] = (HorizontalPodAutoscaler,)
