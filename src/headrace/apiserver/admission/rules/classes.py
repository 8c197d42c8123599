"""Rules of networking, policy, scheduling and autoscaling kinds."""

from __future__ import annotations

import contextlib
import ipaddress
from typing import TYPE_CHECKING, Any

from headrace.apiserver.admission.rules import fields as f

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.api.errors import Cause

Json = dict[str, Any]
HIGHEST_PRIORITY = 1_000_000_000
SYSTEM_PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
LONGEST_WINDOW, LONGEST_PERIOD = 3600, 1800
ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
MOST_ENDPOINTS, MOST_ADDRESSES, MOST_PORTS = 1000, 100, 20000
PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")


def ingress(obj: Json) -> Iterator[Cause]:
    """An Ingress."""
    spec = obj.get("spec") or {}
    rules = spec.get("rules") or ()
    if not rules and not spec.get("defaultBackend"):
        yield f.invalid("spec", "{}", "either `defaultBackend` or `rules` must be specified")
    if spec.get("defaultBackend"):
        yield from _backend(spec["defaultBackend"], "spec.defaultBackend")
    for i, rule in enumerate(rules):
        host = rule.get("host") or ""
        if host and not f.SUBDOMAIN.fullmatch(host.removeprefix("*.")):
            yield f.invalid(f"spec.rules[{i}].host", host, "must be a DNS name or a wildcard such as *.example.com")
        paths = (rule.get("http") or {}).get("paths")
        if "http" in rule and not paths:
            yield f.required(f"spec.rules[{i}].http.paths")
        for j, path in enumerate(paths or ()):
            where = f"spec.rules[{i}].http.paths[{j}]"
            if not path.get("pathType"):
                yield f.required(f"{where}.pathType", "pathType must be specified")
            elif path["pathType"] not in PATH_TYPES:
                yield f.unsupported(f"{where}.pathType", path["pathType"], PATH_TYPES)
            text = path.get("path") or ""
            if not text.startswith("/") and (text or path.get("pathType") in ("Exact", "Prefix")):
                yield f.invalid(f"{where}.path", text, "must be an absolute path")
            yield from _backend(path.get("backend") or {}, f"{where}.backend")


def _backend(backend: Json, where: str) -> Iterator[Cause]:
    service, resource = backend.get("service"), backend.get("resource")
    if bool(service) == bool(resource):
        yield f.invalid(where, "", "exactly one of service and resource backends must be specified")
    if not service:
        return
    if not service.get("name"):
        yield f.required(f"{where}.service.name")
    port = service.get("port") or {}
    if bool(port.get("name")) == bool(port.get("number")):
        yield f.required(f"{where}.service.port", "exactly one of port name and port number is required")
    elif port.get("number"):
        yield from f.port(f"{where}.service.port.number", port["number"])


def ingress_class(obj: Json) -> Iterator[Cause]:
    """An IngressClass."""
    spec = obj.get("spec") or {}
    if not spec.get("controller"):
        yield f.required("spec.controller")


def ingress_class_update(new: Json, old: Json) -> Iterator[Cause]:
    """The controller is fixed."""
    before, after = ((o.get("spec") or {}).get("controller") for o in (old, new))
    if before != after:
        yield f.immutable("spec.controller", after)


def network_policy(obj: Json) -> Iterator[Cause]:
    """A NetworkPolicy."""
    spec = obj.get("spec") or {}
    yield from f.label_selector("spec.podSelector", spec.get("podSelector") or {})
    for i, type_ in enumerate(spec.get("policyTypes") or ()):
        if type_ not in ("Ingress", "Egress"):
            yield f.unsupported(f"spec.policyTypes[{i}]", type_, ("Ingress", "Egress"))
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for i, rule in enumerate(spec.get(direction) or ()):
            for j, peer in enumerate(rule.get(side) or ()):
                yield from _peer(peer, f"spec.{direction}[{i}].{side}[{j}]")


def _peer(peer: Json, where: str) -> Iterator[Cause]:
    if not peer:
        yield f.required(where, "must specify a peer")
    for key in ("podSelector", "namespaceSelector"):
        yield from f.label_selector(f"{where}.{key}", peer.get(key) or {})
    block = peer.get("ipBlock")
    if block is None:
        return
    if len(peer) > 1:
        yield f.forbidden(where, "may not specify both ipBlock and another peer")
    for key, value in (("cidr", block.get("cidr")), *(("except", e) for e in block.get("except") or ())):
        try:
            ipaddress.ip_network(value or "", strict=False)
        except ValueError:
            yield f.invalid(f"{where}.ipBlock.{key}", value, "must be a valid CIDR value, (e.g. 10.9.8.0/24)")


