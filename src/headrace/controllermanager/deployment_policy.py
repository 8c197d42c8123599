"""How a Deployment rolls out, as pure functions (upstream: pkg/controller/deployment and its util).

Every function works on ReplicaSets as they stand; none calls anything.
"""

from __future__ import annotations

import copy
import hashlib
import math
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.controllermanager.types import DeploymentCondition

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Sequence

    from headrace.api.meta import IntOrString
    from headrace.controllermanager.types import Deployment, ReplicaSet, Template

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED = frozenset(
    {"kubectl.kubernetes.io/last-applied-configuration", REVISION, REVISION_HISTORY, DESIRED, MAXIMUM}
)
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def template_hash(template: Template, collisions: int) -> str:
    """Ten characters that name a template; `collisions` gives another name when one is taken."""
    text = _wire.encode([_sorted(template), collisions])
    number = int.from_bytes(hashlib.sha256(text).digest()[:8], "big")
    out = ""
    for _ in range(10):
        number, rest = divmod(number, len(_ALPHABET))
        out += _ALPHABET[rest]
    return out


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def labelled(template: Template, digest: str) -> Template:
    """The template with the hash among its labels."""
    made = copy.deepcopy(template)
    meta = made.setdefault("metadata", {})
    meta["labels"] = {**(meta.get("labels") or {}), HASH_LABEL: digest}
    return made


def same_template(one: Template, other: Template) -> bool:
    """Whether two templates make the same pods, the hash label aside."""
    return _without_hash(one) == _without_hash(other)


def _without_hash(template: Template) -> Template:
    meta = {k: v for k, v in (template.get("metadata") or {}).items() if v is not None}
    labels = {k: v for k, v in (meta.get("labels") or {}).items() if k != HASH_LABEL}
    return {**template, "metadata": {**meta, "labels": labels}}


def split(deployment: Deployment, owned: Iterable[ReplicaSet]) -> tuple[ReplicaSet | None, list[ReplicaSet]]:
    """(the ReplicaSet of the current template, all others), oldest first."""
    ordered = sorted(owned, key=_age)
    new = next((rs for rs in ordered if same_template(rs.spec.template, deployment.spec.template)), None)
    return new, [rs for rs in ordered if rs is not new]


def _age(replica_set: ReplicaSet) -> tuple[str, str]:
    created = replica_set.metadata.creation_timestamp
    return created.isoformat() if created else "", replica_set.metadata.name


def revision(replica_set: ReplicaSet) -> int:
    """Its number in the history; 0 when it has none."""
    text = replica_set.metadata.annotations.get(REVISION, "")
    return int(text) if text.isdecimal() else 0


