"""Required affinity and anti-affinity between pods. With one node every topology is the same place: what matters
is whether a matching pod is here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.meta import LabelSelector

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.api.core import Pod

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def reasons(pod: Pod, others: Sequence[Pod]) -> list[str]:
    """In the scheduler's words, why the pod may not be beside these pods; empty when it may."""
    found = []
    for term in _terms(pod, "podAffinity"):
        here = any(_selects(term, pod, other) for other in others)
        # The first pod of a group that wants to be together may come alone.
        if not here and not _selects(term, pod, pod):
            found.append("node(s) didn't match pod affinity rules")
            break
    if any(_selects(term, pod, other) for term in _terms(pod, "podAntiAffinity") for other in others):
        found.append("node(s) didn't match pod anti-affinity rules")
    if any(_selects(term, other, pod) for other in others for term in _terms(other, "podAntiAffinity")):
        found.append("node(s) didn't satisfy existing pods anti-affinity rules")
    return found


def _terms(pod: Pod, kind: str) -> list[dict[str, Any]]:
    rules: dict[str, Any] = (pod.spec.affinity or {}).get(kind) or {}
    return rules.get(_REQUIRED) or []


def _selects(term: Mapping[str, Any], owner: Pod, other: Pod) -> bool:
    namespaces = term.get("namespaces") or [owner.metadata.namespace]
    if term.get("namespaceSelector") is None and other.metadata.namespace not in namespaces:
        return False
    selector = term.get("labelSelector")
    return selector is not None and _wire.convert(LabelSelector, selector).matches(other.metadata.labels)
