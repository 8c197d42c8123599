"""The defaults of built-in kinds (pkg/apis/*/v1/defaults.go): pure functions that fill objects in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.apiserver.admission.defaults import classes, configured, others, pods, workloads

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.meta import KindInfo

_BY_KIND: dict[tuple[str, str], Callable[[dict[str, Any]], None]] = {
    ("", "Pod"): pods.pod,
    ("", "Service"): others.service,
    ("", "Endpoints"): others.endpoints,
    ("discovery.k8s.io", "EndpointSlice"): others.endpoint_slice,
    ("", "Secret"): others.secret,
    ("", "Namespace"): others.namespace,
    ("", "ResourceQuota"): others.resource_quota,
    ("", "LimitRange"): others.limit_range,
    ("", "PersistentVolumeClaim"): others.single_claim,
    ("", "PersistentVolume"): others.volume,
    ("", "Node"): others.node,
    ("apps", "Deployment"): workloads.deployment,
    ("apps", "ReplicaSet"): workloads.replica_set,
    ("", "ReplicationController"): workloads.replication_controller,
    ("apps", "StatefulSet"): workloads.stateful_set,
    ("apps", "DaemonSet"): workloads.daemon_set,
    ("batch", "Job"): workloads.job,
    ("batch", "CronJob"): workloads.cron_job,
    ("networking.k8s.io", "IngressClass"): classes.ingress_class,
    ("networking.k8s.io", "NetworkPolicy"): classes.network_policy,
    ("scheduling.k8s.io", "PriorityClass"): classes.priority_class,
    ("autoscaling", "HorizontalPodAutoscaler"): classes.autoscaler,
    ("storage.k8s.io", "StorageClass"): others.storage_class,
    ("rbac.authorization.k8s.io", "RoleBinding"): others.binding,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): others.binding,
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): configured.mutating,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): configured.validating,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): configured.policy,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): configured.binding,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): others.definition,
    ("apiregistration.k8s.io", "APIService"): configured.api_service,
}


def known(info: KindInfo) -> bool:
    """Whether the kind has defaults."""
    return (info.group, info.kind) in _BY_KIND


def fill(info: KindInfo, obj: dict[str, Any]) -> None:
    """Set what the kind's defaults say and `obj` does not, in place."""
    found = _BY_KIND.get((info.group, info.kind))
    if found is not None:
        found(obj)
