"""The objects of a profile and the roles of its people; pure.

After kubeflow's profile-controller and the kubeflow-roles of its distribution: `kubeflow-admin` gathers
`kubeflow-edit` gathers `kubeflow-view`, and each component adds its own rules by labels.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.meta import ObjectMeta
from headrace.api.rbac import Subject
from headrace.components.profiles.policy import ROLES
from headrace.components.profiles.types import GROUP, Profile, ProfileSpec
from headrace.machinery.roles import AGGREGATE, user_role
from headrace.machinery.settings import SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from headrace.api.meta import OwnerReference
    from headrace.components.profiles.types import QuotaSpec

RBAC = "rbac.authorization.k8s.io"
PART_OF = {"app.kubernetes.io/part-of": "kubeflow-profile"}
PIPELINES_ENABLED = "pipelines.kubeflow.org/enabled"
KEYS_SECRET = "mlpipeline-minio-artifact"  # noqa: S105 (a Secret's name)
KEYS_LABEL = "headrace.dev/objectstore-access"
QUOTA = "kf-resource-quota"
FINALIZER = "profile-finalizer"

READ = ["get", "list", "watch"]
WRITE = ["create", "update", "patch", "delete", "deletecollection"]

Body = dict[str, Any]


def profile_objects(
    name: str, owner: Subject, quota: QuotaSpec | None = None, reference: OwnerReference | None = None
) -> list[Body]:
    """The namespace of a profile, its service accounts, who may do what there, and how much."""
    subject = {"kind": owner.kind, "name": owner.name, "apiGroup": owner.api_group or RBAC}
    bodies: list[Body] = [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "annotations": {"owner": owner.name},
                "labels": {
                    **PART_OF,
                    "istio-injection": "enabled",
                    "katib.kubeflow.org/metrics-collector-injection": "enabled",
                    PIPELINES_ENABLED: "true",
                    "serving.kubeflow.org/inferenceservice": "enabled",
                },
            },
        },
        *(_account(name, account) for account in ("default-editor", "default-viewer")),
        _binding(name, "default-editor", "kubeflow-edit", _service_account(name, "default-editor")),
        _binding(name, "default-viewer", "kubeflow-view", _service_account(name, "default-viewer")),
        # Upstream calls it namespaceAdmin, which the API server takes since names of RBAC objects are path segments.
        _binding(name, "namespaceAdmin", "kubeflow-admin", subject, {"role": "admin", "user": owner.name}),
    ]
    if quota is not None and quota.hard:
        spec = _wire.to_builtins(quota)
        metadata = {"name": QUOTA, "namespace": name}
        bodies.append({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": spec})
    if reference is not None:
        for body in bodies:
            body["metadata"]["ownerReferences"] = [_wire.to_builtins(reference)]
    return bodies


def default_profile(name: str, owner: str) -> Profile:
    """The profile that a new platform has."""
    spec = ProfileSpec(owner=Subject(kind="User", name=owner, api_group=RBAC))
    return Profile(metadata=ObjectMeta(name=name), spec=spec)


def own_roles() -> list[Body]:
    """What the component itself may do: bind people and accounts to the three roles, in any namespace."""
    name = "headrace:profiles"
    kinds = [
        _rule([GROUP], ["profiles", "profiles/status", "poddefaults"], ["*"]),
        _rule([RBAC], ["rolebindings"], [*READ, *WRITE]),
        {"apiGroups": [RBAC], "resources": ["clusterroles"], "resourceNames": list(ROLES.values()), "verbs": ["bind"]},
        _rule([""], ["resourcequotas"], [*READ, *WRITE]),
    ]
    subject = _service_account(SYSTEM_NAMESPACE, "profiles")
    return [
        {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": kinds},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
            "subjects": [subject],
        },
    ]


def keys_secret(namespace: str, access_key: str, secret_key: str) -> Body:
    """The profile's key pair for the object store."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": KEYS_SECRET, "namespace": namespace, "labels": {**PART_OF, KEYS_LABEL: "true"}},
        "type": "Opaque",
        "data": {"accesskey": _base64(access_key), "secretkey": _base64(secret_key)},
    }


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def roles() -> list[Body]:
    """`kubeflow-admin`, `kubeflow-edit` and `kubeflow-view` with Kubernetes' own kinds; components add theirs."""
    return [
        _gathering("admin", None),
        _gathering("edit", "admin"),
        _gathering("view", "edit"),
        user_role("kubeflow-kubernetes-admin", "admin", _ADMIN),
        user_role("kubeflow-kubernetes-edit", "edit", _EDIT),
        user_role("kubeflow-kubernetes-view", "view", _VIEW),
    ]


def _rule(groups: list[str], resources: list[str], verbs: list[str]) -> Body:
    return {"apiGroups": groups, "resources": resources, "verbs": verbs}


_WORKLOADS = [
    _rule(["apps"], ["deployments", "deployments/scale", "replicasets", "replicasets/scale"], []),
    _rule(["apps"], ["statefulsets", "statefulsets/scale", "daemonsets"], []),
    _rule(["batch"], ["jobs", "cronjobs"], []),
    _rule(["autoscaling"], ["horizontalpodautoscalers"], []),
    _rule(["policy"], ["poddisruptionbudgets"], []),
    _rule(["networking.k8s.io"], ["ingresses", "networkpolicies"], []),
]
_CORE = ["configmaps", "persistentvolumeclaims", "pods", "serviceaccounts", "services"]
_VIEW = [
    _rule(
        [""],
        [*_CORE, "endpoints", "pods/log", "pods/status", "events", "namespaces", "resourcequotas", "limitranges"],
        READ,
    ),
    *({**rule, "verbs": READ} for rule in _WORKLOADS),
    _rule([GROUP], ["poddefaults"], READ),
]
_EDIT = [
    _rule([GROUP], ["poddefaults"], WRITE),
    _rule([""], _CORE, WRITE),
    _rule([""], ["secrets"], [*READ, *WRITE]),
    _rule([""], ["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "services/proxy"], [*READ, *WRITE]),
    _rule([""], ["pods/eviction", "events"], ["create", "patch"]),
    *({**rule, "verbs": WRITE} for rule in _WORKLOADS),
]
_ADMIN = [
    _rule(["authorization.k8s.io"], ["localsubjectaccessreviews"], ["create"]),
    _rule([RBAC], ["roles", "rolebindings"], [*READ, *WRITE]),
    _rule([""], ["serviceaccounts/token"], ["create"]),
]


def _gathering(name: str, into: str | None) -> Body:
    selector = {"matchLabels": {f"{AGGREGATE}{name}": "true"}}
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"kubeflow-{name}", "labels": {f"{AGGREGATE}{into}": "true"} if into else {}},
        "aggregationRule": {"clusterRoleSelectors": [selector]},
        "rules": [],
    }


def _account(namespace: str, name: str) -> Body:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}


def _service_account(namespace: str, name: str) -> Body:
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


def _binding(namespace: str, name: str, role: str, subject: Body, annotations: dict[str, str] | None = None) -> Body:
    metadata: Body = {"name": name, "namespace": namespace}
    if annotations:
        metadata["annotations"] = annotations
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    }
