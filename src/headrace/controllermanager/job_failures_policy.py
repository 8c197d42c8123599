"""What a Job's pod failure policy says of a failed pod, as pure functions (upstream: pod_failure_policy.go)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.api.core import ContainerStatus, Pod

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Match:
    """What is to be done, and for FailJob the sentence that says why."""

    action: str = "Count"
    message: str = ""


COUNTED = Match()


def match(policy: Json | None, pod: Pod) -> Match:
    """The first rule that matches the pod decides; without one the failure counts."""
    for number, rule in enumerate((policy or {}).get("rules") or ()):
        action = str(rule.get("action", ""))
        where = f"{pod.metadata.namespace}/{pod.metadata.name}"
        if rule.get("onExitCodes") is not None:
            status = _by_exit_code(pod, rule["onExitCodes"])
            if status is not None and status.state.terminated is not None:
                code = status.state.terminated.exit_code
                return Match(
                    action,
                    f"Container {status.name} for pod {where} failed with exit code {code} matching {action} rule "
                    f"at index {number}",
                )
        elif rule.get("onPodConditions") is not None:
            found = _by_condition(pod, rule["onPodConditions"])
            if found:
                return Match(action, f"Pod {where} has condition {found} matching {action} rule at index {number}")
    return COUNTED


def _by_exit_code(pod: Pod, wanted: Json) -> ContainerStatus | None:
    name, values = wanted.get("containerName"), wanted.get("values") or ()
    for status in (*pod.status.container_statuses, *pod.status.init_container_statuses):
        ended = status.state.terminated
        if ended is None or ended.exit_code == 0 or (name is not None and name != status.name):
            continue
        if (ended.exit_code in values) == (wanted.get("operator") == "In"):
            return status
    return None


def _by_condition(pod: Pod, patterns: list[Json]) -> str:
    for condition in pod.status.conditions:
        if any(p.get("type") == condition.type and p.get("status", "True") == condition.status for p in patterns):
            return condition.type
    return ""
