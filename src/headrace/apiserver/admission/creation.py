"""What the server adds when an object is created, from what else exists: the admission plugins and strategies of a
real API server (ServiceAccount, Priority, DefaultTolerationSeconds, DefaultStorageClass, service addresses).
"""

from __future__ import annotations

import ipaddress
import secrets
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.core import Service, ServiceAccount
from headrace.api.errors import Cause, Forbidden, InternalError, Invalid
from headrace.api.networking import IngressClass
from headrace.api.scheduling import PriorityClass, RuntimeClass
from headrace.api.storage import StorageClass
from headrace.apiserver.admission.defaults.pods import containers, qos_class
from headrace.apiserver.admission.rules.classes import SYSTEM_PRIORITIES

if TYPE_CHECKING:
    from headrace.api.meta import KindInfo
    from headrace.apiserver.admission.lookup import Lookup

Json = dict[str, Any]

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
DEFAULT_INGRESS_CLASS = "ingressclass.kubernetes.io/is-default-class"
INGRESS_CLASS = "kubernetes.io/ingress.class"
"""The annotation that named a class before there was a field for it."""
TOLERATION_SECONDS = 300
TOKEN_SECONDS = 3607
NODE_PORTS = range(30000, 32768)
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def pod(obj: Json, info: KindInfo, lookup: Lookup) -> None:
    """Identity, token volume, priority, tolerations and first status. Raises Forbidden."""
    spec, meta = obj["spec"], obj["metadata"]
    account_name = spec.get("serviceAccountName") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = account_name
    account = lookup.get(ServiceAccount.INFO, meta["namespace"], account_name)
    if account is None and account_name != "default":
        where = f"{meta['namespace']}/{account_name}"
        why = f'error looking up service account {where}: serviceaccount "{account_name}" not found'
        raise _refused(obj, info, why)
    _service_account(spec, account or {})
    _priority(obj, info, lookup)
    _runtime_class(obj, info, lookup)
    _tolerations(spec)
    obj["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}


def _priority(obj: Json, info: KindInfo, lookup: Lookup) -> None:
    """The number behind a priority class; without one the default class counts, else nought."""
    spec = obj["spec"]
    name = spec.get("priorityClassName") or ""
    found: Json | None = None
    if name in SYSTEM_PRIORITIES:
        found = {"value": SYSTEM_PRIORITIES[name]}
    elif name:
        found = lookup.get(PriorityClass.INFO, "", name)
        if found is None:
            raise _refused(obj, info, f"no PriorityClass with name {name} was found")
    else:
        defaults = [c for c in lookup.all(PriorityClass.INFO) if c.get("globalDefault")]
        if defaults:
            found = min(defaults, key=lambda c: (c.get("value", 0), c["metadata"]["name"]))
            spec["priorityClassName"] = found["metadata"]["name"]
    value = (found or {}).get("value", 0)
    if spec.setdefault("priority", value) != value:
        why = (
            f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; priority admission "
        )
        raise _refused(obj, info, f"{why}controller computed {value} from the given PriorityClass name")
    spec.setdefault("preemptionPolicy", (found or {}).get("preemptionPolicy") or "PreemptLowerPriority")


def _runtime_class(obj: Json, info: KindInfo, lookup: Lookup) -> None:
    name = obj["spec"].get("runtimeClassName")
    if name and lookup.get(RuntimeClass.INFO, "", name) is None:
        raise _refused(obj, info, f'pod rejected: RuntimeClass "{name}" not found')


def _refused(obj: Json, info: KindInfo, why: str) -> Forbidden:
    name = obj["metadata"].get("name", "")
    return Forbidden(f'{info.plural} "{name}" is forbidden: {why}', kind=info.plural, name=name)


def _service_account(spec: Json, account: Json) -> None:
    if account.get("imagePullSecrets") and not spec.get("imagePullSecrets"):
        spec["imagePullSecrets"] = _wire.clone(account["imagePullSecrets"])
    mount = spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True))
    if mount is False:
        return
    needing = [
        c for c in containers(spec) if all(m.get("mountPath") != TOKEN_PATH for m in c.get("volumeMounts") or ())
    ]
    if not needing:
        return
    existing = next(
        (v["name"] for v in spec.get("volumes") or () if str(v.get("name")).startswith("kube-api-access-")), None
    )
    name = existing or "kube-api-access-" + "".join(secrets.choice(_ALPHABET) for _ in range(5))
    if existing is None:
        spec["volumes"] = [*(spec.get("volumes") or ()), token_volume(name)]
    for container in needing:
        mounted = {"name": name, "readOnly": True, "mountPath": TOKEN_PATH}
        container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mounted]


