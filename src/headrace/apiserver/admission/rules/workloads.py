"""Rules of the controllers of pods that run for ever; those of jobs are in `jobs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.meta import LabelSelector
from headrace.apiserver.admission.rules import fields as f
from headrace.apiserver.admission.rules import pods

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.api.errors import Cause

Json = dict[str, Any]

STATEFUL_SET_CHANGES = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)


def _template_of(spec: Json) -> Json:
    return spec.get("template") or {}


def _selector(spec: Json) -> Iterator[Cause]:
    selector = spec.get("selector")
    if not selector:
        if selector is None:
            yield f.required("spec.selector")
        else:
            yield f.invalid("spec.selector", "{}", "empty selector is invalid for deployment")
        return
    broken = list(f.label_selector("spec.selector", selector))
    yield from broken
    labels = (_template_of(spec).get("metadata") or {}).get("labels") or {}
    if not broken and not _wire.convert(LabelSelector, selector).matches(labels):
        yield f.invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")


def _always(spec: Json) -> Iterator[Cause]:
    policy = (_template_of(spec).get("spec") or {}).get("restartPolicy")
    if policy in ("OnFailure", "Never"):
        yield f.unsupported("spec.template.spec.restartPolicy", policy, ("Always",))


def deployment(obj: Json) -> Iterator[Cause]:
    """A Deployment."""
    spec = obj.get("spec") or {}
    yield from replica_set(obj)
    strategy = spec.get("strategy") or {}
    yield from f.one_of("spec.strategy.type", strategy.get("type"), ("RollingUpdate", "Recreate"))
    rolling = strategy.get("rollingUpdate")
    if strategy.get("type") == "Recreate" and rolling:
        yield f.forbidden("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")
    if strategy.get("type") == "RollingUpdate" and rolling:
        yield from _rolling(rolling)
    for key in ("minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"):
        yield from f.non_negative(f"spec.{key}", spec.get(key))
    if spec.get("progressDeadlineSeconds", 1) <= (spec.get("minReadySeconds") or 0):
        yield f.invalid(
            "spec.progressDeadlineSeconds", spec["progressDeadlineSeconds"], "must be greater than minReadySeconds"
        )


def _rolling(rolling: Json) -> Iterator[Cause]:
    zero = 0
    for key in ("maxUnavailable", "maxSurge"):
        yield from _int_or_percent(f"spec.strategy.rollingUpdate.{key}", rolling.get(key))
        zero += rolling.get(key) in (0, "0%")
    if zero == 2:
        yield f.invalid(
            "spec.strategy.rollingUpdate.maxUnavailable", rolling["maxUnavailable"], "may not be 0 when `maxSurge` is 0"
        )


def _int_or_percent(path: str, value: Any) -> Iterator[Cause]:
    if not isinstance(value, str):
        yield from f.non_negative(path, value)
    elif not value.endswith("%") or not (value[:-1].isascii() and value[:-1].isdigit()):
        yield f.invalid(path, value, "a valid percent string must be a numeric string followed by an ending '%'")


def replica_set(obj: Json) -> Iterator[Cause]:
    """A ReplicaSet, and what a Deployment shares with it."""
    spec = obj.get("spec") or {}
    yield from f.non_negative("spec.replicas", spec.get("replicas"))
    yield from _selector(spec)
    yield from pods.template(_template_of(spec), "spec.template")
    yield from _always(spec)


def replication_controller(obj: Json) -> Iterator[Cause]:
    """A ReplicationController."""
    spec = obj.get("spec") or {}
    for key in ("replicas", "minReadySeconds"):
        yield from f.non_negative(f"spec.{key}", spec.get(key))
    template, selector = _template_of(spec), spec.get("selector") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    if not selector:
        yield f.required("spec.selector")
    elif not selector.items() <= labels.items():
        yield f.invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    if not template:
        yield f.required("spec.template")
        return
    yield from pods.template(template, "spec.template")
    yield from _always(spec)


def selector_update(new: Json, old: Json) -> Iterator[Cause]:
    """The selector is fixed."""
    before, after = (old.get("spec") or {}).get("selector"), (new.get("spec") or {}).get("selector")
    if before != after:
        yield f.immutable("spec.selector", after)


def stateful_set(obj: Json) -> Iterator[Cause]:
    """A StatefulSet."""
    spec = obj.get("spec") or {}
    for key in ("replicas", "minReadySeconds", "revisionHistoryLimit"):
        yield from f.non_negative(f"spec.{key}", spec.get(key))
    yield from f.non_negative("spec.ordinals.start", (spec.get("ordinals") or {}).get("start"))
    yield from f.one_of("spec.podManagementPolicy", spec.get("podManagementPolicy"), ("OrderedReady", "Parallel"))
    strategy = spec.get("updateStrategy") or {}
    yield from f.one_of("spec.updateStrategy.type", strategy.get("type"), ("OnDelete", "RollingUpdate"))
    rolling = strategy.get("rollingUpdate")
    if strategy.get("type") == "OnDelete" and rolling:
        yield f.invalid("spec.updateStrategy.rollingUpdate", rolling, "only allowed for updateStrategy 'RollingUpdate'")
    yield from f.non_negative("spec.updateStrategy.rollingUpdate.partition", (rolling or {}).get("partition"))
    if (rolling or {}).get("maxUnavailable") is not None:
        yield f.forbidden(
            "spec.updateStrategy.rollingUpdate.maxUnavailable", "pods of a StatefulSet are updated one at a time here"
        )
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for key in ("whenDeleted", "whenScaled"):
        where = f"spec.persistentVolumeClaimRetentionPolicy.{key}"
        yield from f.one_of(where, retention.get(key), ("Delete", "Retain"))
    yield from _selector(spec)
    names = [(t.get("metadata") or {}).get("name", "") for t in spec.get("volumeClaimTemplates") or ()]
    for i, name in enumerate(names):
        if not name:
            yield f.required(f"spec.volumeClaimTemplates[{i}].metadata.name")
        elif name in names[:i]:
            yield f.duplicate(f"spec.volumeClaimTemplates[{i}].metadata.name", name)
    template = _template_of(spec)
    inner = template.get("spec") or {}
    mounted = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in dict.fromkeys(names) if name]
    volumes = [v for v in inner.get("volumes") or () if v.get("name") not in names]
    yield from pods.template({**template, "spec": {**inner, "volumes": [*volumes, *mounted]}}, "spec.template")
    yield from _always(spec)
    if inner.get("activeDeadlineSeconds") is not None:
        yield f.forbidden(
            "spec.template.spec.activeDeadlineSeconds", "activeDeadlineSeconds in StatefulSet is not Supported"
        )


def stateful_set_update(new: Json, old: Json) -> Iterator[Cause]:
    """What makes the pods' identity is fixed."""
    before, after = old.get("spec") or {}, new.get("spec") or {}
    if any(before.get(k) != after.get(k) for k in (before.keys() | after.keys()) - set(STATEFUL_SET_CHANGES)):
        named = ", ".join(f"'{k}'" for k in STATEFUL_SET_CHANGES[:-1])
        yield f.forbidden(
            "spec",
            f"updates to statefulset spec for fields other than {named} and '{STATEFUL_SET_CHANGES[-1]}' are forbidden",
        )


