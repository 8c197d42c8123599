"""Rules of services, configuration, storage and RBAC."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from headrace.api.errors import Cause
from headrace.apiserver.admission.rules import fields as f

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]

_SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_ACCESS_MODES = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_DATA_LIMIT = 1024 * 1024
_RBAC = "rbac.authorization.k8s.io"


def service(obj: Json) -> Iterator[Cause]:
    """A Service."""
    spec = obj.get("spec") or {}
    kind, ports = spec.get("type"), spec.get("ports") or []
    headless = spec.get("clusterIP") == "None"
    yield from f.one_of("spec.type", kind, _SERVICE_TYPES)
    if kind == "ExternalName":
        if not spec.get("externalName"):
            yield f.required("spec.externalName")
    elif not ports and not headless:
        yield f.required("spec.ports")
    if headless and kind in ("NodePort", "LoadBalancer"):
        yield f.invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services")
    names: set[str] = set()
    numbers: set[tuple[Any, Any]] = set()
    for i, port in enumerate(ports):
        where = f"spec.ports[{i}]"
        name = port.get("name") or ""
        if not name and len(ports) > 1:
            yield f.required(f"{where}.name")
        elif name:
            yield from f.dns_label(f"{where}.name", name)
            if name in names:
                yield f.duplicate(f"{where}.name", name)
        names.add(name)
        yield from f.port(f"{where}.port", port.get("port"))
        yield from f.one_of(f"{where}.protocol", port.get("protocol"), _PROTOCOLS)
        yield from f.port_or_name(f"{where}.targetPort", port.get("targetPort"))
        number = (port.get("port"), port.get("protocol"))
        if number in numbers:
            yield f.duplicate(where, f"{number[0]}/{number[1]}")
        numbers.add(number)
    yield from f.one_of("spec.sessionAffinity", spec.get("sessionAffinity"), ("ClientIP", "None"))


def service_update(new: Json, old: Json) -> Iterator[Cause]:
    """The address stays."""
    before, after = old.get("spec") or {}, new.get("spec") or {}
    if before.get("type") == "ExternalName" or after.get("type") == "ExternalName":
        return
    if before.get("clusterIP") and after.get("clusterIP") != before["clusterIP"]:
        yield f.invalid("spec.clusterIPs[0]", [after.get("clusterIP")], "may not change once set")


def config_map(obj: Json) -> Iterator[Cause]:
    """A ConfigMap."""
    total = 0
    for key in ("data", "binaryData"):
        for name, value in (obj.get(key) or {}).items():
            yield from _data_key(f"{key}[{name}]", name)
            total += len(value.encode())
    for name in set(obj.get("data") or ()) & set(obj.get("binaryData") or ()):
        yield f.invalid(f"data[{name}]", name, "duplicate of key present in binaryData")
    if total > _DATA_LIMIT:
        yield _too_long("", _DATA_LIMIT)


def secret(obj: Json) -> Iterator[Cause]:
    """A Secret."""
    data = obj.get("data") or {}
    for name in data:
        yield from _data_key(f"data[{name}]", name)
    if sum(len(v) * 3 // 4 for v in data.values()) > _DATA_LIMIT:
        yield _too_long("data", _DATA_LIMIT)
    needed = {
        "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
        "kubernetes.io/dockercfg": (".dockercfg",),
        "kubernetes.io/tls": ("tls.crt", "tls.key"),
        "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    }.get(obj.get("type", ""), ())
    for name in needed:
        if name not in data:
            yield f.required(f"data[{name}]")


def _data_key(path: str, name: str) -> Iterator[Cause]:
    if not _DATA_KEY.fullmatch(name) or name in (".", "..") or len(name) > 253:
        yield f.invalid(
            path,
            name,
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
            "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        )


def _too_long(path: str, limit: int) -> Cause:
    return Cause(path, f"Too long: may not be more than {limit} bytes", "FieldValueTooLong")


def immutable_data(new: Json, old: Json) -> Iterator[Cause]:
    """What was declared immutable stays."""
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        yield f.forbidden("immutable", "field is immutable when `immutable` is set")
    for key in ("data", "binaryData"):
        if (new.get(key) or {}) != (old.get(key) or {}):
            yield f.forbidden(key, "field is immutable when `immutable` is set")


def secret_update(new: Json, old: Json) -> Iterator[Cause]:
    """A secret's type stays."""
    if new.get("type") != old.get("type"):
        yield f.immutable("type", new.get("type"))
    yield from immutable_data(new, old)


def claim(obj: Json) -> Iterator[Cause]:
    """A PersistentVolumeClaim."""
    spec = obj.get("spec") or {}
    yield from _access_modes(spec)
    requests = (spec.get("resources") or {}).get("requests") or {}
    if "storage" not in requests:
        yield f.required("spec.resources[storage]")
    yield from f.resource_list("spec.resources.requests", requests)
    yield from f.one_of("spec.volumeMode", spec.get("volumeMode"), ("Block", "Filesystem"))
    source, ref = spec.get("dataSource"), spec.get("dataSourceRef")
    for key, named in (("dataSource", source), ("dataSourceRef", ref)):
        if isinstance(named, dict):
            yield from _data_source(f"spec.{key}", named)
    if source and ref and not ref.get("namespace") and source != ref:
        yield f.invalid("spec", spec, "must match dataSourceRef")