def token_volume(name: str) -> Json:
    """The projected volume with token, CA and namespace."""
    return {
        "name": name,
        "projected": {
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {
                    "downwardAPI": {
                        "items": [
                            {
                                "path": "namespace",
                                "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                            }
                        ]
                    }
                },
            ],
            "defaultMode": 420,
        },
    }


def _tolerations(spec: Json) -> None:
    present = spec.get("tolerations") or []
    added = []
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        covered = any(t.get("key", "") in ("", key) and t.get("effect", "") in ("", "NoExecute") for t in present)
        if not covered:
            added.append(
                {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS}
            )
    if added:
        spec["tolerations"] = [*present, *added]


def job(obj: Json, uid: str) -> None:
    """The selector by uid, and the labels that tie the pods to the job."""
    spec = obj["spec"]
    if spec.get("manualSelector"):
        return
    name = obj["metadata"].get("name", "")  # names are checked later, together with everything else
    meta = spec.setdefault("template", {}).setdefault("metadata", {})
    meta["labels"] = {
        **(meta.get("labels") or {}),
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": name,
        "controller-uid": uid,
        "job-name": name,
    }
    selector = spec.setdefault("selector", {})
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), "batch.kubernetes.io/controller-uid": uid}


def claim(obj: Json, lookup: Lookup) -> None:
    """The default StorageClass, when the claim names none and is not bound by hand."""
    spec = obj["spec"]
    obj["status"] = {"phase": "Pending"}
    if "storageClassName" in spec or spec.get("volumeName"):
        return
    defaults = [
        c
        for c in lookup.all(StorageClass.INFO)
        if (c["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"
    ]
    if defaults:
        newest = max(defaults, key=lambda c: (c["metadata"]["creationTimestamp"], c["metadata"]["name"]))
        spec["storageClassName"] = newest["metadata"]["name"]


def ingress(obj: Json, lookup: Lookup) -> None:
    """The default IngressClass, the newest where there are several, when the Ingress names none in either way."""
    spec = obj.get("spec")
    if spec is None or "ingressClassName" in spec or INGRESS_CLASS in (obj["metadata"].get("annotations") or {}):
        return
    defaults = [
        c
        for c in lookup.all(IngressClass.INFO)
        if (c["metadata"].get("annotations") or {}).get(DEFAULT_INGRESS_CLASS) == "true"
    ]
    if defaults:
        newest = max(defaults, key=lambda c: (c["metadata"]["creationTimestamp"], c["metadata"]["name"]))
        obj["spec"] = {**spec, "ingressClassName": newest["metadata"]["name"]}


FIRST_STATUS: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "ReplicationController"): ("replicas",),
    ("apps", "ReplicaSet"): ("replicas",),
    ("apps", "StatefulSet"): ("replicas", "availableReplicas"),
    ("apps", "DaemonSet"): ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"),
    ("policy", "PodDisruptionBudget"): ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"),
    ("autoscaling", "HorizontalPodAutoscaler"): ("currentReplicas", "desiredReplicas"),
}
"""Counts that are there from the beginning: Go writes them also when they are nought, and clients insist on them."""


def api_service(obj: Json, now: str) -> None:
    """What this server answers itself is always available; the rest has to be tried."""
    spec = obj.get("spec") or {}
    obj["status"] = {}
    if spec.get("service") is None:
        condition = {"type": "Available", "status": "True", "lastTransitionTime": now, "reason": "Local"}
        obj["status"] = {"conditions": [condition | {"message": "Local APIServices are always available"}]}


def first_status(info: KindInfo) -> Json:
    """The status of a new object."""
    return dict.fromkeys(FIRST_STATUS.get((info.group, info.kind), ()), 0)


