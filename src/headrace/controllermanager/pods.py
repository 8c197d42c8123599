"""What the controllers ask of pods, as pure functions (upstream: pkg/controller/controller_utils.go, pod utilities)."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from headrace.api.meta import ObjectMeta
from headrace.controllermanager.types import PodManifest

if TYPE_CHECKING:
    from headrace.api.core import Pod, PodCondition
    from headrace.api.meta import LabelSelector, Object, OwnerReference
    from headrace.controllermanager.types import Template

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASE_ORDER = {"Pending": 0, "Unknown": 1, "Running": 2}
_EARLIEST = dt.datetime.min.replace(tzinfo=dt.UTC)


def finished(pod: Pod) -> bool:
    """Whether the pod has ended."""
    return pod.status.phase in {"Succeeded", "Failed"}


def active(pod: Pod) -> bool:
    """Whether the pod runs or will run."""
    return not finished(pod) and pod.metadata.deletion_timestamp is None


def ready_condition(pod: Pod) -> PodCondition | None:
    """The Ready condition, if it is there."""
    return next((c for c in pod.status.conditions if c.type == "Ready"), None)


def ready(pod: Pod) -> bool:
    """Whether the pod is Ready."""
    found = ready_condition(pod)
    return found is not None and found.status == "True"


def available_after(pod: Pod, min_ready_seconds: int, now: dt.datetime) -> float | None:
    """Seconds until a ready pod counts as available: 0 when it does, None when it is not ready."""
    found = ready_condition(pod)
    if found is None or found.status != "True":
        return None
    if min_ready_seconds <= 0:
        return 0.0
    since = found.last_transition_time
    if since is None:
        return None
    return max(min_ready_seconds - (now - since).total_seconds(), 0.0)


def deletion_order(pod: Pod) -> tuple[Any, ...]:
    """Sorts pods so that those to be deleted first come first."""
    found = ready_condition(pod)
    is_ready = found is not None and found.status == "True"
    since = found.last_transition_time if is_ready and found is not None else None
    restarts = max((s.restart_count for s in pod.status.container_statuses), default=0)
    return (
        bool(pod.spec.node_name),
        _PHASE_ORDER.get(pod.status.phase, 0),
        is_ready,
        _cost(pod),
        -_seconds(since),
        -restarts,
        -_seconds(pod.metadata.creation_timestamp),
        pod.metadata.name,
    )


def _cost(pod: Pod) -> int:
    try:
        return int(pod.metadata.annotations.get(DELETION_COST, "0"))
    except ValueError:
        return 0


def _seconds(moment: dt.datetime | None) -> float:
    return ((moment or _EARLIEST) - _EARLIEST).total_seconds()


def controller_of(obj: Object) -> OwnerReference | None:
    """The owner that controls this object."""
    return next((r for r in obj.metadata.owner_references if r.controller), None)


def from_template(template: Template, owner: Object, *, name: str = "", prefix: str = "") -> PodManifest:
    """The pod that a template describes, controlled by `owner`; exactly one of name and prefix is given."""
    meta = template.get("metadata") or {}
    return PodManifest(
        metadata=ObjectMeta(
            name=name,
            generate_name=prefix,
            namespace=owner.metadata.namespace,
            labels=dict(meta.get("labels") or {}),
            annotations=dict(meta.get("annotations") or {}),
            finalizers=list(meta.get("finalizers") or []),
            owner_references=[owner.owner_reference()],
        ),
        spec=dict(template.get("spec") or {}),
    )


def selector_string(selector: LabelSelector) -> str:
    """The selector in kubectl's syntax, for lists."""
    terms = [f"{k}={v}" for k, v in selector.match_labels.items()]
    for req in selector.match_expressions:
        match req.operator:
            case "In" | "NotIn":
                terms.append(f"{req.key} {req.operator.lower()} ({','.join(req.values)})")
            case "Exists":
                terms.append(req.key)
            case "DoesNotExist":
                terms.append(f"!{req.key}")
            case _:
                raise ValueError(f"{req.operator!r} is not a label selector operator")
    return ",".join(terms)


def is_empty(selector: LabelSelector) -> bool:
    """Whether the selector matches everything."""
    return not selector.match_labels and not selector.match_expressions
