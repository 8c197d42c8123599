"""Which pods make room for a more important one, as the scheduler chooses them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.node.agent import scheduling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.api.core import Node, Pod

NEVER = "Never"


def priority(pod: Pod) -> int:
    """The pod's priority; 0 without a class."""
    return pod.spec.priority or 0


def victims(pod: Pod, node: Node, others: Sequence[Pod]) -> list[Pod]:
    """The fewest and least important pods without which the pod fits; none when that would not help."""
    if pod.spec.preemption_policy == NEVER:
        return []
    lower = [other for other in others if priority(other) < priority(pod)]
    kept = [other for other in others if priority(other) >= priority(pod)]
    if not lower or scheduling.reasons(pod, node, kept):
        return []
    leaving = []
    # The most important first: whoever can stay, stays.
    for other in sorted(lower, key=_importance):
        if scheduling.reasons(pod, node, [*kept, other]):
            leaving.append(other)
        else:
            kept.append(other)
    return leaving


def _importance(pod: Pod) -> tuple[int, str]:
    created = pod.metadata.creation_timestamp
    return (-priority(pod), created.isoformat() if created is not None else "")
