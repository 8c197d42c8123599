"""Which pods and claims a StatefulSet needs next, as pure functions (upstream: pkg/controller/statefulset)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.api.meta import Object, ObjectMeta, OwnerReference
from headrace.controllermanager import pods
from headrace.controllermanager.revisions import POD_LABEL
from headrace.controllermanager.types import ClaimManifest

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

    from headrace.api.apps import StatefulSet
    from headrace.api.core import PersistentVolumeClaim, Pod
    from headrace.controllermanager.types import PodManifest, Template

NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"
_ORDINAL = re.compile(r"(.*)-([0-9]+)")


def ordinal(stateful_set: StatefulSet, name: str) -> int | None:
    """The number in a pod's name; None when it is no name of this set's pods."""
    match = _ORDINAL.fullmatch(name)
    if match is None or match[1] != stateful_set.metadata.name or str(int(match[2])) != match[2]:
        return None
    return int(match[2])


def ordinals(stateful_set: StatefulSet) -> range:
    """The numbers that the set wants."""
    start = stateful_set.spec.ordinals.start
    return range(start, start + stateful_set.spec.replicas)


def partition(stateful_set: StatefulSet) -> int:
    """The first ordinal that gets the new template."""
    rolling = stateful_set.spec.update_strategy.rolling_update
    return stateful_set.spec.ordinals.start + (rolling.partition if rolling is not None else 0)


@dataclass
class Plan:
    """What to do now. Waiting is an empty plan: every change of a pod brings the next."""

    create: list[int] = field(default_factory=list)
    delete: list[Pod] = field(default_factory=list)
    reason: str = ""


def healthy(stateful_set: StatefulSet, pod: Pod, now: dt.datetime) -> bool:
    """Whether a pod runs, is ready for long enough and is to stay."""
    return (
        pod.metadata.deletion_timestamp is None
        and pod.status.phase == "Running"
        and pods.available_after(pod, stateful_set.spec.min_ready_seconds, now) == 0
    )


def plan(stateful_set: StatefulSet, found: Iterable[Pod], update: str, now: dt.datetime) -> Plan:
    """The next step; OrderedReady takes one at a time, Parallel all at once."""
    by_number = {n: pod for pod in found if (n := ordinal(stateful_set, pod.metadata.name)) is not None}
    wanted = ordinals(stateful_set)
    ordered = stateful_set.spec.pod_management_policy != "Parallel"
    out = Plan()
    for number in wanted:
        pod = by_number.get(number)
        if pod is None:
            out.create.append(number)
        elif pods.finished(pod):
            if pod.metadata.deletion_timestamp is None:
                out.delete.append(pod)
                failed = pod.status.phase == "Failed"
                out.reason = "RecreatingFailedPod" if failed else "RecreatingTerminatedPod"
        elif healthy(stateful_set, pod, now) or not ordered:
            continue
        if ordered:
            return out
    condemned = sorted((n for n in by_number if n not in wanted), reverse=True)
    first_unhealthy = min((n for n, pod in by_number.items() if not healthy(stateful_set, pod, now)), default=None)
    for number in condemned:
        pod = by_number[number]
        gone = pod.metadata.deletion_timestamp is not None
        if not gone and (not ordered or healthy(stateful_set, pod, now) or number == first_unhealthy):
            out.delete.append(pod)
        if ordered:
            return out
    if out.create or out.delete or stateful_set.spec.update_strategy.type == "OnDelete":
        return out
    for number in reversed(wanted):
        if number < partition(stateful_set):
            break
        pod = by_number[number]
        if revision_of(pod) != update and pod.metadata.deletion_timestamp is None:
            out.delete.append(pod)
            break
        if not healthy(stateful_set, pod, now):
            break
    return out


def revision_of(pod: Pod) -> str:
    """The revision that a pod was made from."""
    return pod.metadata.labels.get(POD_LABEL, "")


def revision_for(stateful_set: StatefulSet, number: int, current: str, update: str) -> str:
    """The revision of a new pod: below the partition it is the one from before the update."""
    rolling = stateful_set.spec.update_strategy.type == "RollingUpdate"
    return current if rolling and number < partition(stateful_set) else update


def count(stateful_set: StatefulSet, found: Iterable[Pod], current: str, update: str, now: dt.datetime) -> float | None:
    """Write counts and revisions to the status; seconds until another pod becomes available by age, if one will."""
    spec, status = stateful_set.spec, stateful_set.status
    there = [p for p in found if not pods.finished(p)]
    staying = [p for p in there if p.metadata.deletion_timestamp is None]
    waits = [pods.available_after(p, spec.min_ready_seconds, now) for p in there if p.status.phase == "Running"]
    status.observed_generation = stateful_set.metadata.generation
    status.replicas = len(there)
    status.ready_replicas = sum(wait is not None for wait in waits)
    status.available_replicas = sum(wait == 0 for wait in waits)
    status.current_replicas = sum(revision_of(p) == current for p in staying)
    status.updated_replicas = sum(revision_of(p) == update for p in staying)
    status.current_revision, status.update_revision = current, update
    everybody = spec.replicas == status.updated_replicas == status.ready_replicas == status.replicas
    if spec.update_strategy.type == "RollingUpdate" and everybody and partition(stateful_set) == spec.ordinals.start:
        status.current_revision = update
        status.current_replicas = status.updated_replicas
    return min((wait for wait in waits if wait), default=None)


def claim_name(stateful_set: StatefulSet, template: dict[str, Any], number: int) -> str:
    """The claim of one pod for one of the set's claim templates."""
    return f"{template['metadata']['name']}-{stateful_set.metadata.name}-{number}"


