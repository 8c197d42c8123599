"""A task's Kubernetes configuration (kfp-kubernetes) with its references to parameters replaced by their values.

It is resolved when the task begins, beside its inputs, and kept with the task: building the pod then needs no other
task.
Sources: kubernetes_platform/proto/kubernetes_executor_config.proto, backend/src/v2/driver/k8s.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headrace.components.pipelines.policy.podstatus import MAIN
from headrace.components.pipelines.policy.resolve import AbsentError, parameter
from headrace.components.pipelines.policy.values import ResolveError
from headrace.components.pipelines.types.ir import ParameterSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.components.pipelines.policy.resolve import Surroundings

Json = Any

_APPLIED = frozenset(
    {
        "secretAsVolume",
        "secretAsEnv",
        "pvcMount",
        "nodeSelector",
        "podMetadata",
        "imagePullSecret",
        "imagePullPolicy",
        "configMapAsVolume",
        "configMapAsEnv",
        "activeDeadlineSeconds",
        "fieldPathAsEnv",
        "tolerations",
        "genericEphemeralVolume",
        "enabledSharedMemory",
        "emptyDirMounts",
        "securityContext",
        "nodeAffinity",
        "podAffinity",
        "initContainers",
    }
)
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_PULL_POLICIES = ("Always", "Never", "IfNotPresent")
_NAMED = {
    "secretAsVolume": "secretName",
    "secretAsEnv": "secretName",
    "configMapAsVolume": "configMapName",
    "configMapAsEnv": "configMapName",
    "imagePullSecret": "secretName",
}
"""Lists whose entries name an object directly (deprecated) or by a parameter."""


def resolve_config(config: Mapping[str, Json], around: Surroundings) -> dict[str, Json]:
    """The configuration with plain names. An entry whose optional parameter is null is left out (as upstream does).

    Raises ResolveError when a parameter has no value or a field cannot be honoured here.
    """
    for field in config:
        if field not in _APPLIED:
            raise ResolveError(f"The task's Kubernetes configuration has the field {field!r}, which is not known here.")
    resolved = dict(config)
    for field, name in _NAMED.items():
        if field in config:
            entries = [_named(field, name, entry, around) for entry in config[field]]
            resolved[field] = [entry for entry in entries if entry is not None]
    if "pvcMount" in config:
        resolved["pvcMount"] = [_claim(entry, around) for entry in config["pvcMount"]]
    if "nodeSelector" in config:
        resolved["nodeSelector"] = _node_selector(config["nodeSelector"], around)
    if "nodeAffinity" in config:
        resolved["nodeAffinity"] = _node_affinity(config["nodeAffinity"], around)
    if "podAffinity" in config:
        resolved["podAffinity"] = _pod_affinity(config["podAffinity"])
    if "initContainers" in config:
        _check_init_containers(config["initContainers"])
    if "tolerations" in config:
        resolved["tolerations"] = _tolerations(config["tolerations"], around)
    policy = config.get("imagePullPolicy", "")
    if policy and policy not in _PULL_POLICIES:
        raise ResolveError(f"imagePullPolicy {policy!r} must be one of {', '.join(_PULL_POLICIES)}.")
    return {field: value for field, value in resolved.items() if value not in (None, [], {}, "")}


def claim_names(resolved: Mapping[str, Json]) -> list[str]:
    """The claims that a task mounts, from its resolved configuration."""
    return [entry["pvcName"] for entry in resolved.get("pvcMount", [])]


def _named(field: str, name: str, entry: dict[str, Json], around: Surroundings) -> dict[str, Json] | None:
    reference = entry.get(f"{name}Parameter")
    rest = {key: value for key, value in entry.items() if key not in {name, f"{name}Parameter"}}
    if reference is not None:
        try:
            return {**rest, name: _text(f"{field}.{name}", reference, around)}
        except AbsentError:
            return None
    if not entry.get(name):
        raise ResolveError(f"An entry of {field} in the task's Kubernetes configuration has no {name}.")
    return {**rest, name: entry[name]}


def _claim(entry: dict[str, Json], around: Surroundings) -> dict[str, Json]:
    reference = entry.get("pvcNameParameter")
    if reference is None:
        old: dict[str, Json] = {k: entry[k] for k in ("taskOutputParameter", "componentInputParameter") if k in entry}
        reference = old or {"runtimeValue": {"constant": entry.get("constant", "")}}
    name = _text("pvcMount.pvcName", reference, around)
    if not entry.get("mountPath"):
        raise ResolveError(f"The claim {name!r} is mounted without a mountPath.")
    return {"pvcName": name, "mountPath": entry["mountPath"], "subPath": entry.get("subPath", "")}


def _node_selector(entry: dict[str, Json], around: Surroundings) -> dict[str, Json]:
    if "nodeSelectorJson" not in entry:
        return dict(entry.get("labels", {}))
    try:
        value = _value("nodeSelector", entry["nodeSelectorJson"], around)
    except AbsentError:
        return {}
    if not isinstance(value, dict):
        raise ResolveError("The task's node selector must be a mapping of labels.")
    return value


def _node_affinity(entries: list[dict[str, Json]], around: Surroundings) -> dict[str, Json]:
    """All terms as one Kubernetes NodeAffinity: those with a weight are preferences."""
    required: list[Json] = []
    preferred: list[Json] = []
    for entry in entries:
        if "nodeAffinityJson" in entry:
            try:
                value = _value("nodeAffinity", entry["nodeAffinityJson"], around)
            except AbsentError:
                continue
            if not isinstance(value, dict):
                raise ResolveError("The task's node affinity must be a mapping.")
            required += (value.get(_REQUIRED) or {}).get("nodeSelectorTerms") or []
            preferred += value.get(_PREFERRED) or []
            continue
        term = {key: entry[key] for key in ("matchExpressions", "matchFields") if entry.get(key)}
        if term and "weight" in entry:
            preferred.append({"weight": int(entry["weight"]), "preference": term})
        elif term:
            required.append(term)
    found: dict[str, Json] = {_REQUIRED: {"nodeSelectorTerms": required}} if required else {}
    return {**found, _PREFERRED: preferred} if preferred else found


def _pod_affinity(entries: list[dict[str, Json]]) -> dict[str, Json]:
    """All terms as Kubernetes' podAffinity and podAntiAffinity. No SDK writes them yet; the proto has them."""
    found: dict[str, Json] = {}
    for entry in entries:
        term: dict[str, Json] = {"topologyKey": entry.get("topologyKey", "")}
        if not term["topologyKey"]:
            raise ResolveError("A term of the task's podAffinity has no topologyKey.")
        for name, expressions, labels in (
            ("labelSelector", "matchPodExpressions", "matchPodLabels"),
            ("namespaceSelector", "matchNamespaceExpressions", "matchNamespaceLabels"),
        ):
            selector = {"matchExpressions": entry.get(expressions), "matchLabels": entry.get(labels)}
            selector = {key: value for key, value in selector.items() if value}
            if selector:
                term[name] = selector
        if entry.get("namespaces"):
            term["namespaces"] = entry["namespaces"]
        side = found.setdefault("podAntiAffinity" if entry.get("anti") else "podAffinity", {})
        if "weight" in entry:
            side.setdefault(_PREFERRED, []).append({"weight": int(entry["weight"]), "podAffinityTerm": term})
        else:
            side.setdefault(_REQUIRED, []).append(term)
    return found


