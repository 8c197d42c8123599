"""The other kinds of Kubernetes itself: services, nodes, storage, configuration, events, access control."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.apiserver.tables.base import (
    AGE,
    CREATED,
    NAME,
    NONE,
    UNKNOWN,
    Column,
    Printer,
    access_modes,
    age,
    created_at,
    joined,
    labels_text,
    meta,
    name,
    since,
    spec,
    status,
)

if TYPE_CHECKING:
    import datetime as dt

    from headrace.apiserver.tables.base import JSON

MAX_ENDPOINTS = 3
ROLE_LABEL = "node-role.kubernetes.io/"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


def _external_ip(obj: JSON) -> str:
    wanted = spec(obj)
    listed = list(wanted.get("externalIPs") or [])
    match wanted.get("type"):
        case "ExternalName":
            return str(wanted.get("externalName", ""))
        case "LoadBalancer":
            ingress = (status(obj).get("loadBalancer") or {}).get("ingress") or []
            addresses = [i.get("ip") or i.get("hostname", "") for i in ingress] + listed
            return ",".join(addresses) if addresses else "<pending>"
        case _:
            return joined(listed)


def _ports(obj: JSON) -> str:
    return joined(
        f"{p.get('port')}:{p['nodePort']}/{p.get('protocol', 'TCP')}"
        if p.get("nodePort")
        else f"{p.get('port')}/{p.get('protocol', 'TCP')}"
        for p in spec(obj).get("ports") or []
    )


def _service(obj: JSON, now: dt.datetime) -> list[Any]:
    wanted = spec(obj)
    return [
        name(obj),
        wanted.get("type", "ClusterIP"),
        (wanted.get("clusterIPs") or [wanted.get("clusterIP")])[0] or NONE,
        _external_ip(obj),
        _ports(obj),
        age(obj, now),
        labels_text(wanted.get("selector")),
    ]


SERVICE = Printer(
    (
        NAME,
        Column("Type"),
        Column("Cluster-IP"),
        Column("External-IP"),
        Column("Port(s)"),
        AGE,
        Column("Selector", priority=1),
    ),
    _service,
)


def _endpoints(obj: JSON, now: dt.datetime) -> list[Any]:
    listed: list[str] = []
    for subset in obj.get("subsets") or []:
        ports = subset.get("ports") or []
        for address in subset.get("addresses") or []:
            ip = address.get("ip", "")
            host = f"[{ip}]" if ":" in ip else ip
            listed += [f"{host}:{p.get('port')}" for p in ports] if ports else [ip]
    text = joined(listed[:MAX_ENDPOINTS])
    if len(listed) > MAX_ENDPOINTS:
        text += f" + {len(listed) - MAX_ENDPOINTS} more..."
    return [name(obj), text, age(obj, now)]


ENDPOINTS = Printer((NAME, Column("Endpoints"), AGE), _endpoints)


def _endpoint_slice(obj: JSON, now: dt.datetime) -> list[Any]:
    addresses = [a for e in obj.get("endpoints") or [] for a in e.get("addresses") or []]
    shown = joined(addresses[:MAX_ENDPOINTS])
    if len(addresses) > MAX_ENDPOINTS:
        shown += f" + {len(addresses) - MAX_ENDPOINTS} more..."
    ports = joined(p.get("port", "") for p in obj.get("ports") or [])
    return [name(obj), obj.get("addressType", ""), ports if ports != NONE else "<unset>", shown, age(obj, now)]


ENDPOINT_SLICE = Printer((NAME, Column("AddressType"), Column("Ports"), Column("Endpoints"), AGE), _endpoint_slice)


def _node_status(obj: JSON) -> str:
    words = [
        "Ready" if c.get("status") == "True" else "NotReady"
        for c in status(obj).get("conditions") or []
        if c.get("type") == "Ready"
    ] or ["Unknown"]
    if spec(obj).get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _node_roles(obj: JSON) -> str:
    labels = meta(obj).get("labels") or {}
    roles = {key.removeprefix(ROLE_LABEL) for key in labels if key.startswith(ROLE_LABEL) and key != ROLE_LABEL}
    if labels.get("kubernetes.io/role"):
        roles.add(labels["kubernetes.io/role"])
    return joined(sorted(roles))


def _node(obj: JSON, now: dt.datetime) -> list[Any]:
    state = status(obj)
    info = state.get("nodeInfo") or {}
    addresses = {a.get("type"): a.get("address") for a in state.get("addresses") or []}
    return [
        name(obj),
        _node_status(obj),
        _node_roles(obj),
        age(obj, now),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP") or NONE,
        addresses.get("ExternalIP") or NONE,
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


NODE = Printer(
    (
        NAME,
        Column("Status"),
        Column("Roles"),
        AGE,
        Column("Version"),
        Column("Internal-IP", priority=1),
        Column("External-IP", priority=1),
        Column("OS-Image", priority=1),
        Column("Kernel-Version", priority=1),
        Column("Container-Runtime", priority=1),
    ),
    _node,
)


def _event_times(obj: JSON) -> tuple[object, object, int]:
    """(first seen, last seen, count); events of the newer API carry eventTime and a series."""
    series = obj.get("series") or {}
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    last = series.get("lastObservedTime") or obj.get("lastTimestamp") or first
    return first, last, series.get("count") or obj.get("count") or 1


def _event(obj: JSON, now: dt.datetime) -> list[Any]:
    first, last, count = _event_times(obj)
    about = obj.get("involvedObject") or {}
    source = obj.get("source") or {}
    reporter = ", ".join(
        filter(
            None,
            (
                source.get("component") or obj.get("reportingComponent"),
                source.get("host") or obj.get("reportingInstance"),
            ),
        )
    )
    return [
        since(last, now),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}",
        about.get("fieldPath", ""),
        reporter,
        str(obj.get("message", "")).strip(),
        since(first, now),
        count,
        name(obj),
    ]


EVENT = Printer(
    (
        Column("Last Seen"),
        Column("Type"),
        Column("Reason"),
        Column("Object"),
        Column("Subobject", priority=1),
        Column("Source", priority=1),
        Column("Message"),
        Column("First Seen", priority=1),
        Column("Count", "integer", priority=1),
        Column("Name", priority=1, format="name"),
    ),
    _event,
)


def _namespace(obj: JSON, now: dt.datetime) -> list[Any]:
    return [name(obj), status(obj).get("phase", ""), age(obj, now)]


NAMESPACE = Printer((NAME, Column("Status"), AGE), _namespace)


def _config_map(obj: JSON, now: dt.datetime) -> list[Any]:
    return [name(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), age(obj, now)]


CONFIG_MAP = Printer((NAME, Column("Data", "integer"), AGE), _config_map)


def _secret(obj: JSON, now: dt.datetime) -> list[Any]:
    return [name(obj), obj.get("type", ""), len(obj.get("data") or {}), age(obj, now)]


SECRET = Printer((NAME, Column("Type"), Column("Data", "integer"), AGE), _secret)


def _service_account(obj: JSON, now: dt.datetime) -> list[Any]:
    return [name(obj), len(obj.get("secrets") or []), age(obj, now)]


SERVICE_ACCOUNT = Printer((NAME, Column("Secrets", "integer"), AGE), _service_account)


def _phase(obj: JSON) -> str:
    return "Terminating" if meta(obj).get("deletionTimestamp") else str(status(obj).get("phase", ""))


def _claim(obj: JSON, now: dt.datetime) -> list[Any]:
    wanted, state = spec(obj), status(obj)
    bound = bool(wanted.get("volumeName"))
    return [
        name(obj),
        _phase(obj),
        wanted.get("volumeName", ""),
        (state.get("capacity") or {}).get("storage", "") if bound else "",
        access_modes(state.get("accessModes")) if bound else "",
        wanted.get("storageClassName") or "",
        wanted.get("volumeAttributesClassName") or "<unset>",
        age(obj, now),
        wanted.get("volumeMode") or "<unset>",
    ]


CLAIM = Printer(
    (
        NAME,
        Column("Status"),
        Column("Volume"),
        Column("Capacity"),
        Column("Access Modes"),
        Column("StorageClass"),
        Column("VolumeAttributesClass"),
        AGE,
        Column("VolumeMode", priority=1),
    ),
    _claim,
)


def _volume(obj: JSON, now: dt.datetime) -> list[Any]:
    wanted = spec(obj)
    claim = wanted.get("claimRef") or {}
    return [
        name(obj),
        (wanted.get("capacity") or {}).get("storage", ""),
        access_modes(wanted.get("accessModes")),
        wanted.get("persistentVolumeReclaimPolicy", ""),
        _phase(obj),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        wanted.get("storageClassName", ""),
        wanted.get("volumeAttributesClassName") or "<unset>",
        status(obj).get("reason", ""),
        age(obj, now),
        wanted.get("volumeMode") or "<unset>",
    ]


VOLUME = Printer(
    (
        NAME,
        Column("Capacity"),
        Column("Access Modes"),
        Column("Reclaim Policy"),
        Column("Status"),
        Column("Claim"),
        Column("StorageClass"),
        Column("VolumeAttributesClass"),
        Column("Reason"),
        AGE,
        Column("VolumeMode", priority=1),
    ),
    _volume,
)


def _storage_class(obj: JSON, now: dt.datetime) -> list[Any]:
    default = (meta(obj).get("annotations") or {}).get(DEFAULT_CLASS) == "true"
    return [
        f"{name(obj)} (default)" if default else name(obj),
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        age(obj, now),
    ]


STORAGE_CLASS = Printer(
    (
        NAME,
        Column("Provisioner"),
        Column("ReclaimPolicy"),
        Column("VolumeBindingMode"),
        Column("AllowVolumeExpansion", "boolean"),
        AGE,
    ),
    _storage_class,
)


def _lease(obj: JSON, now: dt.datetime) -> list[Any]:
    return [name(obj), spec(obj).get("holderIdentity") or "", age(obj, now)]


LEASE = Printer((NAME, Column("Holder"), AGE), _lease)


def _role(obj: JSON, _now: dt.datetime) -> list[Any]:
    return [name(obj), created_at(obj)]


ROLE = Printer((NAME, CREATED), _role)


def _binding(obj: JSON, now: dt.datetime) -> list[Any]:
    role = obj.get("roleRef") or {}
    by_kind: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.get("subjects") or []:
        who = subject.get("name", "")
        if subject.get("kind") == "ServiceAccount":
            who = f"{subject.get('namespace', '')}/{who}"
        by_kind.setdefault(subject.get("kind", ""), []).append(who)
    return [
        name(obj),
        f"{role.get('kind', '')}/{role.get('name', '')}",
        age(obj, now),
        ", ".join(by_kind["User"]),
        ", ".join(by_kind["Group"]),
        ", ".join(by_kind["ServiceAccount"]),
    ]


BINDING = Printer(
    (
        NAME,
        Column("Role"),
        AGE,
        Column("Users", priority=1),
        Column("Groups", priority=1),
        Column("ServiceAccounts", priority=1),
    ),
    _binding,
)


def _quantities(used: JSON, hard: JSON, keys: list[str]) -> str:
    return ", ".join(f"{k}: {used.get(k, 0)}/{hard[k]}" for k in keys)


def _quota(obj: JSON, now: dt.datetime) -> list[Any]:
    state = status(obj)
    hard, used = state.get("hard") or spec(obj).get("hard") or {}, state.get("used") or {}
    limits = sorted(k for k in hard if k.startswith("limits"))
    others = sorted(k for k in hard if not k.startswith("limits"))
    return [name(obj), age(obj, now), _quantities(used, hard, others), _quantities(used, hard, limits)]


QUOTA = Printer((NAME, AGE, Column("Request"), Column("Limit")), _quota)


def _priority_class(obj: JSON, now: dt.datetime) -> list[Any]:
    return [
        name(obj),
        obj.get("value", 0),
        bool(obj.get("globalDefault")),
        age(obj, now),
        obj.get("preemptionPolicy") or "PreemptLowerPriority",
    ]


PRIORITY_CLASS = Printer(
    (
        NAME,
        Column("Value", "integer"),
        Column("Global-Default", "boolean"),
        AGE,
        Column("PreemptionPolicy", priority=1),
    ),
    _priority_class,
)
