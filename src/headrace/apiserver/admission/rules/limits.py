"""Rules of ResourceQuotas and LimitRanges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import quantity
from headrace.apiserver.admission.rules import fields as f
from headrace.machinery import quota as counting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.api.errors import Cause

Json = dict[str, Any]
TYPES = ("Container", "PersistentVolumeClaim", "Pod")


def resource_quota(obj: Json) -> Iterator[Cause]:
    """A ResourceQuota; what nothing here counts is refused, so that no limit is only believed in."""
    spec = obj.get("spec") or {}
    hard = spec.get("hard") or {}
    yield from f.resource_list("spec.hard", hard)
    for name in hard:
        if not counting.kind_of(name):
            yield f.invalid("spec.hard", name, "must be a standard resource for quota")
    scopes = list(spec.get("scopes") or ())
    terms = (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    for i, scope in enumerate(scopes):
        if scope not in counting.SCOPES:
            yield f.unsupported(f"spec.scopes[{i}]", scope, counting.SCOPES)
    for i, term in enumerate(terms):
        where = f"spec.scopeSelector.matchExpressions[{i}]"
        if term.get("scopeName") not in counting.SCOPES:
            yield f.unsupported(f"{where}.scopeName", term.get("scopeName"), counting.SCOPES)
        operator, values = term.get("operator"), term.get("values")
        if operator in ("In", "NotIn"):
            if not values:
                yield f.required(f"{where}.values", "must be at least one value when `operator` is 'In' or 'NotIn'")
            if term.get("scopeName") != "PriorityClass":
                yield f.invalid(f"{where}.operator", operator, "must be 'Exists' for this scope")
        elif operator not in ("Exists", "DoesNotExist"):
            yield f.invalid(f"{where}.operator", operator, "not a valid selector operator")
    if scopes or terms:
        for name in hard:
            if counting.kind_of(name) not in ("pods", ""):
                yield f.invalid("spec.scopes", scopes, f"unsupported scope applied to resource {name}")


def resource_quota_update(new: Json, old: Json) -> Iterator[Cause]:
    """The scopes are fixed."""
    before, after = old.get("spec") or {}, new.get("spec") or {}
    if sorted(before.get("scopes") or ()) != sorted(after.get("scopes") or ()):
        yield f.immutable("spec.scopes", after.get("scopes"))


def limit_range(obj: Json) -> Iterator[Cause]:
    """A LimitRange."""
    seen: set[str] = set()
    for i, item in enumerate((obj.get("spec") or {}).get("limits") or ()):
        where, type_ = f"spec.limits[{i}]", item.get("type") or ""
        if type_ not in TYPES:
            yield f.unsupported(f"{where}.type", type_, TYPES)
        if type_ in seen:
            yield f.duplicate(f"{where}.type", type_)
        seen.add(type_)
        parts = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
        broken = [c for part in parts for c in f.resource_list(f"{where}.{part}", item.get(part))]
        yield from broken
        if type_ == "Pod":
            for part in ("default", "defaultRequest"):
                if item.get(part):
                    yield f.forbidden(f"{where}.{part}", "may not be specified when `type` is 'Pod'")
        if type_ == "PersistentVolumeClaim" and not any("storage" in (item.get(p) or {}) for p in ("min", "max")):
            yield f.required(
                f"{where}.limits", "either minimum or maximum storage value is required, but neither was provided"
            )
        if not broken:
            yield from _order(item, where)


def _order(item: Json, where: str) -> Iterator[Cause]:
    """Min <= defaultRequest <= default <= max."""
    chain = ("min", "defaultRequest", "default", "max")
    for i, low in enumerate(chain):
        for high in chain[i + 1 :]:
            for name, text in (item.get(low) or {}).items():
                above = (item.get(high) or {}).get(name)
                if above is not None and quantity.parse(text) > quantity.parse(above):
                    yield f.invalid(
                        f"{where}.{low}[{name}]", text, f"{low} value {text} is greater than {high} value {above}"
                    )
