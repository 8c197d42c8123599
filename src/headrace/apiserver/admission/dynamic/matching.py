"""Which requests a webhook or a policy is about: rules, selectors, equivalent versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api.admissionregistration import GROUP
from headrace.api.core import Namespace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.api.meta import KindInfo
    from headrace.apiserver.admission.dynamic.attempt import Attempt
    from headrace.apiserver.admission.lookup import Lookup

Json = dict[str, Any]


def exempt(attempt: Attempt) -> bool:
    """Admission's own configuration is never subject to it: a faulty one could not be repaired."""
    return attempt.info.group == GROUP


def matched(
    where: Json, rules: Iterable[Json], attempt: Attempt, versions: Iterable[KindInfo], lookup: Lookup
) -> KindInfo | None:
    """The version in which the request is matched, None when it is not meant. `where` has the selectors."""
    found = _by_rules(rules, attempt, versions, where.get("matchPolicy") or "Equivalent")
    if found is None or not selected(where.get("objectSelector"), attempt):
        return None
    return found if in_namespaces(where.get("namespaceSelector"), attempt, lookup) else None


def _by_rules(rules: Iterable[Json], attempt: Attempt, versions: Iterable[KindInfo], policy: str) -> KindInfo | None:
    listed = list(rules)
    if any(rule_matches(r, attempt, attempt.info) for r in listed):
        return attempt.info
    if policy == "Exact":
        return None
    for info in versions:
        if info != attempt.info and any(rule_matches(r, attempt, info) for r in listed):
            return info
    return None


def rule_matches(rule: Json, attempt: Attempt, info: KindInfo) -> bool:
    """Whether one rule names the request, made in this version."""
    names = rule.get("resourceNames")
    return (
        _has(rule.get("operations"), attempt.operation)
        and _has(rule.get("apiGroups"), info.group)
        and _has(rule.get("apiVersions"), info.version)
        and _in_scope(rule.get("scope") or "*", info)
        and any(_resource_matches(r, info.plural, attempt.subresource) for r in rule.get("resources") or ())
        and (not names or attempt.name in names)
    )


def _has(allowed: Any, wanted: str) -> bool:
    return any(a in {"*", wanted} for a in allowed or ())


def _in_scope(scope: str, info: KindInfo) -> bool:
    if scope == "*":
        return True
    return (scope == "Namespaced") == (info.namespaced and not (info.kind == "Namespace" and not info.group))


def _resource_matches(pattern: str, plural: str, part: str) -> bool:
    resource, _, wanted = pattern.partition("/")
    return resource in {"*", plural} and (wanted in {"*", part} if part else wanted in {"", "*"})


def selected(selector: Json | None, attempt: Attempt) -> bool:
    """Whether the new or the old object has the labels."""
    if not selector:
        return True
    objects = [o for o in (attempt.obj, attempt.old) if o is not None]
    return any(labels_match(selector, (o.get("metadata") or {}).get("labels") or {}) for o in objects)


def in_namespaces(selector: Json | None, attempt: Attempt, lookup: Lookup) -> bool:
    """Whether the object's namespace has the labels; what is in none always counts."""
    if not selector:
        return True
    found = namespace_of(attempt, lookup)
    return found is None or labels_match(selector, (found.get("metadata") or {}).get("labels") or {})


def namespace_of(attempt: Attempt, lookup: Lookup) -> Json | None:
    """The namespace that the request is about, as it is or is going to be."""
    info = attempt.info
    if info.kind == "Namespace" and not info.group:
        return attempt.obj or attempt.old
    if not info.namespaced:
        return None
    return lookup.get(Namespace.INFO, "", attempt.namespace) or {"metadata": {"name": attempt.namespace}}


def labels_match(selector: Json, labels: Json) -> bool:
    """A metav1.LabelSelector, as plain JSON."""
    if any(labels.get(k) != v for k, v in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(r, labels) for r in selector.get("matchExpressions") or ())


def _holds(requirement: Json, labels: Json) -> bool:
    key, values = str(requirement.get("key")), requirement.get("values") or ()
    match requirement.get("operator"):
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels
