"""Pure decisions: what PodDefaults make of a pod, KFAM's names of roles and bindings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headrace.api import _wire
from headrace.api.errors import BadRequest, Forbidden
from headrace.components.profiles.types import Binding, BindingRole, BindingUser, PodDefault

if TYPE_CHECKING:
    from collections.abc import Collection

Json = dict[str, Any]

ROLES = {"admin": "kubeflow-admin", "edit": "kubeflow-edit", "view": "kubeflow-view"}
WORDS = {cluster: word for word, cluster in ROLES.items()}
PREFIX = "poddefault.admission.kubeflow.org"
EXCLUDE = f"{PREFIX}/exclude"
ISTIO_PROXY = "istio-proxy"
_OTHER = re.compile(r"[^a-zA-Z0-9]+")
NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
MAX_NAME = 63
KEPT_PREFIXES = ("kube-", "istio-", "knative-")
"""Names that Kubernetes and the platform's parts keep for themselves."""


def suggest(address: str, taken: Collection[str]) -> str:
    """A name for somebody's profile: ada@example.com gets `ada`, else `ada-example-com`, else that with a number."""

    def plain(text: str) -> str:
        return _OTHER.sub("-", text).strip("-").lower()

    first = plain(address.partition("@")[0])[: MAX_NAME - 4].strip("-")
    long = plain(address)[: MAX_NAME - 4].strip("-")
    if not long or long.startswith(KEPT_PREFIXES):
        first = long = "profile"
    wanted = [first, long, *(f"{long}-{n}" for n in range(2, len(taken) + 3))]
    return next(name for name in wanted if name and name not in taken and not name.startswith(KEPT_PREFIXES))


def checked_name(name: str) -> str:
    """The name of a profile that a person chooses. Raises BadRequest."""
    if len(name) > MAX_NAME or not NAME.fullmatch(name):
        raise BadRequest(
            f"{name!r} is not a name for a profile: up to {MAX_NAME} lower-case letters, digits and hyphens"
        )
    if name.startswith(KEPT_PREFIXES):
        raise BadRequest(f"names that begin with {', '.join(KEPT_PREFIXES)} are kept for the platform")
    return name


def binding_name(user_kind: str, user: str, role_kind: str, role: str) -> str:
    """`user-ada-example-com-clusterrole-edit`: KFAM's getBindingName."""
    raw = "-".join((user_kind, quote(_OTHER.sub("-", user)), role_kind, role)).lower()
    return _OTHER.sub("-", raw)


def binding_of(namespace: str, binding: Json) -> Binding | None:
    """A RoleBinding as KFAM shows it; None for one that KFAM did not make (it has no annotations user and role)."""
    annotations = (binding.get("metadata") or {}).get("annotations") or {}
    subjects = binding.get("subjects") or []
    role = WORDS.get(binding["roleRef"]["name"], "")
    if "user" not in annotations or "role" not in annotations or len(subjects) != 1:
        return None
    subject = subjects[0]
    return Binding(
        user=BindingUser(kind=subject["kind"], name=subject["name"]),
        referred_namespace=namespace,
        role_ref=BindingRole(kind=binding["roleRef"]["kind"], name=role),
    )


# PodDefaults, after poddefaults-webhooks/main.go


def matching(pod: Json, defaults: list[PodDefault]) -> list[PodDefault]:
    """Those that are meant for the pod, by name."""
    meta = pod.get("metadata") or {}
    if (meta.get("annotations") or {}).get(EXCLUDE) == "true":
        return []
    labels = meta.get("labels") or {}
    found = [d for d in defaults if d.spec.selector.matches(labels)]
    return sorted(found, key=lambda d: d.metadata.name)