def disruption_budget(obj: Json) -> Iterator[Cause]:
    """A PodDisruptionBudget."""
    spec = obj.get("spec") or {}
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        yield f.invalid("spec", "{}", "minAvailable and maxUnavailable cannot be both set")
    for key in ("minAvailable", "maxUnavailable"):
        value = spec.get(key)
        if not isinstance(value, str):
            yield from f.non_negative(f"spec.{key}", value)
        elif not value.endswith("%") or not value[:-1].isdecimal() or int(value[:-1]) > 100:
            yield f.invalid(f"spec.{key}", value, "must be an integer or a percentage from 0% to 100%")
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy not in (None, "AlwaysAllow", "IfHealthyBudget"):
        yield f.unsupported("spec.unhealthyPodEvictionPolicy", policy, ("AlwaysAllow", "IfHealthyBudget"))
    yield from f.label_selector("spec.selector", spec.get("selector") or {})


def priority_class(obj: Json) -> Iterator[Cause]:
    """A PriorityClass."""
    name, value = obj["metadata"].get("name") or "", obj.get("value") or 0
    if name.startswith("system-"):
        if SYSTEM_PRIORITIES.get(name) != value:
            why = "priority class names with 'system-' prefix are reserved for system use only"
            yield f.forbidden("metadata.name", why)
    elif value > HIGHEST_PRIORITY:
        why = f"maximum allowed value of a user defined priority is {HIGHEST_PRIORITY}"
        yield f.forbidden("value", why)
    policy = obj.get("preemptionPolicy")
    if policy not in (None, "", "Never", "PreemptLowerPriority"):
        yield f.unsupported("preemptionPolicy", policy, ("Never", "PreemptLowerPriority"))


def priority_class_update(new: Json, old: Json) -> Iterator[Cause]:
    """Value and preemption are fixed."""
    for key in ("value", "preemptionPolicy"):
        if new.get(key) != old.get(key):
            yield f.forbidden(key, "may not be changed in an update.")


def runtime_class(obj: Json) -> Iterator[Cause]:
    """A RuntimeClass."""
    if not obj.get("handler"):
        yield f.required("handler")
    else:
        yield from f.dns_label("handler", obj["handler"])


def runtime_class_update(new: Json, old: Json) -> Iterator[Cause]:
    """The handler is fixed."""
    if new.get("handler") != old.get("handler"):
        yield f.immutable("handler", new.get("handler"))


def autoscaler(obj: Json) -> Iterator[Cause]:
    """A HorizontalPodAutoscaler."""
    spec = obj.get("spec") or {}
    target = spec.get("scaleTargetRef") or {}
    for key in ("kind", "name"):
        if not target.get(key):
            yield f.required(f"spec.scaleTargetRef.{key}")
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas") or 0
    if least < 1:
        yield f.invalid("spec.minReplicas", least, "must be greater than or equal to 1")
    if most < 1:
        yield f.invalid("spec.maxReplicas", most, "must be greater than 0")
    elif most < least:
        yield f.invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")
    sources = {
        "ContainerResource": "containerResource",
        "External": "external",
        "Object": "object",
        "Pods": "pods",
        "Resource": "resource",
    }
    for i, metric in enumerate(spec.get("metrics") or ()):
        field = sources.get(metric.get("type") or "")
        if field is None:
            yield f.unsupported(f"spec.metrics[{i}].type", metric.get("type"), sources)
        elif not metric.get(field):
            yield f.required(f"spec.metrics[{i}].{field}", "must populate information for the given metric source")
        else:
            yield from _metric(metric[field], f"spec.metrics[{i}].{field}", metric["type"])
    for key, rules in (spec.get("behavior") or {}).items():
        yield from _scaling(rules, f"spec.behavior.{key}")


