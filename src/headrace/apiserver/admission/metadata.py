"""The rules of `metadata`, pure: what the server sets, what clients may change, what names look like."""

from __future__ import annotations

import os
import re
import secrets
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from headrace.api.errors import BadRequest, Cause, Conflict, Forbidden, Invalid

if TYPE_CHECKING:
    import datetime as dt

    from headrace.api.meta import KindInfo

Json = dict[str, Any]

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_ANNOTATIONS_LIMIT = 256 * 1024
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_1035_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_QUALIFIED_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_LABEL_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_WITH_GENERATION = frozenset(
    {
        ("apps", "Deployment"),
        ("apps", "ReplicaSet"),
        ("", "ReplicationController"),
        ("apps", "StatefulSet"),
        ("apps", "DaemonSet"),
        ("batch", "Job"),
        ("batch", "CronJob"),
        ("networking.k8s.io", "Ingress"),
        ("networking.k8s.io", "IngressClass"),
        ("networking.k8s.io", "NetworkPolicy"),
        ("policy", "PodDisruptionBudget"),
        ("scheduling.k8s.io", "PriorityClass"),
        ("discovery.k8s.io", "EndpointSlice"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
    }
)
_VARIANT = "89ab" * 4
"""The two bits of a UUID that say how it is laid out, and two that are random."""
_PATH_NAMES = frozenset(
    {
        *(("rbac.authorization.k8s.io", kind) for kind in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")),
        ("apiregistration.k8s.io", "APIService"),
    }
)
MANAGED_FIELDS = "managedFields"
SERVER_OWNED = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
)


def without_managers(obj: Json) -> Json:
    """The object as checks see it: managedFields, often half of an object, are the field manager's own.

    Anything else than a list of objects stays, for the decoder to refuse.
    """
    meta = obj.get("metadata")
    if not isinstance(meta, dict):
        return obj
    found = meta.get(MANAGED_FIELDS)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        return obj
    return {**obj, "metadata": {k: v for k, v in meta.items() if k != MANAGED_FIELDS}}


def with_managers_of(obj: Json, whole: Json) -> Json:
    """The object with the managedFields that were left out of `whole`."""
    found = whole["metadata"].get(MANAGED_FIELDS)
    if found is not None:
        obj["metadata"].setdefault(MANAGED_FIELDS, found)
    return obj


@lru_cache(maxsize=64)
def timestamp(moment: dt.datetime) -> str:
    """RFC 3339 in whole seconds, as Kubernetes writes times."""
    return moment.isoformat(timespec="seconds")[:19] + "Z"  # strftime takes five times as long


def new_uid() -> str:
    """A random UUID, version 4; the class of the standard library takes three times as long."""
    made = os.urandom(16).hex()
    return f"{made[:8]}-{made[8:12]}-4{made[13:16]}-{_VARIANT[int(made[16], 16)]}{made[17:20]}-{made[20:]}"


def generate_name(base: str) -> str:
    """`base` and five characters that spell no words; long bases are cut."""
    return base[:58] + "".join(secrets.choice(_ALPHABET) for _ in range(5))


def name_problem(info: KindInfo, name: str) -> str | None:
    """Why this is no name for an object of the kind, in the real server's words."""
    if (info.group, info.kind) in _PATH_NAMES:
        if name in (".", "..") or "/" in name or "%" in name:
            return "may not be '.' or '..' or contain '/' or '%'"
        return None
    if info.kind == "Namespace" and not info.group:
        return _LABEL_RULE if not _LABEL.fullmatch(name) else _too_long(name, 63)
    if info.kind == "Service" and not info.group:
        return _LABEL_1035_RULE if not _LABEL_1035.fullmatch(name) else _too_long(name, 63)
    return _SUBDOMAIN_RULE if not _SUBDOMAIN.fullmatch(name) else _too_long(name, 253)


def _too_long(text: str, limit: int) -> str | None:
    return f"must be no more than {limit} characters" if len(text) > limit else None


def check_request_names(obj: Json, name: str, namespace: str, info: KindInfo) -> None:
    """The body must not contradict the URL. Raises BadRequest."""
    meta = obj["metadata"]
    if info.namespaced:
        if not namespace:
            raise BadRequest("an empty namespace may not be set during creation")
        if meta.setdefault("namespace", namespace) != namespace:
            raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
    else:
        meta.pop("namespace", None)
    if name and meta.setdefault("name", name) != name:
        raise BadRequest(
            f"the name of the object ({meta['name']}) does not match the name on the URL ({name})", name=name
        )


def normalise(obj: Json, info: KindInfo) -> Json:
    """A copy that begins with apiVersion, kind and metadata. Raises BadRequest when they contradict the request."""
    api_version, kind = obj.get("apiVersion") or info.api_version, obj.get("kind") or info.kind
    if api_version != info.api_version:
        raise BadRequest(
            f"the API version in the data ({api_version}) does not match the expected API version ({info.api_version})"
        )
    if kind != info.kind:
        raise BadRequest(f'the kind in the data ("{kind}") does not match the expected kind ("{info.kind}")')
    meta = obj.get("metadata")
    if meta is not None and not isinstance(meta, dict):
        raise BadRequest(
            f'{info.kind} in version "{info.version}" cannot be handled as a {info.kind}: metadata must be an object'
        )
    head: Json = {"apiVersion": api_version, "kind": kind, "metadata": dict(meta or {})}
    return head | {k: v for k, v in obj.items() if k not in head}


def has_generation(info: KindInfo, *, custom: bool) -> bool:
    """Whether metadata.generation counts changes of what a person wants."""
    return custom or (info.group, info.kind) in _WITH_GENERATION


def prepare_create(obj: Json, *, uid: str, now: dt.datetime, generation: bool) -> None:
    """Set what the server owns. Raises BadRequest."""
    meta = obj["metadata"]
    if meta.pop("resourceVersion", None):
        raise BadRequest("resourceVersion should not be set on objects to be created")
    for key in SERVER_OWNED:
        meta.pop(key, None)
    meta["uid"] = uid
    meta["creationTimestamp"] = timestamp(now)
    if generation:
        meta["generation"] = 1


def prepare_update(new: Json, old: Json, info: KindInfo) -> None:
    """Keep what the server owns; check uid and finalizers. Raises Conflict or Forbidden."""
    meta, before = new["metadata"], old["metadata"]
    uid = meta.get("uid")
    if uid and uid != before.get("uid"):
        raise conflict(
            info,
            before["name"],
            f"Precondition failed: UID in precondition: {uid}, UID in object meta: {before.get('uid')}",
        )
    for key in SERVER_OWNED:
        if key in before:
            meta[key] = before[key]
        else:
            meta.pop(key, None)
    if before.get("generateName") and "generateName" not in meta:
        meta["generateName"] = before["generateName"]
    if "deletionTimestamp" in before:
        added = [f for f in meta.get("finalizers") or () if f not in (before.get("finalizers") or ())]
        if added:
            raise Forbidden(
                f'{info.kind} "{before["name"]}" is invalid: metadata.finalizers: Forbidden: no new finalizers can be '
                f"added if the object is being deleted, found new finalizers {added}",
                kind=info.plural,
                group=info.group,
                name=before["name"],
            )


def conflict(info: KindInfo, name: str, why: str) -> Conflict:
    """A 409 in the words that kubectl users know."""
    return Conflict(
        f'Operation cannot be fulfilled on {info.resource} "{name}": {why}',
        kind=info.plural,
        group=info.group,
        name=name,
    )


def modified(info: KindInfo, name: str) -> Conflict:
    """The object is newer than what the client read."""
    return conflict(
        info,
        name,
        "the object has been modified; please apply your changes to the latest version and try again",
    )


def causes(obj: Json, info: KindInfo) -> list[Cause]:
    """Everything that is wrong with names, labels, annotations, finalizers and owner references."""
    meta = obj["metadata"]
    out: list[Cause] = []
    name = meta.get("name") or ""
    if not name:
        out.append(Cause("metadata.name", "Required value: name or generateName is required", "FieldValueRequired"))
    elif problem := name_problem(info, name):
        out.append(Cause("metadata.name", f'Invalid value: "{name}": {problem}'))
    for key, value in (meta.get("labels") or {}).items():
        out += _qualified("metadata.labels", key)
        if len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
            why = _LABEL_VALUE_RULE if len(value) <= 63 else "must be no more than 63 characters"
            out.append(Cause("metadata.labels", f'Invalid value: "{value}": {why}'))
    annotations = meta.get("annotations") or {}
    for key in annotations:
        out += _qualified("metadata.annotations", key.lower())
    if sum(len(k) + len(v) for k, v in annotations.items()) > _ANNOTATIONS_LIMIT:
        out.append(
            Cause(
                "metadata.annotations",
                f"Too long: may not be more than {_ANNOTATIONS_LIMIT} bytes",
                "FieldValueTooLong",
            )
        )
    for finalizer in meta.get("finalizers") or ():
        out += _qualified("metadata.finalizers", finalizer)
    controllers = 0
    for i, ref in enumerate(meta.get("ownerReferences") or ()):
        for key in ("apiVersion", "kind", "name", "uid"):
            if not ref.get(key):
                out.append(Cause(f"metadata.ownerReferences[{i}].{key}", f'Invalid value: "": {key} must not be empty'))
        controllers += bool(ref.get("controller"))
    if controllers > 1:
        out.append(
            Cause("metadata.ownerReferences", "Invalid value: Only one reference can have Controller set to true")
        )
    return out


def _qualified(path: str, key: str) -> list[Cause]:
    prefix, slash, name = key.rpartition("/")
    if slash and (not _SUBDOMAIN.fullmatch(prefix) or len(prefix) > 253):
        return [Cause(path, f'Invalid value: "{key}": prefix part {_SUBDOMAIN_RULE}')]
    if not _QUALIFIED.fullmatch(name):
        return [Cause(path, f'Invalid value: "{key}": {_QUALIFIED_RULE}')]
    if len(name) > 63:
        return [Cause(path, f'Invalid value: "{key}": name part must be no more than 63 characters')]
    return []


def check(obj: Json, info: KindInfo, more: list[Cause] | None = None) -> None:
    """Raises Invalid with every cause when metadata, or whatever found `more`, is wrong."""
    found = causes(obj, info) + (more or [])
    if found:
        raise Invalid.of(info, obj["metadata"].get("name") or obj["metadata"].get("generateName") or "", found)
