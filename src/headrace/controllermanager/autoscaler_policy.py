"""How fast an autoscaler follows its metrics, as pure functions (upstream: podautoscaler/horizontal.go).

What was recommended and what was changed lately is kept in memory, as upstream: after a restart the windows begin
again with the replicas that are there.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

DOWNSCALE_SECONDS = 300
LONGEST_PERIOD = dt.timedelta(seconds=1800)
MOST = 2**31 - 1


@dataclass(slots=True)
class History:
    """What happened lately to one autoscaler's target."""

    recommended: list[tuple[dt.datetime, int]] = field(default_factory=list)
    grown: list[tuple[dt.datetime, int]] = field(default_factory=list)
    shrunk: list[tuple[dt.datetime, int]] = field(default_factory=list)

    def changed(self, now: dt.datetime, before: int, after: int) -> None:
        """Remember a change of size."""
        (self.grown if after > before else self.shrunk).append((now, abs(after - before)))
        for events in (self.grown, self.shrunk):
            events[:] = [e for e in events if e[0] > now - LONGEST_PERIOD]


@dataclass(frozen=True, slots=True)
class Decision:
    """The size, and what conditions say of it: (type, status, reason, message)."""

    replicas: int
    able: tuple[str, str]
    limited: tuple[bool, str, str]


READY = ("ReadyForNewScale", "recommended size matches current size")
DOWN_STABILIZED = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
)
UP_STABILIZED = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
)
WITHIN = (False, "DesiredWithinRange", "the desired count is within the acceptable range")
TOO_FEW = (True, "TooFewReplicas", "the desired replica count is less than the minimum replica count")
TOO_MANY = (True, "TooManyReplicas", "the desired replica count is more than the maximum replica count")
TOO_FAST = (True, "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
TOO_FAST_DOWN = (True, "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")


def bounded(replicas: int, least: int, most: int) -> tuple[int, str]:
    """The replicas within the bounds, and why they change; no reason when they do not."""
    if replicas > most:
        return most, "Current number of replicas above Spec.MaxReplicas"
    if replicas < least:
        return least, "Current number of replicas below Spec.MinReplicas"
    return replicas, ""


def decide(
    current: int, wanted: int, history: History, now: dt.datetime, *, least: int, most: int, behavior: Json | None
) -> Decision:
    """The size that follows from what the metrics want."""
    up, down = ((behavior or {}).get(key) or {} for key in ("scaleUp", "scaleDown"))
    steady = _stabilized(current, wanted, history, now, up=up, down=down)
    able = READY
    if steady != wanted:
        able = DOWN_STABILIZED if steady > wanted else UP_STABILIZED
    if steady > current:
        limit = max(_up_limit(current, up, history, now) if behavior else max(2 * current, 4), current)
        top = min(limit, most)
        if steady > top:
            return Decision(top, able, TOO_FAST if limit < most else TOO_MANY)
    elif steady < current:
        limit = min(_down_limit(current, down, history, now), current) if behavior else 0
        bottom = max(limit, least)
        if steady < bottom:
            return Decision(bottom, able, TOO_FAST_DOWN if limit > least else TOO_FEW)
    if steady > most:
        return Decision(most, able, TOO_MANY)
    if steady < least:
        return Decision(least, able, TOO_FEW)
    return Decision(steady, able, WITHIN)


def _stabilized(current: int, wanted: int, history: History, now: dt.datetime, *, up: Json, down: Json) -> int:
    """No higher than the lowest recommendation of the one window, no lower than the highest of the other."""
    if not history.recommended:
        history.recommended.append((now, current))
    up_from = now - dt.timedelta(seconds=up.get("stabilizationWindowSeconds") or 0)
    seconds = down.get("stabilizationWindowSeconds")
    down_from = now - dt.timedelta(seconds=DOWNSCALE_SECONDS if seconds is None else seconds)
    lowest = min((n for at, n in history.recommended if at > up_from), default=wanted)
    highest = max((n for at, n in history.recommended if at > down_from), default=wanted)
    oldest = min(up_from, down_from)
    history.recommended = [r for r in history.recommended if r[0] > oldest]
    history.recommended.append((now, wanted))
    steady = max(current, min(lowest, wanted))
    return min(steady, max(highest, wanted))


def _recent(events: list[tuple[dt.datetime, int]], seconds: int, now: dt.datetime) -> int:
    return sum(n for at, n in events if at > now - dt.timedelta(seconds=seconds))


def _up_limit(current: int, rules: Json, history: History, now: dt.datetime) -> int:
    if rules.get("selectPolicy") == "Disabled":
        return current
    limits: list[int] = []
    for policy in rules.get("policies") or ():
        start = current + _change(policy, history, now)
        value: int = policy["value"]
        limits.append(start + value if policy["type"] == "Pods" else math.ceil(start * (1 + value / 100)))
    if not limits:
        return MOST
    return min(limits) if rules.get("selectPolicy") == "Min" else max(limits)


def _down_limit(current: int, rules: Json, history: History, now: dt.datetime) -> int:
    if rules.get("selectPolicy") == "Disabled":
        return current
    limits: list[int] = []
    for policy in rules.get("policies") or ():
        start = current + _change(policy, history, now)
        value: int = policy["value"]
        limits.append(start - value if policy["type"] == "Pods" else int(start * (1 - value / 100)))
    if not limits:
        return 0
    return max(limits) if rules.get("selectPolicy") == "Min" else min(limits)


def _change(policy: Json, history: History, now: dt.datetime) -> int:
    """From the size now to the size at the beginning of the policy's period."""
    seconds: int = policy["periodSeconds"]
    return _recent(history.shrunk, seconds, now) - _recent(history.grown, seconds, now)