def claims(stateful_set: StatefulSet, number: int) -> list[ClaimManifest]:
    """The claims that a pod needs."""
    out = []
    for template in stateful_set.spec.volume_claim_templates:
        meta = template["metadata"]
        out.append(
            ClaimManifest(
                metadata=ObjectMeta(
                    name=claim_name(stateful_set, template, number),
                    namespace=stateful_set.metadata.namespace,
                    labels={**(meta.get("labels") or {}), **stateful_set.spec.selector.match_labels},
                    annotations=dict(meta.get("annotations") or {}),
                ),
                spec=dict(template.get("spec") or {}),
            )
        )
    return out


def claim_owners(stateful_set: StatefulSet, claim: PersistentVolumeClaim, pod: Pod | None) -> list[OwnerReference]:
    """The owner references that the retention policy gives a claim; `pod` is the one that has to go with it."""
    others = [r for r in claim.metadata.owner_references if not _is_ours(stateful_set, r)]
    policy = stateful_set.spec.persistent_volume_claim_retention_policy
    if pod is not None and policy.when_scaled == "Delete":
        return [*others, _reference(pod)]
    if policy.when_deleted == "Delete":
        return [*others, _reference(stateful_set)]
    return others


def _is_ours(stateful_set: StatefulSet, ref: OwnerReference) -> bool:
    if ref.kind == "Pod" and ref.api_version == "v1":
        return ordinal(stateful_set, ref.name) is not None
    return ref.uid == stateful_set.metadata.uid


def _reference(owner: Object) -> OwnerReference:
    return owner.owner_reference(controller=False)


def pod_of(stateful_set: StatefulSet, template: Template, number: int, revision: str) -> PodManifest:
    """The pod of one number: named, addressable through the headless service, with its claims as volumes."""
    name = f"{stateful_set.metadata.name}-{number}"
    made = pods.from_template(template, stateful_set, name=name)
    made.metadata.labels |= {NAME_LABEL: name, INDEX_LABEL: str(number), POD_LABEL: revision}
    spec = made.spec
    spec["hostname"] = name
    if stateful_set.spec.service_name:
        spec["subdomain"] = stateful_set.spec.service_name
    templates = stateful_set.spec.volume_claim_templates
    names = {t["metadata"]["name"] for t in templates}
    volumes = [
        {
            "name": t["metadata"]["name"],
            "persistentVolumeClaim": {"claimName": claim_name(stateful_set, t, number)},
        }
        for t in templates
    ]
    spec["volumes"] = [*volumes, *(v for v in spec.get("volumes") or () if v.get("name") not in names)]
    return made