def _metric(source: Json, where: str, type_: str) -> Iterator[Cause]:
    target = source.get("target") or {}
    yield from f.one_of(f"{where}.target.type", target.get("type"), ("AverageValue", "Utilization", "Value"))
    for key in ("averageUtilization", "averageValue", "value"):
        amount = target.get(key)
        if isinstance(amount, int) and not isinstance(amount, bool) and amount < 1:
            yield f.invalid(f"{where}.target.{key}", amount, "must be greater than 0")
    if type_ not in ("ContainerResource", "Resource"):
        return
    if not source.get("name"):
        yield f.required(f"{where}.name", "must specify a resource name")
    if type_ == "ContainerResource" and not source.get("container"):
        yield f.required(f"{where}.container", "must specify a container")
    utilization, average = target.get("averageUtilization"), target.get("averageValue")
    if utilization is None and average is None:
        yield f.required(
            f"{where}.target.averageUtilization", "must set either a target raw value or a target utilization"
        )
    elif utilization is not None and average is not None:
        why = "may not set both a target raw value and a target utilization"
        yield f.forbidden(f"{where}.target.averageValue", why)


def _scaling(rules: Json, where: str) -> Iterator[Cause]:
    seconds = rules.get("stabilizationWindowSeconds")
    yield from f.non_negative(f"{where}.stabilizationWindowSeconds", seconds)
    if isinstance(seconds, int) and seconds > LONGEST_WINDOW:
        yield f.invalid(
            f"{where}.stabilizationWindowSeconds", seconds, f"must be less than or equal to {LONGEST_WINDOW}"
        )
    if rules.get("selectPolicy"):
        yield from f.one_of(f"{where}.selectPolicy", rules["selectPolicy"], ("Disabled", "Max", "Min"))
    if not rules.get("policies"):
        yield f.required(f"{where}.policies", "must specify at least one Policy")
    for i, policy in enumerate(rules.get("policies") or ()):
        at = f"{where}.policies[{i}]"
        yield from f.one_of(f"{at}.type", policy.get("type"), ("Percent", "Pods"))
        for key, most in (("value", None), ("periodSeconds", LONGEST_PERIOD)):
            number = policy.get(key) or 0
            if number < 1:
                yield f.invalid(f"{at}.{key}", number, "must be greater than zero")
            elif most is not None and number > most:
                yield f.invalid(f"{at}.{key}", number, f"must be less than or equal to {most}")


def endpoint_slice(obj: Json) -> Iterator[Cause]:
    """An EndpointSlice."""
    kind = obj.get("addressType")
    yield from f.one_of("addressType", kind, ADDRESS_TYPES)
    endpoints, ports = obj.get("endpoints") or [], obj.get("ports") or []
    if len(endpoints) > MOST_ENDPOINTS:
        yield f.too_many("endpoints", len(endpoints), MOST_ENDPOINTS)
    for i, endpoint in enumerate(endpoints):
        addresses = endpoint.get("addresses") or []
        if not addresses:
            yield f.required(f"endpoints[{i}].addresses", "must contain at least 1 address")
        elif len(addresses) > MOST_ADDRESSES:
            yield f.too_many(f"endpoints[{i}].addresses", len(addresses), MOST_ADDRESSES)
        for j, address in enumerate(addresses):
            yield from _address(f"endpoints[{i}].addresses[{j}]", address, kind)
        if endpoint.get("hostname"):
            yield from f.dns_label(f"endpoints[{i}].hostname", endpoint["hostname"])
    names: set[str] = set()
    if len(ports) > MOST_PORTS:
        yield f.too_many("ports", len(ports), MOST_PORTS)
    for i, port in enumerate(ports):
        name = port.get("name") or ""
        if name in names:
            yield f.duplicate(f"ports[{i}].name", name)
        elif name:
            yield from f.dns_label(f"ports[{i}].name", name)
        names.add(name)
        yield from f.one_of(f"ports[{i}].protocol", port.get("protocol"), ("SCTP", "TCP", "UDP"))
        if port.get("port") is not None:
            yield from f.port(f"ports[{i}].port", port["port"])


def _address(where: str, address: str, kind: Any) -> Iterator[Cause]:
    if kind == "FQDN":
        if not f.SUBDOMAIN.fullmatch(address):
            yield f.invalid(where, address, "must be a DNS name")
        return
    version = 0
    with contextlib.suppress(ValueError):
        version = ipaddress.ip_address(address).version
    if kind in ("IPv4", "IPv6") and f"IPv{version}" != kind:
        yield f.invalid(where, address, f"must be an {kind} address")


def endpoint_slice_update(new: Json, old: Json) -> Iterator[Cause]:
    """The type of addresses is fixed."""
    if new.get("addressType") != old.get("addressType"):
        yield f.immutable("addressType", new.get("addressType"))
