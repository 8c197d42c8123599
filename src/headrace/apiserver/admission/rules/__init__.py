"""The rules of built-in kinds beyond their schema: pure functions from an object (and its former self) to causes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.apiserver.admission import pod_security
from headrace.apiserver.admission.rules import classes, configured, jobs, limits, others, pods, workloads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headrace.api.errors import Cause
    from headrace.api.meta import KindInfo

Json = dict[str, Any]

_CREATE: dict[tuple[str, str], Callable[[Json], Iterator[Cause]]] = {
    ("", "Pod"): pods.pod,
    ("", "Namespace"): pod_security.labels,
    ("", "Service"): others.service,
    ("", "ConfigMap"): others.config_map,
    ("", "Secret"): others.secret,
    ("", "PersistentVolumeClaim"): others.claim,
    ("", "PersistentVolume"): others.volume,
    ("", "ResourceQuota"): limits.resource_quota,
    ("", "LimitRange"): limits.limit_range,
    ("apps", "Deployment"): workloads.deployment,
    ("apps", "ReplicaSet"): workloads.replica_set,
    ("", "ReplicationController"): workloads.replication_controller,
    ("apps", "StatefulSet"): workloads.stateful_set,
    ("apps", "DaemonSet"): workloads.daemon_set,
    ("apps", "ControllerRevision"): workloads.controller_revision,
    ("batch", "Job"): jobs.job,
    ("batch", "CronJob"): jobs.cron_job,
    ("networking.k8s.io", "Ingress"): classes.ingress,
    ("networking.k8s.io", "IngressClass"): classes.ingress_class,
    ("networking.k8s.io", "NetworkPolicy"): classes.network_policy,
    ("policy", "PodDisruptionBudget"): classes.disruption_budget,
    ("scheduling.k8s.io", "PriorityClass"): classes.priority_class,
    ("node.k8s.io", "RuntimeClass"): classes.runtime_class,
    ("autoscaling", "HorizontalPodAutoscaler"): classes.autoscaler,
    ("discovery.k8s.io", "EndpointSlice"): classes.endpoint_slice,
    ("storage.k8s.io", "StorageClass"): others.storage_class,
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): configured.mutating,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): configured.validating,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): configured.policy,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): configured.binding,
    ("apiregistration.k8s.io", "APIService"): configured.api_service,
    ("rbac.authorization.k8s.io", "Role"): others.role,
    ("rbac.authorization.k8s.io", "ClusterRole"): others.cluster_role,
    ("rbac.authorization.k8s.io", "RoleBinding"): others.binding,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): others.binding,
}
_UPDATE: dict[tuple[str, str], Callable[[Json, Json], Iterator[Cause]]] = {
    ("", "Pod"): pods.pod_update,
    ("", "Service"): others.service_update,
    ("", "ConfigMap"): others.immutable_data,
    ("", "Secret"): others.secret_update,
    ("", "PersistentVolumeClaim"): others.claim_update,
    ("", "ResourceQuota"): limits.resource_quota_update,
    ("apps", "Deployment"): workloads.selector_update,
    ("apps", "ReplicaSet"): workloads.selector_update,
    ("apps", "StatefulSet"): workloads.stateful_set_update,
    ("apps", "DaemonSet"): workloads.selector_update,
    ("apps", "ControllerRevision"): workloads.controller_revision_update,
    ("batch", "Job"): jobs.job_update,
    ("networking.k8s.io", "IngressClass"): classes.ingress_class_update,
    ("scheduling.k8s.io", "PriorityClass"): classes.priority_class_update,
    ("node.k8s.io", "RuntimeClass"): classes.runtime_class_update,
    ("discovery.k8s.io", "EndpointSlice"): classes.endpoint_slice_update,
    ("storage.k8s.io", "StorageClass"): others.storage_class_update,
    ("rbac.authorization.k8s.io", "RoleBinding"): others.binding_update,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): others.binding_update,
}


def check(info: KindInfo, obj: Json) -> list[Cause]:
    """What is wrong with the object by itself."""
    rule = _CREATE.get((info.group, info.kind))
    return list(rule(obj)) if rule is not None else []


def check_update(info: KindInfo, new: Json, old: Json) -> list[Cause]:
    """What may not change."""
    rule = _UPDATE.get((info.group, info.kind))
    return list(rule(new, old)) if rule is not None else []
