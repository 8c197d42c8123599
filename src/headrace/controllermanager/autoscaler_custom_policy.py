"""Metrics of other metrics APIs, as pure functions: what is asked for, what the answer says, and the replicas that it
asks for (upstream: podautoscaler/replica_calculator.go, k8s.io/metrics). Amounts are in thousandths.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from headrace.controllermanager.autoscaler_metrics_policy import TOLERANCE, Sample, Unmeasured, amount_of
from headrace.controllermanager.pods import ready_condition

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.api.core import Pod

Json = dict[str, Any]

CUSTOM, EXTERNAL = "custom.metrics.k8s.io", "external.metrics.k8s.io"
VERSIONS = {CUSTOM: ("v1beta2", "v1beta1"), EXTERNAL: ("v1beta1",)}
"""That are understood, as they are preferred."""
_OPERATORS = {"In": "in", "NotIn": "notin"}


def selector_text(selector: Json | None) -> str:
    """A metav1.LabelSelector as the text of a query parameter."""
    terms = [f"{key}={value}" for key, value in ((selector or {}).get("matchLabels") or {}).items()]
    for one in (selector or {}).get("matchExpressions") or ():
        key, operator = str(one.get("key")), str(one.get("operator"))
        if operator in _OPERATORS:
            terms.append(f"{key} {_OPERATORS[operator]} ({','.join(sorted(one.get('values') or ()))})")
        else:
            terms.append(key if operator == "Exists" else f"!{key}")
    return ",".join(sorted(terms))


def pods_path(version: str, namespace: str, metric: Json, pods: str) -> str:
    """A metric of the pods that a selector takes."""
    asked = {"labelSelector": pods, "metricLabelSelector": selector_text(metric.get("selector"))}
    return f"{_base(CUSTOM, version, namespace)}/pods/*/{_part(metric['name'])}{_query(asked)}"


def object_path(version: str, namespace: str, metric: Json, resource: str, name: str) -> str:
    """A metric of one object; `resource` is `plural.group`. A Namespace is asked about by itself."""
    base, asked = (
        _base(CUSTOM, version, namespace),
        _query({"metricLabelSelector": selector_text(metric.get("selector"))}),
    )
    if resource == "namespaces":
        return f"{base}/metrics/{_part(metric['name'])}{asked}"
    return f"{base}/{_part(resource)}/{_part(name)}/{_part(metric['name'])}{asked}"


def external_path(version: str, namespace: str, metric: Json) -> str:
    """A metric of something outside of the cluster."""
    asked = _query({"labelSelector": selector_text(metric.get("selector"))})
    return f"{_base(EXTERNAL, version, namespace)}/{_part(metric['name'])}{asked}"


def _base(group: str, version: str, namespace: str) -> str:
    return f"/apis/{group}/{version}/namespaces/{_part(namespace)}"


def _part(text: Any) -> str:
    return quote(str(text), safe="")


def _query(parameters: dict[str, str]) -> str:
    given = {key: value for key, value in parameters.items() if value}
    return f"?{urlencode(given)}" if given else ""


def samples(answer: Json, pods: Sequence[Pod]) -> dict[str, tuple[Sample, ...]]:
    """A MetricValueList about pods: amounts by uid, each under an empty name. Raises Unmeasured."""
    uids = {pod.metadata.name: pod.metadata.uid for pod in pods}
    found: dict[str, tuple[Sample, ...]] = {}
    items = _items(answer)
    if not items:
        raise Unmeasured("unable to fetch metrics from custom metrics API: no metrics returned from custom metrics API")
    for item in items:
        name = (item.get("describedObject") or {}).get("name")
        if name in uids:
            found[uids[name]] = (Sample("", {"": _amount(item)}),)
    return found


def one(answer: Json) -> int:
    """The amount in a MetricValueList about one object. Raises Unmeasured."""
    items = _items(answer)
    if len(items) != 1:
        raise Unmeasured(f"the custom metrics API server returned {len(items)} results when we asked for exactly one")
    return _amount(items[0])


def total(answer: Json) -> int:
    """The sum of an ExternalMetricValueList. Raises Unmeasured."""
    items = _items(answer)
    if not items:
        raise Unmeasured("no metrics returned from external metrics API")
    return sum(_amount(item) for item in items)


def _items(answer: Json) -> list[Json]:
    items = answer.get("items") or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Unmeasured("the answer is no list of metric values")
    return items


def _amount(item: Json) -> int:
    try:
        return amount_of(item.get("value") or 0)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise Unmeasured(f"the value {item.get('value')!r} is no quantity") from error


def by_value(current: int, amount: int, target: int, pods: Iterable[Pod]) -> int:
    """Replicas so that the amount comes to the target, from those that are ready. Raises Unmeasured."""
    ratio = amount / max(target, 1)
    if current == 0:
        return math.ceil(ratio)
    if abs(1.0 - ratio) <= TOLERANCE:
        return current
    every = list(pods)
    if not every:
        raise Unmeasured("unable to calculate ready pods: no pods returned by selector while calculating replica count")
    ready = sum(1 for p in every if p.status.phase == "Running" and (c := ready_condition(p)) and c.status == "True")
    return math.ceil(ratio * ready)


def by_average(current: int, amount: int, target: int) -> tuple[int, int]:
    """Replicas so that the amount comes to the target for each of them, and what it is for each now."""
    replicas, wanted = current, max(target, 1)
    if current == 0 or abs(1.0 - amount / (wanted * current)) > TOLERANCE:
        replicas = math.ceil(amount / wanted)
    return replicas, math.ceil(amount / max(current, 1))