def bounds(deployment: Deployment) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods."""
    spec = deployment.spec
    if spec.strategy.type != "RollingUpdate" or spec.replicas == 0:
        return 0, 0
    rolling = spec.strategy.rolling_update
    surge = _resolve(rolling.max_surge if rolling else "25%", spec.replicas, math.ceil)
    unavailable = _resolve(rolling.max_unavailable if rolling else "25%", spec.replicas, math.floor)
    if surge == 0 and unavailable == 0:
        unavailable = 1  # else nothing could ever move
    return surge, min(unavailable, spec.replicas)


def _resolve(value: IntOrString, total: int, rounding: Any) -> int:
    if isinstance(value, int):
        return value
    return int(rounding(int(value.rstrip("%")) * total / 100))


def wanted(replica_sets: Iterable[ReplicaSet]) -> int:
    """Pods that ReplicaSets are told to have."""
    return sum(rs.spec.replicas for rs in replica_sets)


def actual(replica_sets: Iterable[ReplicaSet]) -> int:
    """Pods that they have."""
    return sum(rs.status.replicas for rs in replica_sets)


def available(replica_sets: Iterable[ReplicaSet]) -> int:
    """Pods that serve."""
    return sum(rs.status.available_replicas for rs in replica_sets)


def new_size(deployment: Deployment, new: ReplicaSet | None, everything: Sequence[ReplicaSet]) -> int:
    """Replicas that the new ReplicaSet is to have now."""
    replicas = deployment.spec.replicas
    current = new.spec.replicas if new else 0
    if deployment.spec.strategy.type == "Recreate" or current > replicas:
        return replicas
    surge, _ = bounds(deployment)
    room = replicas + surge - wanted(everything)
    if room <= 0:
        return current
    return current + min(room, replicas - current)


def old_sizes(deployment: Deployment, new: ReplicaSet | None, old: Sequence[ReplicaSet]) -> dict[str, int]:
    """Replicas that old ReplicaSets are to have now, for those that change, by name.

    First those pods go that do not serve anyhow, oldest first; then as many as can be missed.
    """
    sizes = {rs.metadata.name: rs.spec.replicas for rs in old}
    everything = [*old, *([new] if new else [])]
    _, max_unavailable = bounds(deployment)
    minimum = deployment.spec.replicas - max_unavailable
    new_unavailable = new.spec.replicas - new.status.available_replicas if new else 0
    spare = wanted(everything) - minimum - new_unavailable
    if spare <= 0:
        return {}
    cleaned = 0
    for rs in old:
        unhealthy = min(spare - cleaned, rs.spec.replicas - rs.status.available_replicas)
        if rs.spec.replicas and unhealthy > 0:
            sizes[rs.metadata.name] -= unhealthy
            cleaned += unhealthy
    # Counted as it stands: pods that are only told to go still count as available.
    left = available(everything) - minimum
    for rs in old:
        size = sizes[rs.metadata.name]
        if left <= 0:
            break
        down = min(left, size)
        sizes[rs.metadata.name] = size - down
        left -= down
    return {rs.metadata.name: sizes[rs.metadata.name] for rs in old if sizes[rs.metadata.name] != rs.spec.replicas}


def is_scaling(deployment: Deployment, everything: Iterable[ReplicaSet]) -> bool:
    """Whether `spec.replicas` changed since ReplicaSets were last sized."""
    return any(
        rs.spec.replicas > 0
        and rs.metadata.annotations.get(DESIRED, str(deployment.spec.replicas)) != str(deployment.spec.replicas)
        for rs in everything
    )


def proportional(deployment: Deployment, everything: Sequence[ReplicaSet]) -> dict[str, int]:
    """Sizes after a change of `spec.replicas` in the middle of a rollout: each ReplicaSet takes its share."""
    live = [rs for rs in everything if rs.spec.replicas > 0]
    replicas = deployment.spec.replicas
    if len(live) <= 1:
        return {rs.metadata.name: replicas for rs in live}
    surge, _ = bounds(deployment)
    total = wanted(live)
    allowed = replicas + surge if replicas > 0 else 0
    to_add = allowed - total
    # When growing, newer first; when shrinking, older first. Larger before smaller in both.
    ordered = sorted(live, key=lambda rs: (-rs.spec.replicas, _age(rs)), reverse=False)
    if to_add > 0:
        ordered = sorted(sorted(live, key=_age, reverse=True), key=lambda rs: -rs.spec.replicas)
    sizes, added = {}, 0
    for rs in ordered:
        share = _share(deployment, rs, allowed, to_add - added) if to_add else 0
        sizes[rs.metadata.name] = rs.spec.replicas + share
        added += share
    if to_add != added:
        first = ordered[0].metadata.name
        sizes[first] = max(sizes[first] + to_add - added, 0)
    return sizes


def _share(deployment: Deployment, rs: ReplicaSet, allowed: int, left: int) -> int:
    before = rs.metadata.annotations.get(MAXIMUM, "")
    maximum = int(before) if before.isdecimal() and int(before) else deployment.spec.replicas
    share = round(rs.spec.replicas * allowed / maximum) - rs.spec.replicas if maximum else 0
    return min(share, left) if left > 0 else max(share, left)


def size_annotations(deployment: Deployment) -> dict[str, str]:
    """What each ReplicaSet remembers of the Deployment's size."""
    surge, _ = bounds(deployment)
    return {DESIRED: str(deployment.spec.replicas), MAXIMUM: str(deployment.spec.replicas + surge)}


def copied_annotations(deployment: Deployment) -> dict[str, str]:
    """A Deployment's annotations that its ReplicaSets carry too."""
    return {k: v for k, v in deployment.metadata.annotations.items() if k not in _NOT_COPIED}


def next_revision(new: ReplicaSet | None, old: Iterable[ReplicaSet]) -> tuple[str, str]:
    """(revision, history) of the new ReplicaSet: it moves in front when it was rolled back to."""
    highest = max((revision(rs) for rs in old), default=0)
    current = revision(new) if new else 0
    history = new.metadata.annotations.get(REVISION_HISTORY, "") if new else ""
    if current > highest:
        return str(current), history
    if current:
        history = ",".join([*(h for h in history.split(",") if h), str(current)])
    return str(highest + 1), history


def expendable(deployment: Deployment, old: Sequence[ReplicaSet]) -> list[ReplicaSet]:
    """Old, empty ReplicaSets beyond the history's limit, lowest revision first."""
    alive = [rs for rs in old if rs.metadata.deletion_timestamp is None]
    surplus = len(alive) - deployment.spec.revision_history_limit
    if surplus <= 0:
        return []
    candidates = sorted(alive, key=lambda rs: (revision(rs), _age(rs)))[:surplus]
    return [
        rs
        for rs in candidates
        if not rs.status.replicas and not rs.spec.replicas and rs.status.observed_generation >= rs.metadata.generation
    ]


def complete(deployment: Deployment) -> bool:
    """Whether the rollout has ended well, by the status."""
    status, replicas = deployment.status, deployment.spec.replicas
    return (
        status.updated_replicas == replicas
        and status.replicas == replicas
        and status.available_replicas == replicas
        and status.observed_generation >= deployment.metadata.generation
    )


