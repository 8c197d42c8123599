"""Networking, policy, scheduling and autoscaling kinds, admission's configuration and API services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.apiserver.tables.base import (
    AGE,
    NAME,
    NONE,
    UNKNOWN,
    Column,
    Printer,
    age,
    name,
    selector_text,
    spec,
    status,
)

if TYPE_CHECKING:
    import datetime as dt

    from headrace.apiserver.tables.base import JSON


def _ingress(obj: JSON, now: dt.datetime) -> list[Any]:
    wanted = spec(obj)
    hosts = [r["host"] for r in wanted.get("rules") or [] if r.get("host")]
    shown = ",".join(hosts[:3]) + (f" + {len(hosts) - 3} more..." if len(hosts) > 3 else "")
    points = (status(obj).get("loadBalancer") or {}).get("ingress") or []
    return [
        name(obj),
        wanted.get("ingressClassName") or NONE,
        shown or "*",
        ",".join(p.get("ip") or p.get("hostname") or "" for p in points),
        "80, 443" if wanted.get("tls") else "80",
        age(obj, now),
    ]


INGRESS = Printer((NAME, Column("Class"), Column("Hosts"), Column("Address"), Column("Ports"), AGE), _ingress)


def _ingress_class(obj: JSON, now: dt.datetime) -> list[Any]:
    wanted = spec(obj)
    found = wanted.get("parameters")
    kind = f"{found.get('kind')}.{found['apiGroup']}" if found and found.get("apiGroup") else (found or {}).get("kind")
    parameters = f"{kind}/{found.get('name')}" if found else NONE
    return [name(obj), wanted.get("controller", ""), parameters, age(obj, now)]


INGRESS_CLASS = Printer((NAME, Column("Controller"), Column("Parameters"), AGE), _ingress_class)


def _network_policy(obj: JSON, now: dt.datetime) -> list[Any]:
    return [name(obj), selector_text(spec(obj).get("podSelector")), age(obj, now)]


NETWORK_POLICY = Printer((NAME, Column("Pod-Selector"), AGE), _network_policy)


def _disruption_budget(obj: JSON, now: dt.datetime) -> list[Any]:
    least, most = (spec(obj).get(key) for key in ("minAvailable", "maxUnavailable"))
    shown = ["N/A" if value is None else str(value) for value in (least, most)]
    return [name(obj), *shown, status(obj).get("disruptionsAllowed", 0), age(obj, now)]


DISRUPTION_BUDGET = Printer(
    (NAME, Column("Min Available"), Column("Max Unavailable"), Column("Allowed Disruptions", "integer"), AGE),
    _disruption_budget,
)


def _runtime_class(obj: JSON, now: dt.datetime) -> list[Any]:
    return [name(obj), obj.get("handler", ""), age(obj, now)]


RUNTIME_CLASS = Printer((NAME, Column("Handler"), AGE), _runtime_class)


SHOWN_TARGETS = 2


def _autoscaler(obj: JSON, now: dt.datetime) -> list[Any]:
    wanted = spec(obj)
    target = wanted.get("scaleTargetRef") or {}
    return [
        name(obj),
        f"{target.get('kind')}/{target.get('name')}",
        _targets([_metric(m, status(obj).get("currentMetrics") or []) for m in _metrics(wanted)]),
        str(wanted["minReplicas"]) if wanted.get("minReplicas") is not None else "<unset>",
        wanted.get("maxReplicas", 0),
        status(obj).get("currentReplicas", 0),
        age(obj, now),
    ]


def _metrics(wanted: JSON) -> list[JSON]:
    """Also those of `autoscaling/v1`, which knows one number."""
    percent = wanted.get("targetCPUUtilizationPercentage")
    if percent is None:
        return wanted.get("metrics") or []
    return [{"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": percent}}}]


def _targets(shown: list[str]) -> str:
    more = f" + {len(shown) - SHOWN_TARGETS} more..." if len(shown) > SHOWN_TARGETS else ""
    return ", ".join(shown[:SHOWN_TARGETS]) + more or NONE


def _about(source: JSON) -> tuple[Any, ...]:
    """What a metric is about: the same in its specification and in what was measured."""
    metric, described = source.get("metric") or {}, source.get("describedObject") or {}
    return (
        *(source.get(key) for key in ("name", "container")),
        *(metric.get(key) for key in ("name", "selector")),
        *(described.get(key) for key in ("kind", "name")),
    )


def _metric(metric: JSON, measured: list[JSON]) -> str:
    kind = str(metric.get("type") or "")
    field = kind[:1].lower() + kind[1:]
    source = metric.get(field) or {}
    target = source.get("target") or {}
    label = source.get("name")
    seen: list[JSON] = [m.get(field) or {} for m in measured if m.get("type") == kind]
    current: JSON = next((s.get("current") or {} for s in seen if _about(s) == _about(source)), {})
    if not label:  # Pods, Object and External metrics have no name here, as upstream
        each = target.get("averageValue")
        if each is None:
            return f"{current.get('value') or UNKNOWN}/{target.get('value') or UNKNOWN}"
        return f"{current.get('averageValue') or UNKNOWN}/{each}{'' if kind == 'Pods' else ' (avg)'}"
    if source.get("container"):
        label = f"{label}/{source['container']}"
    if target.get("averageUtilization") is not None:
        utilization = current.get("averageUtilization")
        now = UNKNOWN if utilization is None else f"{utilization}%"
        return f"{label}: {now}/{target['averageUtilization']}%"
    wanted = target.get("averageValue") or target.get("value") or UNKNOWN
    return f"{label}: {current.get('averageValue') or UNKNOWN}/{wanted}"


AUTOSCALER = Printer(
    (
        NAME,
        Column("Reference"),
        Column("Targets"),
        Column("MinPods"),
        Column("MaxPods", "integer"),
        Column("Replicas", "integer"),
        AGE,
    ),
    _autoscaler,
)


def _webhooks(obj: JSON, now: dt.datetime) -> list[Any]:
    return [name(obj), len(obj.get("webhooks") or ()), age(obj, now)]


WEBHOOKS = Printer((NAME, Column("Webhooks", "integer"), AGE), _webhooks)


def _admission_policy(obj: JSON, now: dt.datetime) -> list[Any]:
    wanted = spec(obj)
    kind = wanted.get("paramKind")
    shown = f"{kind.get('apiVersion')}/{kind.get('kind')}" if kind else "<unset>"
    return [name(obj), len(wanted.get("validations") or ()), shown, age(obj, now)]


ADMISSION_POLICY = Printer((NAME, Column("Validations", "integer"), Column("ParamKind"), AGE), _admission_policy)


def _admission_binding(obj: JSON, now: dt.datetime) -> list[Any]:
    wanted = spec(obj)
    reference = wanted.get("paramRef")
    shown = "<unset>"
    if reference:
        where = reference.get("namespace") or ""
        chosen = reference.get("name") or selector_text(reference.get("selector"))
        shown = f"{where}/{chosen}" if where else str(chosen)
    return [name(obj), wanted.get("policyName", ""), shown, age(obj, now)]


ADMISSION_BINDING = Printer((NAME, Column("PolicyName"), Column("ParamRef"), AGE), _admission_binding)


def _api_service(obj: JSON, now: dt.datetime) -> list[Any]:
    service = spec(obj).get("service")
    shown = f"{service.get('namespace')}/{service.get('name')}" if service else "Local"
    found: JSON = next((c for c in status(obj).get("conditions") or () if c.get("type") == "Available"), {})
    state = str(found.get("status") or "Unknown")
    if state != "True" and found.get("reason"):
        state = f"{state} ({found['reason']})"
    return [name(obj), shown, state, age(obj, now)]


API_SERVICE = Printer(
    (
        NAME,
        Column("Service", description="The reference to the service that hosts this API endpoint."),
        Column("Available", description="Whether this service is available."),
        AGE,
    ),
    _api_service,
)