def daemon_set(obj: Json) -> Iterator[Cause]:
    """A DaemonSet."""
    spec = obj.get("spec") or {}
    for key in ("minReadySeconds", "revisionHistoryLimit"):
        yield from f.non_negative(f"spec.{key}", spec.get(key))
    strategy = spec.get("updateStrategy") or {}
    yield from f.one_of("spec.updateStrategy.type", strategy.get("type"), ("OnDelete", "RollingUpdate"))
    rolling = strategy.get("rollingUpdate")
    if strategy.get("type") == "RollingUpdate" and rolling:
        path = "spec.updateStrategy.rollingUpdate"
        for key in ("maxUnavailable", "maxSurge"):
            yield from _int_or_percent(f"{path}.{key}", rolling.get(key))
        unavailable, surge = (rolling.get(key) not in (0, "0%", None) for key in ("maxUnavailable", "maxSurge"))
        if unavailable and surge:
            yield f.invalid(f"{path}.maxSurge", rolling["maxSurge"], "may not be set when maxUnavailable is non-zero")
        elif not unavailable and not surge:
            yield f.required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0")
    yield from _selector(spec)
    yield from pods.template(_template_of(spec), "spec.template")
    yield from _always(spec)
    if (_template_of(spec).get("spec") or {}).get("activeDeadlineSeconds") is not None:
        yield f.forbidden(
            "spec.template.spec.activeDeadlineSeconds", "activeDeadlineSeconds in DaemonSet is not Supported"
        )


def controller_revision(obj: Json) -> Iterator[Cause]:
    """A ControllerRevision."""
    yield from f.non_negative("revision", obj.get("revision"))
    if obj.get("data") is None:
        yield f.required("data", "data is mandatory")


def controller_revision_update(new: Json, old: Json) -> Iterator[Cause]:
    """What a revision says is fixed; only its number moves."""
    if new.get("data") != old.get("data"):
        yield f.immutable("data", "the revision's data")