def _check_init_containers(entries: list[dict[str, Json]]) -> None:
    """What upstream's driver refuses of them is refused here in the same cases."""
    names = {MAIN}
    for entry in entries:
        name = entry.get("name", "")
        if not name:
            raise ResolveError("An init container of the task has no name.")
        if name in names:
            raise ResolveError(f"The task has two containers named {name!r}; give each init container its own name.")
        names.add(name)
        if not entry.get("image"):
            raise ResolveError(f"The init container {name!r} has no image.")
        if entry.get("restartPolicy", "") not in {"", "Always"}:
            raise ResolveError(f"The init container {name!r} may have the restart policy Always only.")
        if any(not variable.get("name") for variable in entry.get("env", [])):
            raise ResolveError(f"The init container {name!r} has an environment variable without a name.")
        for mount in entry.get("volumeMounts", []):
            if not mount.get("volumeName") or not str(mount.get("mountPath", "")).startswith("/"):
                raise ResolveError(f"The init container {name!r} must mount a named volume at an absolute path.")


def _tolerations(entries: list[dict[str, Json]], around: Surroundings) -> list[Json]:
    found: list[Json] = []
    for entry in entries:
        if "tolerationJson" not in entry:
            found.append(entry)
            continue
        try:
            value = _value("tolerations", entry["tolerationJson"], around)
        except AbsentError:
            continue
        if not isinstance(value, dict | list):
            raise ResolveError("A toleration must be a mapping or a list of mappings.")
        found += value if isinstance(value, list) else [value] if value else []
    return found


def _text(what: str, reference: dict[str, Json], around: Surroundings) -> str:
    value = _value(what, reference, around)
    if not isinstance(value, str) or not value:
        raise ResolveError(f"{what} of the task's Kubernetes configuration must be a text that is not empty.")
    return value


def _value(what: str, reference: dict[str, Json], around: Surroundings) -> Json:
    try:
        source = msgspec.convert(reference, ParameterSource, strict=True)
    except msgspec.ValidationError as error:
        raise ResolveError(f"{what} of the task's Kubernetes configuration does not parse: {error}.") from error
    return parameter(what, source, around)
