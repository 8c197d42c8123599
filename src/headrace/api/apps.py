"""The apps group, `apps/v1` (k8s.io/api/apps/v1)."""

from __future__ import annotations

from typing import Any, ClassVar

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


class StatefulSetRolling(Struct):
    """Pods with an ordinal from `partition` on get the new template."""

    partition: int = 0


class StatefulSetStrategy(Struct):
    """RollingUpdate or OnDelete."""

    type: str = "RollingUpdate"
    rolling_update: StatefulSetRolling | None = None


class StatefulSetOrdinals(Struct):
    """The first pod's number."""

    start: int = 0


class ClaimRetention(Struct):
    """What becomes of claims: Retain or Delete."""

    when_deleted: str = "Retain"
    when_scaled: str = "Retain"


class StatefulSetSpec(Struct):
    """Numbered pods; templates stay plain JSON, so that no field of them is lost."""

    selector: LabelSelector = msgspec.field(default_factory=LabelSelector)
    template: dict[str, Any] = {}
    service_name: str = ""
    replicas: int = 1
    volume_claim_templates: list[dict[str, Any]] = []
    pod_management_policy: str = "OrderedReady"
    update_strategy: StatefulSetStrategy = msgspec.field(default_factory=StatefulSetStrategy)
    revision_history_limit: int = 10
    min_ready_seconds: int = 0
    persistent_volume_claim_retention_policy: ClaimRetention = msgspec.field(default_factory=ClaimRetention)
    ordinals: StatefulSetOrdinals = msgspec.field(default_factory=StatefulSetOrdinals)


class StatefulSetStatus(Struct, omit_defaults=False):
    """Counts, and the revisions between which an update moves."""

    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    current_replicas: int = 0
    updated_replicas: int = 0
    available_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""
    collision_count: int = 0


class StatefulSet(Object):
    """Numbered pods that keep their names and their volumes."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "apps",
        "v1",
        "StatefulSet",
        "statefulsets",
        short_names=("sts",),
        categories=("all",),
        subresources=frozenset({"status", "scale"}),
    )
    spec: StatefulSetSpec = msgspec.field(default_factory=StatefulSetSpec)
    status: StatefulSetStatus = msgspec.field(default_factory=StatefulSetStatus)


class ControllerRevision(Object):
    """A template as it once was; `data` is the patch that brings it back."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "apps", "v1", "ControllerRevision", "controllerrevisions", subresources=frozenset()
    )
    data: dict[str, Any] = {}
    revision: int = 0


class DaemonSetRolling(Struct):
    """How many nodes may be without a pod, or have two, during an update; one of them is nought."""

    max_unavailable: IntOrString = 1
    max_surge: IntOrString = 0


class DaemonSetStrategy(Struct):
    """RollingUpdate or OnDelete."""

    type: str = "RollingUpdate"
    rolling_update: DaemonSetRolling | None = None


class DaemonSetSpec(Struct):
    """A pod on every node; the template stays plain JSON, so that no field of it is lost."""

    selector: LabelSelector = msgspec.field(default_factory=LabelSelector)
    template: dict[str, Any] = {}
    update_strategy: DaemonSetStrategy = msgspec.field(default_factory=DaemonSetStrategy)
    min_ready_seconds: int = 0
    revision_history_limit: int = 10


class DaemonSetStatus(Struct, omit_defaults=False):
    """Counts of nodes."""

    current_number_scheduled: int = 0
    number_misscheduled: int = 0
    desired_number_scheduled: int = 0
    number_ready: int = 0
    observed_generation: int = 0
    updated_number_scheduled: int = 0
    number_available: int = 0
    number_unavailable: int = 0
    collision_count: int = 0


class DaemonSet(Object):
    """One pod on every node that fits."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "apps", "v1", "DaemonSet", "daemonsets", short_names=("ds",), categories=("all",)
    )
    spec: DaemonSetSpec = msgspec.field(default_factory=DaemonSetSpec)
    status: DaemonSetStatus = msgspec.field(default_factory=DaemonSetStatus)


KINDS: tuple[type[Object], ...] = (Deployment, ReplicaSet, StatefulSet, DaemonSet, ControllerRevision)
