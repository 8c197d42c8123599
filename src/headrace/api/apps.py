"""The apps group, `apps/v1` (k8s.io/api/apps/v1)."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from headrace.api.core import PodCondition, PodTemplateSpec
from headrace.api.meta import IntOrString, KindInfo, LabelSelector, Object, Struct


class RollingUpdate(Struct):
    """How many pods a rollout may add and take away at a time."""

    max_unavailable: IntOrString = "25%"
    max_surge: IntOrString = "25%"


class DeploymentStrategy(Struct):
    """RollingUpdate or Recreate."""

    type: str = "RollingUpdate"
    rolling_update: RollingUpdate | None = None


class DeploymentSpec(Struct):
    """Replicas of a template."""

    selector: LabelSelector = msgspec.field(default_factory=LabelSelector)
    template: PodTemplateSpec = msgspec.field(default_factory=PodTemplateSpec)
    replicas: int = msgspec.field(default=1)
    strategy: DeploymentStrategy = msgspec.field(default_factory=DeploymentStrategy)
    min_ready_seconds: int = 0
    revision_history_limit: int = 10
    paused: bool = False
    progress_deadline_seconds: int = 600


class DeploymentStatus(Struct):
    """Counts and conditions (Available, Progressing, ReplicaFailure)."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    unavailable_replicas: int = 0
    conditions: list[PodCondition] = []


class Deployment(Object):
    """Keeps replicas of a template running and rolls out changes."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "apps",
        "v1",
        "Deployment",
        "deployments",
        short_names=("deploy",),
        categories=("all",),
        subresources=frozenset({"status", "scale"}),
    )
    spec: DeploymentSpec = msgspec.field(default_factory=DeploymentSpec)
    status: DeploymentStatus = msgspec.field(default_factory=DeploymentStatus)


class ReplicaSetSpec(Struct):
    """Replicas of one version of a template."""

    selector: LabelSelector = msgspec.field(default_factory=LabelSelector)
    template: PodTemplateSpec = msgspec.field(default_factory=PodTemplateSpec)
    replicas: int = 1
    min_ready_seconds: int = 0


class ReplicaSetStatus(Struct, omit_defaults=False):
    """Counts."""

    replicas: int = 0
    fully_labeled_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    observed_generation: int = 0


class ReplicaSet(Object):
    """Keeps a number of equal pods running."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "apps",
        "v1",
        "ReplicaSet",
        "replicasets",
        short_names=("rs",),
        categories=("all",),
        subresources=frozenset({"status", "scale"}),
    )
    spec: ReplicaSetSpec = msgspec.field(default_factory=ReplicaSetSpec)
    status: ReplicaSetStatus = msgspec.field(default_factory=ReplicaSetStatus)


KINDS: tuple[type[Object], ...] = (Deployment, ReplicaSet)
