"""How many pods of a budget may be evicted now, as pure functions (upstream: pkg/controller/disruption)."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.meta import LabelSelector
from headrace.controllermanager import pods

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.api.core import Pod

Json = dict[str, Any]

DELETION_TIMEOUT = dt.timedelta(minutes=2)
"""An evicted pod that is still there by then is taken to stay."""
ALLOWED = "DisruptionAllowed"


@dataclass(frozen=True, slots=True)
class Expected:
    """How many pods there should be, and how many of them healthy."""

    pods: int
    healthy: int


def selects(spec: Json, labels: dict[str, str]) -> bool:
    """Whether the budget is for a pod with these labels: an empty selector takes all, none takes none."""
    selector = spec.get("selector")
    return selector is not None and _wire.convert(LabelSelector, selector).matches(labels)


def needs_scale(spec: Json) -> bool:
    """Whether the budget counts against the sizes of what controls the pods."""
    return spec.get("maxUnavailable") is not None or isinstance(spec.get("minAvailable"), str)


def expected(spec: Json, found: int, scale: int) -> Expected:
    """What a budget expects of `found` pods whose controllers want `scale`."""
    most, least = spec.get("maxUnavailable"), spec.get("minAvailable")
    if most is not None:
        return Expected(scale, max(scale - _scaled(most, scale), 0))
    if isinstance(least, str):
        return Expected(scale, _scaled(least, scale))
    return Expected(found, least or 0)


def _scaled(value: int | str, total: int) -> int:
    return value if isinstance(value, int) else math.ceil(int(value.removesuffix("%")) * total / 100)


def still_disrupted(status: Json, found: Iterable[Pod], now: dt.datetime) -> dict[str, dt.datetime]:
    """The pods that were evicted lately and have not been deleted yet."""
    begun: dict[str, dt.datetime] = {}
    for pod in found:
        moment = (status.get("disruptedPods") or {}).get(pod.metadata.name)
        if moment is None or pod.metadata.deletion_timestamp is not None:
            continue
        since = dt.datetime.fromisoformat(moment)
        if now < since + DELETION_TIMEOUT:
            begun[pod.metadata.name] = since
    return begun


def healthy(found: Iterable[Pod], disrupted: Iterable[str]) -> int:
    """How many of the pods are ready and stay."""
    leaving = set(disrupted)
    return sum(
        pod.metadata.deletion_timestamp is None and pod.metadata.name not in leaving and pods.ready(pod)
        for pod in found
    )


def status(wanted: Expected, now_healthy: int, disrupted: dict[str, dt.datetime], generation: int) -> Json:
    """The new status, without conditions."""
    allowed = now_healthy - wanted.healthy if wanted.pods > 0 else 0
    out: Json = {
        "observedGeneration": generation,
        "disruptionsAllowed": max(allowed, 0),
        "currentHealthy": now_healthy,
        "desiredHealthy": wanted.healthy,
        "expectedPods": wanted.pods,
    }
    if disrupted:
        out["disruptedPods"] = {name: _text(moment) for name, moment in sorted(disrupted.items())}
    return out


def condition(allowed: int, generation: int, before: list[Json], now: dt.datetime, failure: str = "") -> list[Json]:
    """The conditions with DisruptionAllowed as it is now; its time moves when its status does."""
    if failure:
        state, reason = "False", "SyncFailed"
    else:
        state, reason = ("True", "SufficientPods") if allowed > 0 else ("False", "InsufficientPods")
    old = next((c for c in before if c.get("type") == ALLOWED), {})
    moment = old.get("lastTransitionTime") if old.get("status") == state else None
    made = {
        "type": ALLOWED,
        "status": state,
        "observedGeneration": generation,
        "lastTransitionTime": moment or _text(now),
        "reason": reason,
        "message": failure,
    }
    return [*(c for c in before if c.get("type") != ALLOWED), made]


def _text(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
