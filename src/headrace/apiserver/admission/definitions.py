"""Rules of CustomResourceDefinitions, and the status that tells clients that a kind is served."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headrace.apiserver.admission.metadata import timestamp
from headrace.apiserver.admission.rules import fields as f
from headrace.apiserver.admission.rules.configured import client_config
from headrace.apiserver.schema.structural import EMBEDDED, INT_OR_STRING, PRESERVE, CustomSchema, compile_schema

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Iterator

    from headrace.api.errors import Cause

Json = dict[str, Any]

CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
_VERSION = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_DEPTH = 64
_RULES = "x-kubernetes-validations"
_SELECTABLE = 8


def causes(obj: Json) -> Iterator[Cause]:
    """What is wrong with a definition by itself."""
    spec = obj.get("spec") or {}
    names, versions = spec.get("names") or {}, spec.get("versions") or []
    group, plural = spec.get("group") or "", names.get("plural") or ""
    if not group:
        yield f.required("spec.group")
    elif not f.SUBDOMAIN.fullmatch(group) or "." not in group:
        yield f.invalid("spec.group", group, "should be a domain with at least one dot")
    for key in ("plural", "kind"):
        if not names.get(key):
            yield f.required(f"spec.names.{key}")
    if group and plural and obj["metadata"].get("name") != f"{plural}.{group}":
        yield f.invalid("metadata.name", obj["metadata"].get("name"), 'must be spec.names.plural+"."+spec.group')
    yield from f.one_of("spec.scope", spec.get("scope"), ("Cluster", "Namespaced"))
    strategy = (spec.get("conversion") or {}).get("strategy", "None")
    if strategy == "Webhook":
        yield from _webhook((spec.get("conversion") or {}).get("webhook") or {})
    elif strategy != "None":
        yield f.unsupported("spec.conversion.strategy", strategy, ("None", "Webhook"))
    if spec.get("preserveUnknownFields"):
        yield f.invalid(
            "spec.preserveUnknownFields",
            True,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        )
    if not versions:
        yield f.required("spec.versions", "must have at least one version")
    elif sum(bool(v.get("storage")) for v in versions) != 1:
        yield f.invalid(
            "spec.versions",
            [v.get("name") for v in versions],
            "must have exactly one version marked as storage version",
        )
    seen: set[str] = set()
    for i, version in enumerate(versions):
        yield from _version(version, f"spec.versions[{i}]", seen)


def _webhook(webhook: Json) -> Iterator[Cause]:
    path = "spec.conversion.webhook"
    if not webhook.get("clientConfig"):
        yield f.required(f"{path}.clientConfig", "required when strategy is set to Webhook")
    else:
        yield from client_config(webhook["clientConfig"], f"{path}.clientConfig")
    versions = webhook.get("conversionReviewVersions") or ()
    if not versions:
        yield f.required(f"{path}.conversionReviewVersions")
    elif "v1" not in versions:
        why = "must include v1: reviews are sent in no other version"
        yield f.invalid(f"{path}.conversionReviewVersions", list(versions), why)


def _version(version: Json, path: str, seen: set[str]) -> Iterator[Cause]:
    name = version.get("name") or ""
    if not _VERSION.fullmatch(name):
        yield f.invalid(f"{path}.name", name, "a DNS-1035 label must start with a letter, such as v1")
    if name in seen:
        yield f.invalid("spec.versions", name, "must contain unique version names")
    seen.add(name)
    where = f"{path}.schema.openAPIV3Schema"
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if not isinstance(schema, dict):
        yield f.required(where, "schemas are required")
        return
    if schema.get("type") != "object":
        yield f.invalid(f"{where}.type", schema.get("type", ""), "must be object at the root")
    problems = list(_structural(schema, where, 0))
    yield from problems
    if not problems:
        try:
            compile_schema(schema)
        except ValueError as error:
            yield f.invalid(where, "schema", str(error))
            return
        yield from _defaults(schema, where)
        yield from _selectable(version.get("selectableFields") or (), schema, path)


def _defaults(schema: Json, path: str) -> Iterator[Cause]:
    """Defaults that the schema itself would refuse."""
    if "default" in schema:
        alone = CustomSchema({"type": "object", "properties": {"default": {**schema, "default": None}}})
        for cause in alone.causes({"default": schema["default"]}):
            yield replace(cause, field=f"{path}.{cause.field}")
    for name, inner in (schema.get("properties") or {}).items():
        yield from _defaults(inner, f"{path}.properties[{name}]")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _defaults(schema[key], f"{path}.{key}")


def _selectable(fields: Iterable[Json], schema: Json, path: str) -> Iterator[Cause]:
    seen: set[str] = set()
    for i, field in enumerate(fields):
        text, where = str(field.get("jsonPath") or ""), f"{path}.selectableFields[{i}].jsonPath"
        found: Json | None = schema if text.startswith(".") else None
        for part in text[1:].split("."):
            found = ((found or {}).get("properties") or {}).get(part)
        if text.startswith(".metadata"):
            yield f.invalid(where, text, "must not point to fields in metadata")
        elif found is None or found.get("type") not in {"string", "integer", "boolean"}:
            yield f.invalid(where, text, "is an invalid path: it must name a string, integer or boolean of the schema")
        if text in seen:
            yield f.duplicate(where, text)
        seen.add(text)
    if len(seen) > _SELECTABLE:
        why = f"may have at most {_SELECTABLE} fields"
        yield f.invalid(f"{path}.selectableFields", len(seen), why)


def _structural(schema: Json, path: str, depth: int, loose: str = "") -> Iterator[Cause]:
    """`loose` is the list above whose elements cannot be told from each other between an old and a new object."""
    if depth > _DEPTH:
        yield f.invalid(path, "schema", f"is nested deeper than {_DEPTH} levels")
        return
    if "$ref" in schema:
        yield f.forbidden(f"{path}.$ref", "$ref is not supported")
        return
    for key in ("anyOf", "oneOf", "not", "allOf"):
        found = schema.get(key)
        parts = found if isinstance(found, list) else [found]
        if any(isinstance(p, dict) and _has_rules(p, here=key != "allOf") for p in parts):
            yield f.forbidden(f"{path}.{key}", f"{_RULES} may stand at the schema itself, or at the top of its allOf")
    if schema.get(_RULES) or any(isinstance(p, dict) and p.get(_RULES) for p in schema.get("allOf") or ()):
        from headrace.apiserver.schema.validations import check_rules  # noqa: PLC0415 - few definitions have rules

        yield from check_rules(schema, path, root=not depth, uncorrelated=loose)
    if not schema.get("type") and not schema.get(INT_OR_STRING) and not schema.get(PRESERVE) and depth:
        yield f.required(f"{path}.type", "must not be empty for specified object fields")
    for name, inner in (schema.get("properties") or {}).items():
        if isinstance(inner, dict):
            yield from _structural(inner, f"{path}.properties[{name}]", depth + 1, loose)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            keyless = key == "items" and schema.get("x-kubernetes-list-type") != "map"
            yield from _structural(schema[key], f"{path}.{key}", depth + 1, loose or (path if keyless else ""))
    if schema.get(PRESERVE) is False:
        yield f.invalid(f"{path}.{PRESERVE}", False, "must be true or undefined")
    if schema.get(INT_OR_STRING) and schema.get("type"):
        yield f.forbidden(f"{path}.type", f"must be empty if {INT_OR_STRING} is true")
    if schema.get(EMBEDDED):
        if schema.get("type") != "object":
            yield f.invalid(f"{path}.type", schema.get("type", ""), f"must be object if {EMBEDDED} is true")
        if not schema.get("properties") and not schema.get(PRESERVE):
            yield f.required(f"{path}.properties", f"must not be empty if {EMBEDDED} is true without {PRESERVE}")
    if schema.get("properties") and isinstance(schema.get("additionalProperties"), dict):
        yield f.forbidden(f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive")
    if schema.get("type") == "array" and not isinstance(schema.get("items"), dict) and not schema.get(PRESERVE):
        yield f.required(f"{path}.items", "must be specified")


def _has_rules(schema: Json, *, here: bool) -> bool:
    """Whether there are rules below a part of a schema (or at it) where nobody would run them."""
    if here and schema.get(_RULES):
        return True
    below = [*(schema.get("properties") or {}).values(), schema.get("items"), schema.get("additionalProperties")]
    below += [
        *(schema.get("allOf") or ()),
        *(schema.get("anyOf") or ()),
        *(schema.get("oneOf") or ()),
        schema.get("not"),
    ]
    return any(isinstance(s, dict) and _has_rules(s, here=True) for s in below)


def causes_of_update(new: Json, old: Json) -> Iterator[Cause]:
    """What may not change once a kind is served."""
    before, after = old.get("spec") or {}, new.get("spec") or {}
    for key in ("group", "scope"):
        if before.get(key) != after.get(key):
            yield f.immutable(f"spec.{key}", after.get(key))
    for key in ("plural", "kind"):
        if (before.get("names") or {}).get(key) != (after.get("names") or {}).get(key):
            yield f.immutable(f"spec.names.{key}", (after.get("names") or {}).get(key))
    offered = {v.get("name") for v in after.get("versions") or ()}
    for name in (old.get("status") or {}).get("storedVersions") or ():
        if name not in offered:
            yield f.invalid(
                "status.storedVersions[0]",
                name,
                f"missing from spec.versions; {name} was previously a storage version, and must remain there until "
                f"no data is stored in {name} and {name} is removed from status.storedVersions",
            )


def status(obj: Json, taken: str, now: dt.datetime) -> Json:
    """The status of a definition whose names are free, or `taken` by the definition of that name."""
    spec, before = obj["spec"], obj.get("status") or {}
    storage = next(v["name"] for v in spec["versions"] if v.get("storage"))
    stored = list(before.get("storedVersions") or ())
    if taken:
        names = ("False", "KindConflict", f'the names are already in use by "{taken}"')
        established = ("False", "NotAccepted", "not all names are accepted")
    else:
        names = ("True", "NoConflicts", "no conflicts found")
        established = ("True", "InitialNamesAccepted", "the initial names have been accepted")
    conditions = [
        *_condition(before, "NamesAccepted", names, now),
        *_condition(before, "Established", established, now),
        *(c for c in before.get("conditions") or () if c["type"] not in ("NamesAccepted", "Established")),
    ]
    return {
        **before,
        "conditions": conditions,
        "acceptedNames": dict(spec["names"]) if not taken else before.get("acceptedNames", {"plural": "", "kind": ""}),
        "storedVersions": stored if storage in stored else [*stored, storage],
    }


def _condition(before: Json, kind: str, what: tuple[str, str, str], now: dt.datetime) -> list[Json]:
    word, reason, message = what
    old = next((c for c in before.get("conditions") or () if c["type"] == kind), None)
    moved = timestamp(now) if old is None or old["status"] != word else old["lastTransitionTime"]
    return [{"type": kind, "status": word, "lastTransitionTime": moved, "reason": reason, "message": message}]
