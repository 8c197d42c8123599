"""Taints and tolerations, as pure functions (upstream: component-helpers/scheduling, pkg/controller/tainteviction)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Json = dict[str, Any]


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Whether a toleration is for this taint; an empty key, with Exists, is for every taint."""
    if toleration.get("effect") not in {None, "", taint.get("effect")}:
        return False
    key, exists = toleration.get("key") or "", toleration.get("operator") == "Exists"
    if not key:
        return exists
    return key == taint.get("key") and (exists or (toleration.get("value") or "") == (taint.get("value") or ""))


def untolerated(tolerations: Iterable[Json], taints: Iterable[Json], effects: Iterable[str]) -> list[Json]:
    """The taints of these effects that nothing tolerates."""
    held, of = list(tolerations), set(effects)
    return [t for t in taints if t.get("effect") in of and not any(tolerates(one, t) for one in held)]


def no_execute(taints: Iterable[Json]) -> list[Json]:
    """The taints that pods must leave for."""
    return [t for t in taints if t.get("effect") == "NoExecute"]


def grace(tolerations: Iterable[Json], taints: Iterable[Json]) -> float | None:
    """Seconds that a pod may stay on a node with these NoExecute taints; None for ever."""
    held, shortest = list(tolerations), None
    for taint in taints:
        matching = [one for one in held if tolerates(one, taint)]
        if not matching:
            return 0.0
        for one in matching:
            seconds = one.get("tolerationSeconds")
            if seconds is not None:
                shortest = min(max(float(seconds), 0.0), shortest if shortest is not None else float("inf"))
    return shortest
