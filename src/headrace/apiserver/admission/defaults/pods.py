"""Defaults of pods and pod templates (pkg/apis/core/v1/defaults.go)."""

from __future__ import annotations

from typing import Any

from headrace.api.quantity import canonical
from headrace.apiserver.admission.defaults.quantities import canonical_list

Json = dict[str, Any]

_FILE_MODE = 0o644
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def pod(obj: Json) -> None:
    """A pod; its requests default to its limits."""
    spec = obj.setdefault("spec", {})
    pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    for container in containers(spec):
        resources = container["resources"]
        limits = resources.get("limits") or {}
        if limits:
            resources["requests"] = {**limits, **(resources.get("requests") or {})}


def containers(spec: Json) -> list[Json]:
    """Init containers and main containers."""
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def pod_spec(spec: Json) -> None:
    """The spec of a pod or of a template."""
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("securityContext", {})
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("schedulerName", "default-scheduler")
    if spec.get("serviceAccount") and not spec.get("serviceAccountName"):
        spec["serviceAccountName"] = spec["serviceAccount"]
    if spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    for container in (*containers(spec), *(spec.get("ephemeralContainers") or ())):
        _container(container, host_network=bool(spec.get("hostNetwork")))
    for volume in spec.get("volumes") or ():
        _volume(volume)
    canonical_list(spec.get("overhead"))


def _container(container: Json, *, host_network: bool) -> None:
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = "Always" if _tag(container.get("image") or "") == "latest" else "IfNotPresent"
    resources = container.setdefault("resources", {})
    canonical_list(resources.get("limits"))
    canonical_list(resources.get("requests"))
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if host_network and not port.get("hostPort") and "containerPort" in port:
            port["hostPort"] = port["containerPort"]
    for name in _PROBES:
        if name in container:
            _probe(container[name])
    for hook in (container.get("lifecycle") or {}).values():
        _http_get(hook)
    for variable in container.get("env") or ():
        _field_refs(variable.get("valueFrom") or {})


def _tag(image: str) -> str:
    if "@" in image:
        return ""
    name, colon, tag = image.rpartition(":")
    return tag if colon and "/" not in tag and name else "latest"


def _probe(probe: Json) -> None:
    probe.setdefault("timeoutSeconds", 1)
    probe.setdefault("periodSeconds", 10)
    probe.setdefault("successThreshold", 1)
    probe.setdefault("failureThreshold", 3)
    _http_get(probe)
    if isinstance(probe.get("grpc"), dict):
        probe["grpc"].setdefault("service", "")


def _http_get(handler: Json) -> None:
    action = handler.get("httpGet")
    if isinstance(action, dict):
        if not action.get("path"):
            action["path"] = "/"
        if not action.get("scheme"):
            action["scheme"] = "HTTP"


def _field_refs(source: Json) -> None:
    if "fieldRef" in source:
        source["fieldRef"].setdefault("apiVersion", "v1")
    if "resourceFieldRef" in source:
        reference = source["resourceFieldRef"]
        reference["divisor"] = canonical(reference.get("divisor", "0"))


def _volume(volume: Json) -> None:
    if set(volume) <= {"name"}:
        volume["emptyDir"] = {}
    for kind in ("secret", "configMap", "projected", "downwardAPI"):
        if kind in volume:
            volume[kind].setdefault("defaultMode", _FILE_MODE)
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")
    if "sizeLimit" in (volume.get("emptyDir") or {}):
        volume["emptyDir"]["sizeLimit"] = canonical(volume["emptyDir"]["sizeLimit"])
    for item in (volume.get("downwardAPI") or {}).get("items") or ():
        _field_refs(item)
    for source in (volume.get("projected") or {}).get("sources") or ():
        if "serviceAccountToken" in source:
            source["serviceAccountToken"].setdefault("expirationSeconds", 3600)
        for item in (source.get("downwardAPI") or {}).get("items") or ():
            _field_refs(item)
    if "ephemeral" in volume:
        claim_spec((volume["ephemeral"].get("volumeClaimTemplate") or {}).get("spec"))


def claim_spec(spec: Any) -> None:
    """The spec of a claim or of a claim template."""
    if isinstance(spec, dict):
        spec.setdefault("volumeMode", "Filesystem")
        resources = spec.get("resources") or {}
        canonical_list(resources.get("requests"))
        canonical_list(resources.get("limits"))


def qos_class(spec: Json) -> str:
    """Guaranteed, Burstable or BestEffort, as the node treats the pod under pressure."""
    any_set, guaranteed = False, True
    for container in containers(spec):
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        counted = {
            name
            for name in ("cpu", "memory")
            if limits.get(name, "0") not in ("0", 0) or requests.get(name, "0") not in ("0", 0)
        }
        any_set = any_set or bool(counted)
        for name in ("cpu", "memory"):
            if name not in limits or requests.get(name, limits[name]) != limits[name]:
                guaranteed = False
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