def apply(pod: Json, defaults: list[PodDefault]) -> None:
    """Put them into the pod. Raises Forbidden that names every conflict; the pod is then as it was."""
    wrong: list[str] = []
    spec, meta = dict(pod.get("spec") or {}), dict(pod.get("metadata") or {})

    def merge(what: str, have: list[Json], field: str, key: str, where: str = "") -> list[Json]:
        return _merged(have, defaults, field, key, (what, where, wrong))

    for field, key, what in (("volumes", "name", "volumes"), ("tolerations", "key", "tolerations")):
        _keep(spec, field, merge(what, spec.get(field) or [], field, key))
    pulls = merge("imagePullSecret", spec.get("imagePullSecrets") or [], "image_pull_secrets", "name")
    _keep(spec, "imagePullSecrets", pulls)
    containers = [_container(dict(c), defaults, wrong) for c in spec.get("containers") or []]
    spec["containers"] = merge("containers", containers, "sidecars", "name")
    init = merge("containers", spec.get("initContainers") or [], "init_containers", "name")
    _keep(spec, "initContainers", init)
    for field in ("annotations", "labels"):
        _keep(meta, field, _merged_map(dict(meta.get(field) or {}), defaults, field, wrong))
    if wrong:
        name = meta.get("name") or meta.get("generateName", "")
        raise Forbidden(
            f'pods "{name}" is forbidden: its PodDefaults conflict with it or with each other: {"; ".join(wrong)}. '
            f'Change the PodDefault, or set the annotation {EXCLUDE}: "true" on the pod',
            kind="pods",
            name=name,
        )
    for default in defaults:
        if default.spec.automount_service_account_token is not None:
            spec["automountServiceAccountToken"] = default.spec.automount_service_account_token
        if default.spec.service_account_name:
            spec["serviceAccountName"] = default.spec.service_account_name
            spec.pop("serviceAccount", None)
        marks = meta.setdefault("annotations", {})
        marks[f"{PREFIX}/poddefault-{default.metadata.name}"] = default.metadata.resource_version
    pod["spec"], pod["metadata"] = spec, meta


_Report = tuple[str, str, list[str]]


def _keep(body: Json, field: str, value: Any) -> None:
    if value or field in body:
        body[field] = value


def _merged(have: list[Json], defaults: list[PodDefault], field: str, key: str, report: _Report) -> list[Json]:
    what, where, wrong = report
    result = list(have)
    known = {item.get(key): item for item in have}
    for default in defaults:
        for item in getattr(default.spec, field):
            found = known.get(item.get(key))
            if found is None:
                known[item.get(key)] = item
                result.append(_wire.clone(item))
            elif found != item:
                name = default.metadata.name
                wrong.append(f"merging {what} for {name} has a conflict on {item.get(key)}{where}")
    return result


def _merged_map(have: dict[str, str], defaults: list[PodDefault], field: str, wrong: list[str]) -> dict[str, str]:
    for default in defaults:
        for key, value in getattr(default.spec, field).items():
            if have.setdefault(key, value) != value:
                wrong.append(f"merging {field} for {default.metadata.name} has a conflict on {key}")
    return have


def _container(container: Json, defaults: list[PodDefault], wrong: list[str]) -> Json:
    where = f" in container {container.get('name', '')}"
    env = _merged(container.get("env") or [], defaults, "env", "name", ("env", where, wrong))
    _keep(container, "env", env)
    mounts = container.get("volumeMounts") or []
    by_path = {m.get("mountPath"): m for m in mounts}
    for default in defaults:
        for mount in default.spec.volume_mounts:
            found = by_path.setdefault(mount.get("mountPath"), mount)
            if found != mount and found.get("name") != mount.get("name"):
                path = mount.get("mountPath")
                wrong.append(
                    f"merging volume mounts for {default.metadata.name} has a conflict on mount path {path}{where}"
                )
    merged = _merged(mounts, defaults, "volume_mounts", "name", ("volume mounts", where, wrong))
    _keep(container, "volumeMounts", merged)
    sources = [*(container.get("envFrom") or []), *(_wire.clone(s) for d in defaults for s in d.spec.env_from)]
    _keep(container, "envFrom", sources)
    if container.get("name") != ISTIO_PROXY:
        for field in ("command", "args"):
            for default in defaults:
                if container.get(field) is None and getattr(default.spec, field):
                    container[field] = list(getattr(default.spec, field))
    return container
