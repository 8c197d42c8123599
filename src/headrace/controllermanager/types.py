"""Views of workload kinds that keep pod templates as plain JSON.

Unlike `api.apps` and `api.batch` these lose no field on the way from a template to a pod: what a person wrote and
the API server accepted is what the pod gets, whether or not the platform knows the field.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from headrace.api import apps, batch, core
from headrace.api.meta import KindInfo, LabelSelector, Object, Struct, Time

Template = dict[str, Any]
"""A PodTemplateSpec as it stands on the wire."""


class PodManifest(Object):
    """A pod to be created."""

    INFO: ClassVar[KindInfo] = core.Pod.INFO
    spec: dict[str, Any] = {}


class ReplicaSetSpec(Struct):
    """See api.apps."""

    selector: LabelSelector = msgspec.field(default_factory=LabelSelector)
    template: Template = {}
    replicas: int = 1
    min_ready_seconds: int = 0


class ReplicaSetStatus(Struct, omit_defaults=False):
    """Counts, and ReplicaFailure when pods cannot be made."""

    replicas: int = 0
    fully_labeled_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    observed_generation: int = 0
    conditions: list[core.PodCondition] = []


class ReplicaSet(Object):
    """See api.apps."""

    INFO: ClassVar[KindInfo] = apps.ReplicaSet.INFO
    spec: ReplicaSetSpec = msgspec.field(default_factory=ReplicaSetSpec)
    status: ReplicaSetStatus = msgspec.field(default_factory=ReplicaSetStatus)


class ReplicationControllerSpec(Struct):
    """As a ReplicaSet's; the selector is labels alone."""

    selector: dict[str, str] = {}
    template: Template = {}
    replicas: int = 1
    min_ready_seconds: int = 0


class ReplicationController(Object):
    """See api.core."""

    INFO: ClassVar[KindInfo] = core.ReplicationController.INFO
    spec: ReplicationControllerSpec = msgspec.field(default_factory=ReplicationControllerSpec)
    status: ReplicaSetStatus = msgspec.field(default_factory=ReplicaSetStatus)


class DeploymentCondition(Struct):
    """Available, Progressing or ReplicaFailure; the update time moves with every sign of progress."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_update_time: Time | None = None
    last_transition_time: Time | None = None


class DeploymentSpec(Struct):
    """See api.apps. `replicas` is always on the wire: nought counts."""

    selector: LabelSelector = msgspec.field(default_factory=LabelSelector)
    template: Template = {}
    replicas: int = 1
    strategy: apps.DeploymentStrategy = msgspec.field(default_factory=apps.DeploymentStrategy)
    min_ready_seconds: int = 0
    revision_history_limit: int = 10
    paused: bool = False
    progress_deadline_seconds: int = 600


class DeploymentStatus(Struct):
    """See api.apps."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    unavailable_replicas: int = 0
    collision_count: int = 0
    conditions: list[DeploymentCondition] = []


class Deployment(Object):
    """See api.apps."""

    INFO: ClassVar[KindInfo] = apps.Deployment.INFO
    spec: DeploymentSpec = msgspec.field(default_factory=DeploymentSpec)
    status: DeploymentStatus = msgspec.field(default_factory=DeploymentStatus)


class JobSpec(Struct):
    """See api.batch; the policies stay plain JSON."""

    template: Template = {}
    parallelism: int | None = None
    completions: int | None = None
    active_deadline_seconds: int | None = None
    backoff_limit: int | None = None
    ttl_seconds_after_finished: int | None = None
    completion_mode: str = ""
    suspend: bool | None = None
    pod_failure_policy: dict[str, Any] | None = None
    success_policy: dict[str, Any] | None = None
    backoff_limit_per_index: int | None = None
    max_failed_indexes: int | None = None
    pod_replacement_policy: str | None = None
    managed_by: str | None = None


class JobStatus(Struct):
    """See api.batch."""

    conditions: list[core.PodCondition] = []
    start_time: Time | None = None
    completion_time: Time | None = None
    active: int = 0
    ready: int | None = None
    succeeded: int = 0
    failed: int = 0
    terminating: int | None = None
    completed_indexes: str = ""
    failed_indexes: str | None = None


class Job(Object):
    """See api.batch."""

    INFO: ClassVar[KindInfo] = batch.Job.INFO
    spec: JobSpec = msgspec.field(default_factory=JobSpec)
    status: JobStatus = msgspec.field(default_factory=JobStatus)


class ClaimManifest(Object):
    """A claim to be created."""

    INFO: ClassVar[KindInfo] = core.PersistentVolumeClaim.INFO
    spec: dict[str, Any] = {}


class JobManifest(Object):
    """A job to be created."""

    INFO: ClassVar[KindInfo] = batch.Job.INFO
    spec: dict[str, Any] = {}


class EventStub(Object):
    """What expiry must know of an event."""

    INFO: ClassVar[KindInfo] = core.Event.INFO
    last_timestamp: Time | None = None
    event_time: Time | None = None