def count(deployment: Deployment, new: ReplicaSet | None, everything: Sequence[ReplicaSet]) -> None:
    """Write counts to the status."""
    status = deployment.status
    status.observed_generation = deployment.metadata.generation
    status.replicas = actual(everything)
    status.updated_replicas = new.status.replicas if new else 0
    status.ready_replicas = sum(rs.status.ready_replicas for rs in everything)
    status.available_replicas = available(everything)
    status.unavailable_replicas = max(wanted(everything) - status.available_replicas, 0)


def condition(deployment: Deployment, type_: str) -> DeploymentCondition | None:
    """One condition."""
    return next((c for c in deployment.status.conditions if c.type == type_), None)


def set_condition(
    deployment: Deployment,
    type_: str,
    status: str,
    reason: str,
    message: str,
    *,
    now: dt.datetime,
    touch: bool = False,
) -> None:
    """Set one; the update time moves when status or reason do, or with `touch`."""
    found = condition(deployment, type_)
    if found is None:
        deployment.status.conditions.append(
            DeploymentCondition(
                type=type_,
                status=status,
                reason=reason,
                message=message,
                last_update_time=now,
                last_transition_time=now,
            )
        )
        return
    if found.status != status:
        found.last_transition_time = now
    if found.status != status or found.reason != reason or touch:
        found.last_update_time = now
    found.status, found.reason, found.message = status, reason, message


def set_available(deployment: Deployment, now: dt.datetime) -> None:
    """The Available condition."""
    _, unavailable = bounds(deployment)
    if deployment.status.available_replicas >= deployment.spec.replicas - unavailable:
        message = "Deployment has minimum availability."
        set_condition(deployment, "Available", "True", "MinimumReplicasAvailable", message, now=now)
    else:
        message = "Deployment does not have minimum availability."
        set_condition(deployment, "Available", "False", "MinimumReplicasUnavailable", message, now=now)


def set_replica_failure(deployment: Deployment, everything: Iterable[ReplicaSet], now: dt.datetime) -> None:
    """ReplicaFailure, when a ReplicaSet has it."""
    failures = [
        c for rs in everything for c in rs.status.conditions if c.type == "ReplicaFailure" and c.status == "True"
    ]
    if failures:
        set_condition(deployment, "ReplicaFailure", "True", failures[-1].reason, failures[-1].message, now=now)
    else:
        deployment.status.conditions = [c for c in deployment.status.conditions if c.type != "ReplicaFailure"]


def set_progressing(deployment: Deployment, new: ReplicaSet | None, before: tuple[int, ...], now: dt.datetime) -> None:
    """The Progressing condition of a rollout that is not paused; `before` are the counts of the last status."""
    name = f'ReplicaSet "{new.metadata.name}"' if new else f'Deployment "{deployment.metadata.name}"'
    found = condition(deployment, "Progressing")
    if complete(deployment) and (found is None or found.reason != "NewReplicaSetAvailable"):
        message = f"{name} has successfully progressed."
        set_condition(deployment, "Progressing", "True", "NewReplicaSetAvailable", message, now=now)
    elif found is not None and found.reason == "NewReplicaSetAvailable" and _settled(deployment):
        return
    elif _progressed(before, progress(deployment)) or found is None:
        set_condition(
            deployment, "Progressing", "True", "ReplicaSetUpdated", f"{name} is progressing.", now=now, touch=True
        )
    elif timed_out(deployment, now):
        message = f"{name} has timed out progressing."
        set_condition(deployment, "Progressing", "False", "ProgressDeadlineExceeded", message, now=now)


def _settled(deployment: Deployment) -> bool:
    """Whether all pods are of the new template: then a change of size is no rollout."""
    return deployment.status.replicas == deployment.status.updated_replicas


def progress(deployment: Deployment) -> tuple[int, ...]:
    """The counts that say whether a rollout moves."""
    status = deployment.status
    old = status.replicas - status.updated_replicas
    return status.updated_replicas, -old, status.ready_replicas, status.available_replicas


def _progressed(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    return any(b < a for b, a in zip(before, after, strict=True))


def timed_out(deployment: Deployment, now: dt.datetime) -> bool:
    """Whether nothing has moved for as long as the deadline."""
    left = seconds_left(deployment, now)
    return left is not None and left <= 0


def seconds_left(deployment: Deployment, now: dt.datetime) -> float | None:
    """Seconds until the deadline of a rollout that goes on; None when there is none."""
    found = condition(deployment, "Progressing")
    if (
        found is None
        or found.last_update_time is None
        or found.reason in {"NewReplicaSetAvailable", "DeploymentPaused"}
        or deployment.spec.progress_deadline_seconds >= (1 << 31) - 1
    ):
        return None
    if found.reason == "ProgressDeadlineExceeded":
        return 0.0
    return deployment.spec.progress_deadline_seconds - (now - found.last_update_time).total_seconds()
