"""Built-in kinds that are served in more than one version, and how one becomes the other.

Every request in an older version is answered from the same objects; what that version has no field for stands in
annotations, as upstream, so that a client that reads and writes it loses nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.autoscaling import V1, HorizontalPodAutoscaler
from headrace.api.core import EVENTS_V1, Event
from headrace.apiserver.registry.kinds import Conversion

if TYPE_CHECKING:
    from headrace.api.meta import KindInfo

Json = dict[str, Any]

PREFIX = "autoscaling.alpha.kubernetes.io/"
METRICS, BEHAVIOR = PREFIX + "metrics", PREFIX + "behavior"
CURRENT, CONDITIONS = PREFIX + "current-metrics", PREFIX + "conditions"


def autoscaler_to_v1(obj: Json) -> Json:
    """An `autoscaling/v2` autoscaler as `autoscaling/v1` shows it."""
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    notes = dict(obj["metadata"].get("annotations") or {})
    metrics = list(spec.pop("metrics", None) or ())
    cpu = next((m for m in metrics if _is_cpu(m)), None)
    if cpu is not None:
        metrics.remove(cpu)
        spec["targetCPUUtilizationPercentage"] = cpu["resource"]["target"]["averageUtilization"]
    current = list(status.pop("currentMetrics", None) or ())
    used = next((m for m in current if (m.get("resource") or {}).get("name") == "cpu"), None)
    if used is not None and used["resource"]["current"].get("averageUtilization") is not None:
        status["currentCPUUtilizationPercentage"] = used["resource"]["current"]["averageUtilization"]
    kept = {
        METRICS: [_old(m, "target") for m in metrics],
        BEHAVIOR: spec.pop("behavior", None),
        CURRENT: [_old(m, "current") for m in current],
        CONDITIONS: status.pop("conditions", None),
    }
    notes |= {key: _wire.encode(value).decode() for key, value in kept.items() if value}
    return {**_with_notes(obj, notes), "spec": spec, "status": status}


def autoscaler_from_v1(obj: Json) -> Json:
    """The reverse; annotations that are not JSON are dropped."""
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    notes = dict(obj["metadata"].get("annotations") or {})
    metrics = [_new(m, "target") for m in _kept(notes, METRICS, list)]
    percent = spec.pop("targetCPUUtilizationPercentage", None)
    if percent is not None:
        target = {"type": "Utilization", "averageUtilization": percent}
        metrics.insert(0, {"type": "Resource", "resource": {"name": "cpu", "target": target}})
    if metrics:
        spec["metrics"] = metrics
    behavior = _kept(notes, BEHAVIOR, dict)
    if behavior:
        spec["behavior"] = behavior
    current = [_new(m, "current") for m in _kept(notes, CURRENT, list)]
    conditions = _kept(notes, CONDITIONS, list)
    status.pop("currentCPUUtilizationPercentage", None)
    if current:
        status["currentMetrics"] = current
    if conditions:
        status["conditions"] = conditions
    return {**_with_notes(obj, notes), "spec": spec, "status": status}


def _is_cpu(metric: Json) -> bool:
    source = metric.get("resource") or {}
    return source.get("name") == "cpu" and (source.get("target") or {}).get("averageUtilization") is not None


def _with_notes(obj: Json, notes: Json) -> Json:
    meta = {k: v for k, v in obj["metadata"].items() if k != "annotations"}
    if notes:
        meta["annotations"] = notes
    return {**obj, "metadata": meta}


def _kept(notes: Json, key: str, wanted: type[Any]) -> Any:
    try:
        found = _wire.decode_any(notes.pop(key, "null").encode())
    except _wire.DecodeError:
        found = None
    return found if isinstance(found, wanted) else wanted()


def _field(metric: Json) -> str:
    type_ = str(metric.get("type") or "")
    return type_[:1].lower() + type_[1:]


def _capital(prefix: str, name: str) -> str:
    return prefix + name[:1].upper() + name[1:]


def _old(metric: Json, amount: str) -> Json:
    """A metric with its amounts beside its name, as before v2: `targetAverageUtilization`."""
    field = _field(metric)
    source = dict(metric.get(field) or {})
    amounts = dict(source.pop(amount, None) or {})
    amounts.pop("type", None)
    if "metric" in source:
        source["metricName"] = source["metric"].get("name", "")
        if source["metric"].get("selector"):
            source["selector" if field != "external" else "metricSelector"] = source["metric"]["selector"]
        del source["metric"]
    if field == "object" and "describedObject" in source:
        source["target"] = source.pop("describedObject")
        amounts = {("averageValue" if k == "averageValue" else _capital(amount, k)): v for k, v in amounts.items()}
    else:
        amounts = {_capital(amount, k): v for k, v in amounts.items()}
    return {"type": metric.get("type"), field: {**source, **amounts}}


def _new(metric: Any, amount: str) -> Json:
    """The reverse of `_old`."""
    if not isinstance(metric, dict):
        return {}
    field = _field(metric)
    source = dict(metric.get(field) or {})
    amounts: Json = {}
    if field == "object" and isinstance(source.get("target"), dict):
        source["describedObject"] = source.pop("target")
        if "averageValue" in source:
            amounts["averageValue"] = source.pop("averageValue")
    for key in [k for k in source if re.fullmatch(f"{amount}(AverageUtilization|AverageValue|Value)", k)]:
        name = key.removeprefix(amount)
        amounts[name[:1].lower() + name[1:]] = source.pop(key)
    if "metricName" in source:
        source["metric"] = {"name": source.pop("metricName")}
        selector = source.pop("metricSelector" if field == "external" else "selector", None)
        if selector:
            source["metric"]["selector"] = selector
    if amount == "target":
        kinds = {"averageUtilization": "Utilization", "averageValue": "AverageValue", "value": "Value"}
        amounts = {"type": next((kinds[k] for k in kinds if k in amounts), ""), **amounts}
    return {"type": metric.get("type"), field: {**source, amount: amounts}}


_EVENT_FIELDS = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}


def event_to_core(obj: Json) -> Json:
    """An `events.k8s.io/v1` Event as `v1` keeps it."""
    return {_EVENT_FIELDS.get(key, key): value for key, value in obj.items()}


def event_from_core(obj: Json) -> Json:
    """The reverse."""
    back = {old: new for new, old in _EVENT_FIELDS.items()}
    return {back.get(key, key): value for key, value in obj.items()}


CONVERTED: dict[KindInfo, Conversion] = {
    EVENTS_V1: Conversion(Event.INFO, event_to_core, event_from_core),
    V1: Conversion(HorizontalPodAutoscaler.INFO, autoscaler_from_v1, autoscaler_to_v1),
}