class Addresses:
    """Cluster addresses and node ports of services. What is taken is read from the services that exist; what was
    given to a service that is being written is reserved until that write has ended.
    """

    def __init__(self, cidr: str, lookup: Lookup) -> None:
        self._network = ipaddress.ip_network(cidr)
        self._lookup = lookup
        self._reserved: set[str] = set()
        self._next = 10
        self._next_port = secrets.randbelow(len(NODE_PORTS))

    def release(self, obj: Json) -> None:
        """The write has ended: from now on the store knows."""
        spec = obj.get("spec") or {}
        self._reserved.difference_update(
            {spec.get("clusterIP", ""), *(str(p.get("nodePort")) for p in spec.get("ports") or ())}
        )

    def assign(self, obj: Json, info: KindInfo, old: Json | None = None) -> None:
        """Set clusterIP, clusterIPs and nodePorts, keeping what the service had. Raises Invalid, InternalError."""
        spec = obj["spec"]
        before = (old or {}).get("spec") or {}
        if spec["type"] == "ExternalName":
            for key in ("clusterIP", "clusterIPs"):
                spec.pop(key, None)
            return
        taken = self._taken(obj["metadata"].get("uid", ""))
        if not spec.get("clusterIP"):
            if spec.get("clusterIPs"):
                spec["clusterIP"] = spec["clusterIPs"][0]
            elif before.get("clusterIP"):
                spec["clusterIP"] = before["clusterIP"]
            else:
                spec["clusterIP"] = self._free(taken)
        elif spec["clusterIP"] != "None" and spec["clusterIP"] != before.get("clusterIP"):
            self._check(spec["clusterIP"], taken, obj, info)
        spec.setdefault("clusterIPs", [spec["clusterIP"]])
        if spec["clusterIP"] not in ("None", before.get("clusterIP")):
            self._reserved.add(spec["clusterIP"])
        if spec["type"] in ("NodePort", "LoadBalancer"):
            self._node_ports(spec, before, taken)
        else:
            for port in spec.get("ports") or ():
                port.pop("nodePort", None)

    def _taken(self, uid: str) -> set[str]:
        out = set(self._reserved)
        for service in self._lookup.all(Service.INFO):
            if service["metadata"]["uid"] != uid:
                spec = service.get("spec") or {}
                out.add(spec.get("clusterIP", ""))
                out.update(str(p["nodePort"]) for p in spec.get("ports") or () if p.get("nodePort"))
        return out

    def _free(self, taken: set[str]) -> str:
        size = self._network.num_addresses
        for _ in range(size):
            address = str(self._network[self._next])
            self._next = self._next + 1 if self._next + 2 < size else 10
            if address not in taken:
                return address
        raise InternalError(f"no address is left in the service range {self._network}")

    def _check(self, address: str, taken: set[str], obj: Json, info: KindInfo) -> None:
        path, name = "spec.clusterIPs[0]", obj["metadata"]["name"]
        try:
            inside = ipaddress.ip_address(address) in self._network
        except ValueError:
            why = f'Invalid value: "{address}": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'
            raise Invalid.of(info, name, [Cause(path, why)]) from None
        if not inside:
            why = f'Invalid value: "{address}": failed to allocate IP {address}: not in the range {self._network}'
            raise Invalid.of(info, name, [Cause(path, why)])
        if address in taken:
            why = f'Invalid value: "{address}": failed to allocate IP {address}: provided IP is already allocated'
            raise Invalid.of(info, name, [Cause(path, why)])

    def _node_ports(self, spec: Json, before: Json, taken: set[str]) -> None:
        known = {p.get("port"): p.get("nodePort") for p in before.get("ports") or ()}
        for port in spec.get("ports") or ():
            if not port.get("nodePort"):
                port["nodePort"] = known.get(port.get("port")) or self._free_port(taken)
            taken.add(str(port["nodePort"]))
            self._reserved.add(str(port["nodePort"]))

    def _free_port(self, taken: set[str]) -> int:
        for _ in NODE_PORTS:
            self._next_port = (self._next_port + 1) % len(NODE_PORTS)
            port = NODE_PORTS[self._next_port]
            if str(port) not in taken:
                return port
        raise InternalError("no node port is left")
