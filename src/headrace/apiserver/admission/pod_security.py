"""PodSecurity: what a namespace's labels demand of its pods; enforced on pods, told of workloads as warnings.

`pod-security.kubernetes.io/{enforce,warn}` name a level, `…-version` the release that a message names; the checks are
those of this release whatever the version. `audit` is kept: there is no audit log.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from headrace.api.core import Namespace, Pod
from headrace.api.errors import Cause, Forbidden

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from headrace.api.meta import KindInfo
    from headrace.apiserver.admission.lookup import Lookup

Json = dict[str, Any]

PREFIX = "pod-security.kubernetes.io/"
LEVELS = ("privileged", "baseline", "restricted")
_MODES = ("enforce", "audit", "warn")
_VERSION = re.compile(r"latest|v1\.(0|[1-9][0-9]*)")
_TEMPLATES: dict[tuple[str, str], tuple[str, ...]] = {
    ("apps", "Deployment"): ("spec", "template"),
    ("apps", "ReplicaSet"): ("spec", "template"),
    ("apps", "StatefulSet"): ("spec", "template"),
    ("apps", "DaemonSet"): ("spec", "template"),
    ("batch", "Job"): ("spec", "template"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
    ("", "ReplicationController"): ("spec", "template"),
    ("", "PodTemplate"): ("template",),
}


def labels(namespace: Json) -> Iterator[Cause]:
    """What is wrong with a namespace's labels."""
    found = (namespace.get("metadata") or {}).get("labels") or {}
    for mode in _MODES:
        level, version = found.get(f"{PREFIX}{mode}"), found.get(f"{PREFIX}{mode}-version")
        if level is not None and level not in LEVELS:
            why = f"must be one of {', '.join(LEVELS)}"
            yield Cause(f"metadata.labels[{PREFIX}{mode}]", f'Invalid value: "{level}": {why}')
        if version is not None and not _VERSION.fullmatch(version):
            why = 'must be "latest" or "v1.x"'
            yield Cause(f"metadata.labels[{PREFIX}{mode}-version]", f'Invalid value: "{version}": {why}')


def enforce(namespace: Json, pod: Json) -> None:
    """Raises Forbidden when the namespace does not take the pod."""
    level = _level(namespace, "enforce")
    if level == "privileged":
        return
    found = _violations(level, pod.get("metadata") or {}, pod.get("spec") or {})
    if found:
        name = (pod.get("metadata") or {}).get("name", "")
        raise Forbidden(
            f'pods "{name}" is forbidden: violates PodSecurity "{_shown(namespace, "enforce")}": {found}',
            kind=Pod.INFO.plural,
            name=name,
        )


def is_significant(new: Json, old: Json) -> bool:
    """Whether an update of a pod changes what the checks look at."""
    annotations = [(o.get("metadata") or {}).get("annotations") or {} for o in (new, old)]
    return new.get("spec") != old.get("spec") or annotations[0] != annotations[1]


def advice(info: KindInfo, new: Json, old: Json | None, lookup: Lookup) -> list[str]:
    """Warnings for whoever writes an object that is, makes, or takes pods."""
    if info == Namespace.INFO:
        return [] if old is None else list(_tightened(new, old, lookup))
    template = _template(info, new)
    if template is None or (info == Pod.INFO and old is not None and not is_significant(new, old)):
        return []
    namespace = lookup.get(Namespace.INFO, "", (new.get("metadata") or {}).get("namespace", ""))
    level = _level(namespace or {}, "warn")
    found = _violations(level, template.get("metadata") or {}, template.get("spec") or {})
    return [f'would violate PodSecurity "{_shown(namespace or {}, "warn")}": {found}'] if found else []


def concerns(info: KindInfo) -> bool:
    """Whether writes of the kind may have advice."""
    return info in {Pod.INFO, Namespace.INFO} or (info.group, info.kind) in _TEMPLATES


def _template(info: KindInfo, obj: Json) -> Json | None:
    if info == Pod.INFO:
        return obj
    found: Any = obj
    for key in _TEMPLATES.get((info.group, info.kind), ()):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) and found is not obj else None


def _tightened(new: Json, old: Json, lookup: Lookup) -> Iterator[str]:
    """The pods that a namespace would not take any more."""
    level = _level(new, "enforce")
    if LEVELS.index(level) <= LEVELS.index(_level(old, "enforce")):
        return
    name = new["metadata"]["name"]
    grouped: dict[str, list[str]] = {}
    for pod in lookup.within(Pod.INFO, name):
        found = _violations(level, pod["metadata"], pod.get("spec") or {})
        if found:
            grouped.setdefault(found, []).append(pod["metadata"]["name"])
    if not grouped:
        return
    yield f'existing pods in namespace "{name}" violate the new PodSecurity enforce level "{_shown(new, "enforce")}"'
    yield from sorted(f"{_pods(names)}: {found}" for found, names in grouped.items())


def _pods(names: list[str]) -> str:
    first, *others = sorted(names)
    if not others:
        return first
    return f"{first} (and {len(others)} other {'pod' if len(others) == 1 else 'pods'})"


def _level(namespace: Json, mode: str) -> str:
    found = ((namespace.get("metadata") or {}).get("labels") or {}).get(f"{PREFIX}{mode}", "privileged")
    # What is not known any more is taken for the strictest, as upstream.
    return found if found in LEVELS else "restricted"


def _shown(namespace: Json, mode: str) -> str:
    version = ((namespace.get("metadata") or {}).get("labels") or {}).get(f"{PREFIX}{mode}-version", "latest")
    return f"{_level(namespace, mode)}:{version}"


def _violations(level: str, meta: Json, spec: Json) -> str:
    if level == "privileged":
        return ""
    from headrace.apiserver.admission.pod_checks import findings  # noqa: PLC0415 - few namespaces have a level

    return _joined(findings(level, meta, spec))


def _joined(found: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{what} ({detail})" if detail else what for what, detail in found)
