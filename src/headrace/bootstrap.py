"""The objects that a cluster has before anybody uses it, and how they are kept: applied at every start, written
only when something differs, so that a warm start writes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.errors import NotFound
from headrace.api.identity import AUTHENTICATED, User
from headrace.apiserver.authz.bootstrap import default_objects
from headrace.apiserver.pki.authority import FRONT_PROXY, kubernetes_service_ip
from headrace.machinery.settings import SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.apiserver.pki.authority import Pki
    from headrace.apiserver.registry import Registry
    from headrace.machinery.component import Component, HostService
    from headrace.machinery.settings import Settings

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease", SYSTEM_NAMESPACE)
RBAC = "rbac.authorization.k8s.io"
IDENTITIES = ("gateway",)
"""Parts of the platform that act under a service account of their own without being components."""


def node_user(settings: Settings) -> User:
    """The identity of the node agent, as a kubelet's."""
    return User(f"system:node:{settings.node_name}", groups=("system:nodes", AUTHENTICATED))


async def ensure(registry: Registry, user: User, bodies: Iterable[dict[str, Any]]) -> None:
    """Create what is missing and merge in what differs; fields that these bodies do not name stay."""
    for body in bodies:
        group, _, version = body["apiVersion"].rpartition("/")
        info = registry.kinds.by_kind(group, version, body["kind"])
        if info is None:
            raise LookupError(f"{body['apiVersion']} {body['kind']} is not served")
        meta = body["metadata"]
        namespace = meta.get("namespace", "")
        try:
            current = _wire.decode_any(await registry.get(user, info, meta["name"], namespace))
        except NotFound:
            await registry.create(user, info, body, namespace)
            continue
        if not _contains(current, body):
            await registry.patch(user, info, meta["name"], body, namespace)


def _contains(current: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(current, dict) and all(
            key in current and _contains(current[key], value) for key, value in wanted.items()
        )
    return bool(current == wanted)


def cluster_objects(settings: Settings, components: Iterable[Component]) -> list[dict[str, Any]]:
    """Namespaces, roles, the default StorageClass, the service accounts of the platform's own parts."""
    accounts = (*(part.name for part in components), *IDENTITIES)
    return [
        *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES),
        *default_objects(),
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": "standard",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "headrace.dev/local",
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "Immediate",
        },
        *(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": name, "namespace": SYSTEM_NAMESPACE},
            }
            for name in accounts
        ),
        _role("headrace:component", COMPONENT_RULES),
        _binding(
            "headrace:component",
            [{"kind": "ServiceAccount", "name": name, "namespace": SYSTEM_NAMESPACE} for name in accounts],
        ),
        _role("system:node", NODE_RULES),
        _binding("system:node", [{"kind": "Group", "name": "system:nodes", "apiGroup": RBAC}]),
        *_selectorless(
            "kubernetes", "default", settings, [("https", 443, settings.ports.api)], kubernetes_service_ip(settings)
        ),
    ]


def front_proxy_objects(pki: Pki) -> list[dict[str, Any]]:
    """What extension API servers read to know this server and its users, and the role that lets them (upstream:
    clusterauthenticationtrust).
    """
    name, namespace = "extension-apiserver-authentication", "kube-system"
    words = {
        "requestheader-allowed-names": [FRONT_PROXY],
        "requestheader-extra-headers-prefix": ["X-Remote-Extra-"],
        "requestheader-group-headers": ["X-Remote-Group"],
        "requestheader-uid-headers": [],
        "requestheader-username-headers": ["X-Remote-User"],
    }
    data = {key: _wire.encode(value).decode() for key, value in words.items()}
    data["client-ca-file"] = pki.ca.read_text()
    data["requestheader-client-ca-file"] = pki.front_proxy_ca.read_text()
    rule = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name], "verbs": list(READ)}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "Role",
            "metadata": {"name": f"{name}-reader", "namespace": namespace},
            "rules": [rule],
        },
    ]


def host_services(settings: Settings, services: Iterable[HostService]) -> list[dict[str, Any]]:
    """A Service without selector and its Endpoints for each server of this process."""
    return [
        body
        for service in services
        for body in _selectorless(
            service.name, service.namespace, settings, [(service.port_name, service.port, service.target_port)]
        )
    ]


def _selectorless(
    name: str, namespace: str, settings: Settings, ports: list[tuple[str, int, int]], address: str = ""
) -> list[dict[str, Any]]:
    meta = {"name": name, "namespace": namespace}
    fixed = {"clusterIP": address, "clusterIPs": [address]} if address else {}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {
                **fixed,
                "type": "ClusterIP",
                "ports": [
                    {"name": label, "port": port, "protocol": "TCP", "targetPort": target}
                    for label, port, target in ports
                ],
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": meta,
            "subsets": [
                {
                    "addresses": [{"ip": settings.node_ip}],
                    "ports": [{"name": label, "port": target, "protocol": "TCP"} for label, _, target in ports],
                }
            ],
        },
    ]


def _role(name: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}


def _binding(name: str, subjects: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
        "subjects": subjects,
    }


def _rule(groups: list[str], resources: list[str], verbs: list[str]) -> dict[str, Any]:
    return {"apiGroups": groups, "resources": resources, "verbs": verbs}


EVERY_VERB = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]
READ = ["get", "list", "watch"]
REVIEWS = [
    _rule(["authentication.k8s.io"], ["tokenreviews"], ["create"]),
    _rule(["authorization.k8s.io"], ["subjectaccessreviews"], ["create"]),
]
COMPONENT_RULES = [
    _rule(
        [""],
        [
            "pods",
            "pods/log",
            "services",
            "endpoints",
            "configmaps",
            "secrets",
            "serviceaccounts",
            "persistentvolumeclaims",
            "events",
            "namespaces",
        ],
        EVERY_VERB,
    ),
    _rule(["apps", "batch"], ["*"], EVERY_VERB),
    _rule(["serving.kserve.io", "pipelines.kubeflow.org", "kubeflow.org"], ["*"], EVERY_VERB),
    _rule(["networking.istio.io", "security.istio.io"], ["*"], EVERY_VERB),
    _rule([""], ["nodes", "persistentvolumes"], READ),
    *REVIEWS,
]
"""What the platform's components may do: workloads and their own kinds, neither RBAC nor the node."""
NODE_RULES = [
    _rule([""], ["pods", "pods/binding", "pods/status", "nodes", "nodes/status", "events"], EVERY_VERB),
    _rule([""], ["services", "endpoints", "configmaps", "secrets", "serviceaccounts", "namespaces"], READ),
    _rule([""], ["persistentvolumeclaims", "persistentvolumes"], [*READ, "create", "delete"]),
    _rule([""], ["serviceaccounts/token"], ["create"]),
    _rule(["storage.k8s.io"], ["storageclasses"], READ),
    _rule(["coordination.k8s.io"], ["leases"], EVERY_VERB),
    *REVIEWS,
]
"""What the node agent may do (upstream: the Node authorizer)."""