def _data_source(path: str, source: Json) -> Iterator[Cause]:
    for key in ("name", "kind"):
        if not source.get(key):
            yield f.required(f"{path}.{key}")
    if not source.get("apiGroup") and source.get("kind") not in {"PersistentVolumeClaim", "", None}:
        yield f.invalid(
            path, source.get("kind"), "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        )


def _access_modes(spec: Json) -> Iterator[Cause]:
    modes = spec.get("accessModes") or []
    if not modes:
        yield f.required("spec.accessModes", "at least 1 access mode is required")
    for mode in modes:
        if mode not in _ACCESS_MODES:
            yield f.unsupported("spec.accessModes", mode, _ACCESS_MODES)


def claim_update(new: Json, old: Json) -> Iterator[Cause]:
    """A claim's spec is fixed, but for its size once it is bound, and for what binding sets."""
    before, after = old.get("spec") or {}, new.get("spec") or {}

    def fixed(spec: Json) -> Json:
        out = {k: v for k, v in spec.items() if k not in ("resources", "volumeAttributesClassName")}
        if not before.get("volumeName"):
            out.pop("volumeName", None)
        if "storageClassName" not in before:
            out.pop("storageClassName", None)
        return out

    bound = (old.get("status") or {}).get("phase") == "Bound"
    if fixed(before) != fixed(after) or (not bound and before.get("resources") != after.get("resources")):
        yield f.forbidden(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        )


def volume(obj: Json) -> Iterator[Cause]:
    """A PersistentVolume."""
    spec = obj.get("spec") or {}
    yield from _access_modes(spec)
    if "storage" not in (spec.get("capacity") or {}):
        yield f.required("spec.capacity")
    yield from f.resource_list("spec.capacity", spec.get("capacity"))
    yield from f.one_of(
        "spec.persistentVolumeReclaimPolicy",
        spec.get("persistentVolumeReclaimPolicy"),
        ("Delete", "Recycle", "Retain"),
    )


def storage_class(obj: Json) -> Iterator[Cause]:
    """A StorageClass."""
    if not obj.get("provisioner"):
        yield f.required("provisioner")
    yield from f.one_of("reclaimPolicy", obj.get("reclaimPolicy"), ("Delete", "Retain"))
    yield from f.one_of("volumeBindingMode", obj.get("volumeBindingMode"), ("Immediate", "WaitForFirstConsumer"))


def storage_class_update(new: Json, old: Json) -> Iterator[Cause]:
    """What volumes were made with stays."""
    for key in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"):
        if (new.get(key) or {}) != (old.get(key) or {}):
            yield f.forbidden(key, f"updates to {key} are forbidden.")


def role(obj: Json) -> Iterator[Cause]:
    """A Role."""
    for i, rule in enumerate(obj.get("rules") or ()):
        where = f"rules[{i}]"
        if rule.get("nonResourceURLs"):
            yield f.invalid(
                f"{where}.nonResourceURLs",
                rule["nonResourceURLs"],
                "namespaced rules cannot apply to non-resource URLs",
            )
        yield from _rule(rule, where)


def cluster_role(obj: Json) -> Iterator[Cause]:
    """A ClusterRole."""
    for i, rule in enumerate(obj.get("rules") or ()):
        where = f"rules[{i}]"
        if rule.get("nonResourceURLs"):
            if any(rule.get(k) for k in ("apiGroups", "resources", "resourceNames")):
                yield f.invalid(
                    f"{where}.nonResourceURLs",
                    rule["nonResourceURLs"],
                    "rules cannot apply to both regular resources and non-resource URLs",
                )
            if not rule.get("verbs"):
                yield f.required(f"{where}.verbs", "verbs must contain at least one value")
        else:
            yield from _rule(rule, where)


def _rule(rule: Json, path: str) -> Iterator[Cause]:
    if not rule.get("verbs"):
        yield f.required(f"{path}.verbs", "verbs must contain at least one value")
    if not rule.get("apiGroups"):
        yield f.required(f"{path}.apiGroups", "resource rules must supply at least one api group")
    if not rule.get("resources"):
        yield f.required(f"{path}.resources", "resource rules must supply at least one resource")


def binding(obj: Json) -> Iterator[Cause]:
    """A RoleBinding or ClusterRoleBinding."""
    reference = obj.get("roleRef") or {}
    kinds = ("ClusterRole",) if obj["kind"] == "ClusterRoleBinding" else ("ClusterRole", "Role")
    if reference.get("apiGroup") != _RBAC:
        yield f.unsupported("roleRef.apiGroup", reference.get("apiGroup", ""), (_RBAC,))
    if reference.get("kind") not in kinds:
        yield f.unsupported("roleRef.kind", reference.get("kind", ""), kinds)
    if not reference.get("name"):
        yield f.required("roleRef.name")
    for i, subject in enumerate(obj.get("subjects") or ()):
        where = f"subjects[{i}]"
        if not subject.get("name"):
            yield f.required(f"{where}.name")
        yield from f.one_of(f"{where}.kind", subject.get("kind"), ("User", "Group", "ServiceAccount"))
        if subject.get("kind") == "ServiceAccount" and not subject.get("namespace"):
            yield f.required(f"{where}.namespace")


def binding_update(new: Json, old: Json) -> Iterator[Cause]:
    """A binding's role stays."""
    if new.get("roleRef") != old.get("roleRef"):
        yield f.invalid("roleRef", new.get("roleRef"), "cannot change roleRef")
