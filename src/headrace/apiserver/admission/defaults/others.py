"""Defaults of services, storage, secrets, RBAC and definitions."""

from __future__ import annotations

import base64
from typing import Any

from headrace.apiserver.admission.defaults.pods import claim_spec
from headrace.apiserver.admission.defaults.quantities import canonical_list

Json = dict[str, Any]
RBAC = "rbac.authorization.k8s.io"


def service(obj: Json) -> None:
    """A Service; its address is allocated later, when it is created."""
    spec = obj.setdefault("spec", {})
    if not spec.get("type"):
        spec["type"] = "ClusterIP"
    spec.setdefault("sessionAffinity", "None")
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in (None, 0, "") and "port" in port:
            port["targetPort"] = port["port"]
    if spec["type"] == "ExternalName":
        return
    spec.setdefault("internalTrafficPolicy", "Cluster")
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    obj.setdefault("status", {"loadBalancer": {}})


def endpoint_slice(obj: Json) -> None:
    """An EndpointSlice; Go's clients leave an empty list out."""
    obj.setdefault("endpoints", [])
    for port in obj.get("ports") or ():
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


def endpoints(obj: Json) -> None:
    """Endpoints."""
    for subset in obj.get("subsets") or ():
        for port in subset.get("ports") or ():
            port.setdefault("protocol", "TCP")


def resource_quota(obj: Json) -> None:
    """A ResourceQuota."""
    canonical_list((obj.get("spec") or {}).get("hard"))


def limit_range(obj: Json) -> None:
    """A LimitRange: a container's default limit is the most it may have, its default request its limit or the least."""
    for item in (obj.get("spec") or {}).get("limits") or ():
        for part in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
            canonical_list(item.get(part))
        if item.get("type") == "Container":
            default = {**(item.get("max") or {}), **(item.get("default") or {})}
            request = {**(item.get("min") or {}), **default, **(item.get("defaultRequest") or {})}
            item.update({k: v for k, v in (("default", default), ("defaultRequest", request)) if v})


def secret(obj: Json) -> None:
    """A Secret; `stringData` goes into `data`."""
    if not obj.get("type"):
        obj["type"] = "Opaque"
    text = obj.pop("stringData", None)
    if isinstance(text, dict):
        added = {k: base64.b64encode(v.encode()).decode() for k, v in text.items()}
        obj["data"] = {**(obj.get("data") or {}), **added}


def namespace(obj: Json) -> None:
    """A Namespace carries its name as a label, for selectors."""
    meta = obj["metadata"]
    if meta.get("name"):
        meta["labels"] = {**(meta.get("labels") or {}), "kubernetes.io/metadata.name": meta["name"]}


def single_claim(obj: Json) -> None:
    """A PersistentVolumeClaim that is no template: its data source has two names (upstream: NormalizeDataSources)."""
    claim(obj)
    spec = obj["spec"]
    source, ref = spec.get("dataSource"), spec.get("dataSourceRef")
    if source and not ref:
        spec["dataSourceRef"] = dict(source)
    elif ref and not source and not ref.get("namespace"):
        spec["dataSource"] = dict(ref)


def claim(obj: Json) -> None:
    """A PersistentVolumeClaim."""
    claim_spec(obj.setdefault("spec", {}))
    obj.setdefault("status", {}).setdefault("phase", "Pending")


def volume(obj: Json) -> None:
    """A PersistentVolume."""
    spec = obj.setdefault("spec", {})
    spec.setdefault("volumeMode", "Filesystem")
    spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
    if "hostPath" in spec:
        spec["hostPath"].setdefault("type", "")
    canonical_list(spec.get("capacity"))
    obj.setdefault("status", {}).setdefault("phase", "Pending")


def node(obj: Json) -> None:
    """A Node."""
    status = obj.get("status") or {}
    canonical_list(status.get("capacity"))
    canonical_list(status.get("allocatable"))


def storage_class(obj: Json) -> None:
    """A StorageClass."""
    obj.setdefault("reclaimPolicy", "Delete")
    obj.setdefault("volumeBindingMode", "Immediate")


def binding(obj: Json) -> None:
    """A RoleBinding or ClusterRoleBinding."""
    reference = obj.get("roleRef")
    if isinstance(reference, dict) and not reference.get("apiGroup"):
        reference["apiGroup"] = RBAC
    for subject in obj.get("subjects") or ():
        if subject.get("kind") in ("User", "Group") and not subject.get("apiGroup"):
            subject["apiGroup"] = RBAC


def definition(obj: Json) -> None:
    """A CustomResourceDefinition."""
    spec = obj.get("spec") or {}
    names = spec.get("names") or {}
    if names.get("kind"):
        names.setdefault("singular", names["kind"].lower())
        names.setdefault("listKind", f"{names['kind']}List")
    spec.setdefault("conversion", {"strategy": "None"})
    service = ((spec["conversion"].get("webhook") or {}).get("clientConfig") or {}).get("service")
    if isinstance(service, dict):
        service.setdefault("port", 443)
