"""The default roles of every Kubernetes cluster, and who has them (upstream: rbac/bootstrappolicy).

Roles whose names people and charts refer to; those of upstream's own processes, which do not run here, are absent.
"""

from __future__ import annotations

from typing import Any

from headrace.api.identity import AUTHENTICATED, MASTERS, UNAUTHENTICATED
from headrace.api.rbac import GROUP

Json = dict[str, Any]

READ = ("get", "list", "watch")
WRITE = ("create", "delete", "deletecollection", "patch", "update")
_AGGREGATE = f"{GROUP}/aggregate-to-"
CONTROLLER = "system:controller:"
AUTOSCALER, NAMESPACES = f"{CONTROLLER}horizontal-pod-autoscaler", f"{CONTROLLER}namespace-controller"
_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_ANNOTATIONS = {"rbac.authorization.kubernetes.io/autoupdate": "true"}


def _rule(groups: str, resources: str, verbs: tuple[str, ...]) -> Json:
    """Space-separated groups (`-` is the core group) and resources."""
    named = ["" if g == "-" else g for g in groups.split()]
    return {"apiGroups": named, "resources": resources.split(), "verbs": list(verbs)}


def _paths(paths: str) -> Json:
    return {"nonResourceURLs": paths.split(), "verbs": ["get"]}


def _view_rules() -> list[Json]:
    return [
        _rule(
            "-",
            "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers "
            "replicationcontrollers/scale serviceaccounts services services/status",
            READ,
        ),
        _rule(
            "-",
            "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status "
            "resourcequotas resourcequotas/status",
            READ,
        ),
        _rule("-", "namespaces", READ),
        _rule("discovery.k8s.io", "endpointslices", READ),
        _rule(
            "apps",
            "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status "
            "replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
            READ,
        ),
        _rule("autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status", READ),
        _rule("batch", "cronjobs cronjobs/status jobs jobs/status", READ),
        _rule("policy", "poddisruptionbudgets poddisruptionbudgets/status", READ),
        _rule("networking.k8s.io", "ingresses ingresses/status networkpolicies", READ),
    ]


def _edit_rules() -> list[Json]:
    return [
        _rule("-", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy", READ),
        _rule("-", "serviceaccounts", ("impersonate",)),
        _rule("-", "pods pods/attach pods/exec pods/portforward pods/proxy", WRITE),
        _rule("-", "pods/eviction", ("create",)),
        _rule(
            "-",
            "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets "
            "serviceaccounts services services/proxy",
            WRITE,
        ),
        _rule("-", "serviceaccounts/token", ("create",)),
        _rule(
            "apps",
            "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale "
            "statefulsets statefulsets/scale",
            WRITE,
        ),
        _rule("autoscaling", "horizontalpodautoscalers", WRITE),
        _rule("batch", "cronjobs jobs", WRITE),
        _rule("policy", "poddisruptionbudgets", WRITE),
        _rule("networking.k8s.io", "ingresses networkpolicies", WRITE),
        _rule("coordination.k8s.io", "leases", (*READ, *WRITE)),
    ]


def _admin_rules() -> list[Json]:
    return [
        _rule("authorization.k8s.io", "localsubjectaccessreviews", ("create",)),
        _rule(GROUP, "rolebindings roles", (*READ, *WRITE)),
    ]


def _role(name: str, rules: list[Json] | None, *, into: str = "", gathers: str = "") -> Json:
    labels = {**_LABELS, **({f"{_AGGREGATE}{into}": "true"} if into else {})}
    role: Json = {
        "apiVersion": f"{GROUP}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name, "labels": labels, "annotations": dict(_ANNOTATIONS)},
    }
    if gathers:
        selector = {"matchLabels": {f"{_AGGREGATE}{gathers}": "true"}}
        role["aggregationRule"] = {"clusterRoleSelectors": [selector]}
    else:
        role["rules"] = rules
    return role


def _binding(role: str, *groups: str) -> Json:
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": role, "labels": dict(_LABELS), "annotations": dict(_ANNOTATIONS)},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": GROUP, "kind": "Group", "name": group} for group in groups],
    }


def _of_controller(role: str) -> Json:
    """To the service account under which one of Kubernetes' own controllers is known to other API servers."""
    name = role.removeprefix(CONTROLLER)
    return {**_binding(role), "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}]}


def default_objects() -> list[Json]:
    """ClusterRoles and ClusterRoleBindings to apply at every start."""
    everything = [_rule("*", "*", ("*",)), {"nonResourceURLs": ["*"], "verbs": ["*"]}]
    return [
        _role("cluster-admin", everything),
        _role("admin", None, gathers="admin"),
        _role("edit", None, gathers="edit", into="admin"),
        _role("view", None, gathers="view", into="edit"),
        _role("system:aggregate-to-admin", _admin_rules(), into="admin"),
        _role("system:aggregate-to-edit", _edit_rules(), into="edit"),
        _role("system:aggregate-to-view", _view_rules(), into="view"),
        # For `kubectl top`; on a cluster it comes with metrics-server.
        _role("system:aggregated-metrics-reader", [_rule("metrics.k8s.io", "pods nodes", READ)], into="view"),
        _role(
            "system:discovery",
            [_paths("/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/")],
        ),
        _role(
            "system:monitoring",
            [_paths("/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*")],
        ),
        _role("system:public-info-viewer", [_paths("/healthz /livez /readyz /version /version/")]),
        _role(
            "system:basic-user",
            [
                _rule("authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews", ("create",)),
                _rule("authentication.k8s.io", "selfsubjectreviews", ("create",)),
            ],
        ),
        _role(
            "system:auth-delegator",
            [
                _rule("authentication.k8s.io", "tokenreviews", ("create",)),
                _rule("authorization.k8s.io", "subjectaccessreviews", ("create",)),
            ],
        ),
        _role(
            "system:service-account-issuer-discovery",
            [
                _paths(
                    "/.well-known/openid-configuration /.well-known/openid-configuration/ "
                    "/openid/v1/jwks /openid/v1/jwks/"
                )
            ],
        ),
        # For metrics adapters, which ask whether the autoscaler may read their API.
        _role(
            AUTOSCALER,
            [
                _rule("custom.metrics.k8s.io", "*", ("get", "list")),
                _rule("external.metrics.k8s.io", "*", ("get", "list")),
            ],
        ),
        _of_controller(AUTOSCALER),
        # For extension servers, which ask whether what is in a namespace that ends may be deleted.
        _role(NAMESPACES, [_rule("*", "*", ("delete", "deletecollection", "get", "list"))]),
        _of_controller(NAMESPACES),
        _binding("cluster-admin", MASTERS),
        _binding("system:discovery", AUTHENTICATED),
        _binding("system:basic-user", AUTHENTICATED),
        _binding("system:public-info-viewer", AUTHENTICATED, UNAUTHENTICATED),
        _binding("system:monitoring", "system:monitoring"),
        _binding("system:service-account-issuer-discovery", "system:serviceaccounts"),
    ]
